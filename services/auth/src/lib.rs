//! Who may come in: API keys, users' tokens, tickets for `EventSource`, and revocations.
//!
//! [`Auth`] is the one door: it implements the ports `Authenticate` and `Erase`, serves the routes of identity and
//! runs one worker (rotation, cleaning up, learning what other processes revoked).
//!
//! **Invariants**
//! - The request's path chooses the tenant, the tenant chooses the keys, and the key chooses the algorithm. Nothing
//!   that a token says about itself does, beyond picking one of that tenant's keys by its id.
//! - Our own issuer signs with Ed25519 and only with it; a tenant's shared secret verifies HS256 and only that.
//! - Secrets are stored as SHA-256 of at least 128 random bits, or wrapped by the [`MasterKey`].
//! - Every error denies.

mod api_key;
mod authenticate;
mod config;
mod digest;
mod erase;
mod key_cache;
mod master_key;
mod refusal;
mod revocation;
mod routes;
mod seal;
mod service;
mod session;
mod signing;
mod store;
mod ticket;
mod token;
mod worker;

#[cfg(test)]
mod tests;

pub use api_key::CreateKeyError;
pub use config::{AuthConfig, TenantAuthConfig};
pub use master_key::{MasterKey, MasterKeyError};
pub use service::{Auth, AuthPorts, OpenError};
pub use token::{MintError, MintRequest, Minted};

use carillon_sql::{Database, MigrationText, StoreError};

const MIGRATIONS: &[MigrationText] = &[MigrationText {
    version: 1,
    description: "identity",
    sqlite: include_str!("../migrations/sqlite/001_identity.sql"),
    postgres: include_str!("../migrations/postgres/001_identity.sql"),
}];

/// Brings the schema up to date; [`Auth::open`] does it as well.
///
/// # Errors
/// When a step fails.
pub async fn migrate(database: &Database) -> Result<(), StoreError> {
    carillon_sql::migrate(database, MIGRATIONS).await
}
