//! The ports' implementations, and the one place that knows backends by their URL schemes.

pub mod embedded;
mod open;

pub use open::{BackendUrls, Backends, OpenError, StoreSettings};
