//! Configuration: how it is written, where it comes from, and what is wrong with it.
//!
//! Each crate keeps its section beside the code that it configures; the composition root puts the sections into one
//! struct. [`load`] reads that struct from its sources, of which the later ones win: defaults, a TOML file,
//! environment variables, flags. Everything that a section can say about itself (keys, types, defaults, comments) is
//! taken from its types: [`document`] and [`reference_toml`] write it down.

mod document;
mod environment;
mod load;
mod secret;
mod shape;
mod units;

pub use document::{document, print, reference_toml};
pub use load::{ConfigError, Flag, Loaded, Origin, Sources, load};
pub use secret::{Secret, redacted, redacted_option};
pub use units::{ByteSize, Span};

#[cfg(test)]
mod tests;
