//! Configuration: how it is written, where it comes from, and what is wrong with it.

mod units;

pub use units::{ByteSize, Span};
