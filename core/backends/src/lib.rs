//! The ports' implementations.
