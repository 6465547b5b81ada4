//! Who is who: a tenant's own user ids and our internal ones; users' properties, devices and activity; audiences, by
//! stored subscriptions and by segments; and the erasure of a person.
//!
//! A user exists from the first mention. Keys and subjects everywhere use the internal id, so that erasing a person
//! needs no rewriting: the name is cut off at once, everything under the internal id is removed room by room, and
//! whoever is called the same afterwards is somebody else.
//!
//! **Invariant**: an erasure that was answered with 202 is carried out, whatever crashes in between.

mod activity;
mod attributes;
mod audience;
mod config;
mod device;
mod directory;
mod erasure;
mod filter;
mod ids;
mod locale;
mod profiles;
mod recent;
mod routes;
mod rpc;
mod segments;
mod service;
mod store;
mod subscriptions;
mod suppressed;
mod verification;

#[cfg(test)]
mod tests;

pub use config::UserConfig;
pub use service::{OpenError, UserPorts, Users};

use carillon_sql::{Database, MigrationText, StoreError};

const MIGRATIONS: &[MigrationText] = &[
    MigrationText {
        version: 1,
        description: "users",
        sqlite: include_str!("../migrations/sqlite/001_users.sql"),
        postgres: include_str!("../migrations/postgres/001_users.sql"),
    },
    MigrationText {
        version: 2,
        description: "devices",
        sqlite: include_str!("../migrations/sqlite/002_devices.sql"),
        postgres: include_str!("../migrations/postgres/002_devices.sql"),
    },
    MigrationText {
        version: 3,
        description: "audiences",
        sqlite: include_str!("../migrations/sqlite/003_audiences.sql"),
        postgres: include_str!("../migrations/postgres/003_audiences.sql"),
    },
];

/// Brings the schema up to date; [`Users::open`] does it as well.
///
/// # Errors
/// When a step fails.
pub async fn migrate(database: &Database) -> Result<(), StoreError> {
    carillon_sql::migrate(database, MIGRATIONS).await
}
