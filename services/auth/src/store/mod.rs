//! What is kept of identity. Each method is one transaction.

mod postgres;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{KeyId, Scope, TenantId, Timestamp, UserId};
use carillon_sql::{Database, StoreError};

use crate::digest::{Digest, Revocable};

/// How many rows one step of cleaning up removes from a table: it holds the writer only briefly.
pub(crate) const PURGE_BATCH: i64 = 1_000;

/// Whose an API key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyOwner {
    /// A tenant's.
    Tenant(TenantId),
    /// The operator's: a worker's that serves every tenant. Stored under the empty name, which no tenant can have.
    AllTenants,
}

impl KeyOwner {
    /// As stored.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::AllTenants => "",
        }
    }
}

/// Why keys are read and written across tenants.
const WORKER_KEYS: &str = "keys of workers that serve every tenant belong to none";

/// An API key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) name: String,
    /// SHA-256 of the whole key.
    pub(crate) digest: Digest,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// A signing key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningKeyRecord {
    pub(crate) tenant: TenantId,
    /// 1, 2, 3, ... within the tenant: two processes cannot both make the next one.
    pub(crate) generation: i64,
    pub(crate) kid: String,
    pub(crate) public: Vec<u8>,
    /// The private half, wrapped.
    pub(crate) wrapped: Vec<u8>,
    /// The id of the master key that wrapped it.
    pub(crate) master_key: String,
    pub(crate) active_from: Timestamp,
    pub(crate) created_at: Timestamp,
}

/// A ticket or a stream cookie as stored, by the digest of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) digest: Digest,
    pub(crate) user: UserId,
    /// A [`crate::session::Session`] as JSON.
    pub(crate) session: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// Everything of a user's, or one token, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevocationRecord {
    pub(crate) what: Revocable,
    pub(crate) revoked_at: Timestamp,
    /// When no token that it covers can be valid any more.
    pub(crate) expires_at: Timestamp,
}

