//! What tests of several crates share: a clock that stands still, and databases that are theirs alone.

mod clock;
mod database;
mod directory;
mod seal;
mod signing;

pub use clock::FixedClock;
pub use database::{TestDatabase, create_postgres_database};
pub use directory::MemoryDirectory;
pub use seal::OpenSeal;
pub use signing::CountedKeys;
