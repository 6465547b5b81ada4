//! What tests of several crates share: a clock that stands still, a channel that ends in memory, and databases that are theirs alone.

mod channel;
mod clock;
mod database;
mod directory;
mod invariants;
mod seal;
mod signing;
mod templates;

pub use channel::RecordingChannel;
pub use clock::FixedClock;
pub use database::{TestDatabase, create_postgres_database};
pub use directory::MemoryDirectory;
pub use invariants::StoreChecker;
pub use seal::OpenSeal;
pub use signing::CountedKeys;
pub use templates::PlainTemplates;