#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// Makes the tenant unless it exists.
    async fn ensure_tenant(&self, tenant: &TenantId, now: Timestamp) -> Result<(), StoreError>;

    async fn tenant_exists(&self, tenant: &TenantId) -> Result<bool, StoreError>;

    /// Makes a key, and its tenant on first mention; `false` when the owner has `limit` live keys already.
    async fn create_key(&self, owner: &KeyOwner, key: &KeyRecord, limit: i64) -> Result<bool, StoreError>;

    async fn key(&self, owner: &KeyOwner, id: KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Keys by id, which is by age, after `after`.
    async fn keys(
        &self,
        owner: &KeyOwner,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError>;

    /// `false` when there is no such key. A key that was revoked before keeps its time.
    async fn revoke_key(&self, owner: &KeyOwner, id: KeyId, now: Timestamp) -> Result<bool, StoreError>;

    /// Writes down when keys were last used.
    async fn touch_keys(&self, used: &[(KeyOwner, KeyId, Timestamp)]) -> Result<(), StoreError>;

    /// Keys that were revoked at `since` or later, of all tenants.
    async fn keys_revoked_since(&self, since: Timestamp) -> Result<Vec<KeyId>, StoreError>;

    /// A tenant's signing keys, oldest first.
    async fn signing_keys(&self, tenant: &TenantId) -> Result<Vec<SigningKeyRecord>, StoreError>;

    /// Makes a signing key, and its tenant on first mention; nothing when another process made that generation.
    async fn add_signing_key(&self, key: &SigningKeyRecord) -> Result<(), StoreError>;

    /// Tenants whose newest signing key took over at `before` or earlier.
    async fn signing_keys_older_than(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError>;

    /// At most `limit` signing keys that another master key than `current` wraps.
    async fn wrapped_by_others(&self, current: &str, limit: i64)
    -> Result<Vec<SigningKeyRecord>, StoreError>;

    /// Replaces the wrapping of a signing key, if `previous` still wraps it.
    async fn rewrap(&self, key: &SigningKeyRecord, previous: &str) -> Result<(), StoreError>;

    /// Keeps a ticket whose cookie will live until `cookie_expires_at`; the user's oldest ones beyond `limit` go.
    async fn add_ticket(
        &self,
        tenant: &TenantId,
        ticket: &SessionRecord,
        cookie_expires_at: Timestamp,
        limit: i64,
    ) -> Result<(), StoreError>;

    /// Takes a ticket, which works once, and puts a cookie of the same session in its place.
    async fn trade_ticket(
        &self,
        tenant: &TenantId,
        ticket: &Digest,
        cookie: &Digest,
        now: Timestamp,
        limit: i64,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// Keeps a cookie; the user's oldest ones beyond `limit` go.
    async fn add_cookie(
        &self,
        tenant: &TenantId,
        cookie: &SessionRecord,
        limit: i64,
    ) -> Result<(), StoreError>;

    async fn cookie(&self, tenant: &TenantId, cookie: &Digest) -> Result<Option<SessionRecord>, StoreError>;

    /// Keeps revocations; a later one of the same thing moves the times on.
    async fn revoke(
        &self,
        tenant: &TenantId,
        revocations: &[RevocationRecord],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Revocations that were recorded at `since` or later and still count, of all tenants.
    async fn revocations_since(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RevocationRecord>, StoreError>;

    /// Removes a user's tickets and cookies, and keeps `revocation` unless this erasure did so before.
    async fn erase(
        &self,
        tenant: &TenantId,
        user: UserId,
        revocation: &RevocationRecord,
    ) -> Result<(), StoreError>;

    /// Removes at most [`PURGE_BATCH`] rows of each table whose time is over at `now`: tickets, cookies, revocations;
    /// API keys revoked before `keys_before`; signing keys whose successor took over before `retired_before`.
    /// Answers the largest number of rows that one table gave.
    async fn purge(
        &self,
        now: Timestamp,
        keys_before: Timestamp,
        retired_before: Timestamp,
    ) -> Result<i64, StoreError>;
}

/// The store on an opened and migrated database.
pub(crate) fn on(database: Database) -> Arc<dyn Store> {
    match database {
        Database::Sqlite(sqlite) => Arc::new(sqlite::SqliteStore(sqlite)),
        Database::Postgres(postgres) => Arc::new(postgres::PostgresStore(postgres)),
    }
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    bytes.try_into().map_err(|_| corrupt("a digest"))
}

fn key_id(text: &str) -> Result<KeyId, StoreError> {
    text.parse().map_err(|_| corrupt("an API key's id"))
}

fn tenant_id(text: &str) -> Result<TenantId, StoreError> {
    text.parse().map_err(|_| corrupt("a tenant"))
}

fn scopes_text(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_text).collect::<Vec<_>>().join(" ")
}

/// id, name, digest, scopes, created_at, last_used_at, revoked_at
type KeyRow = (String, String, Vec<u8>, String, i64, Option<i64>, Option<i64>);

fn key_record(row: KeyRow) -> Result<KeyRecord, StoreError> {
    let (id, name, stored, scopes, created_at, last_used_at, revoked_at) = row;
    let scopes = scopes
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>();
    Ok(KeyRecord {
        id: key_id(&id)?,
        name,
        digest: digest(&stored)?,
        scopes: scopes.map_err(|_| corrupt("an API key's scopes"))?,
        created_at: time(created_at),
        last_used_at: last_used_at.map(time),
        revoked_at: revoked_at.map(time),
    })
}

/// tenant, generation, kid, public, wrapped, master_key, active_from, created_at
type SigningKeyRow = (String, i64, String, Vec<u8>, Vec<u8>, String, i64, i64);

fn signing_key_record(row: SigningKeyRow) -> Result<SigningKeyRecord, StoreError> {
    let (tenant, generation, kid, public, wrapped, master_key, active_from, created_at) = row;
    Ok(SigningKeyRecord {
        tenant: tenant_id(&tenant)?,
        generation,
        kid,
        public,
        wrapped,
        master_key,
        active_from: time(active_from),
        created_at: time(created_at),
    })
}

/// digest, user_id, session, created_at, expires_at
type SessionRow = (Vec<u8>, String, String, i64, i64);

fn session_record(row: SessionRow) -> Result<SessionRecord, StoreError> {
    let (stored, user, session, created_at, expires_at) = row;
    Ok(SessionRecord {
        digest: digest(&stored)?,
        user: user.parse().map_err(|_| corrupt("a user's id"))?,
        session,
        created_at: time(created_at),
        expires_at: time(expires_at),
    })
}

/// digest, revoked_at, expires_at
type RevocationRow = (Vec<u8>, i64, i64);

fn revocation_record(row: RevocationRow) -> Result<RevocationRecord, StoreError> {
    let (what, revoked_at, expires_at) = row;
    Ok(RevocationRecord {
        what: Revocable::from_stored(&what).ok_or_else(|| corrupt("a revocation's digest"))?,
        revoked_at: time(revoked_at),
        expires_at: time(expires_at),
    })
}
