//! What is kept of users. Each method is one transaction.

mod activity;
mod devices;
mod postgres;
mod segments;
mod sqlite;
mod subscriptions;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{ExternalUserId, TenantId, Timestamp, UserId};
use carillon_sql::{Database, StoreError};
use serde_json::{Map, Value};

pub(crate) use activity::{Active, ActivityStore};
pub(crate) use devices::{DevicePut, DeviceStore, PURGE_BATCH};
pub(crate) use segments::{PersonRecord, Put, SegmentRow, SegmentStore, SegmentWrite};
pub(crate) use subscriptions::SubscriptionStore;

/// How many erasures are taken up at once.
pub(crate) const ERASURE_BATCH: i64 = 16;

/// What an erasure takes with the name, all under the lock of the user's row.
const THEIRS: [&str; 3] = [
    "DELETE FROM devices WHERE tenant = $1 AND user_id = $2",
    "DELETE FROM topic_subscriptions WHERE tenant = $1 AND user_id = $2",
    "DELETE FROM activity WHERE tenant = $1 AND user_id = $2",
];

/// A user under the tenant's own id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub(crate) id: UserId,
    pub(crate) created_at: Timestamp,
    /// BCP 47.
    pub(crate) locale: Option<String>,
    /// An IANA time zone.
    pub(crate) timezone: Option<String>,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) state: UserState,
}

/// Whether somebody is being forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserState {
    /// Known.
    Active,
    /// Being forgotten; the next mention of the name makes somebody else.
    Erasing,
}

/// An erasure to be carried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// 1, and 2 for what was written late.
    pub(crate) pass: i64,
    /// How often this pass was tried, this time included.
    pub(crate) attempts: i64,
}

#[async_trait]
pub(crate) trait Store: DeviceStore + ActivityStore + SubscriptionStore + SegmentStore {
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The internal ids of those of `users` that exist.
    async fn find(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError>;

    /// Makes users under the given ids, unless they exist; answers the ids that they have then.
    async fn make(
        &self,
        tenant: &TenantId,
        users: &[(ExternalUserId, UserId)],
        now: Timestamp,
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError>;

    /// The names of those of `users` that exist or are being erased.
    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, ExternalUserId)>, StoreError>;

    /// What is known of a user: the one who has the name now, else one who is being erased.
    async fn user(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserRecord>, StoreError>;

    /// Cuts the name off and begins the erasure; `false` when nobody has the name and nobody of that name is being
    /// erased.
    async fn begin_erasure(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes up at most [`ERASURE_BATCH`] erasures that are due; others find them due again after `lease`.
    async fn take_erasures(&self, now: Timestamp, lease: Duration) -> Result<Vec<Erasure>, StoreError>;

    /// Puts an erasure off: to its next pass, or to the next attempt of this one.
    async fn put_off_erasure(&self, erasure: &Erasure, due_at: Timestamp) -> Result<(), StoreError>;

    /// Ends an erasure: the last trace of the name goes.
    async fn end_erasure(&self, erasure: &Erasure) -> Result<(), StoreError>;

    /// How many erasures are not through.
    async fn open_erasures(&self) -> Result<i64, StoreError>;
}

/// The store on an opened and migrated database.
pub(crate) fn on(database: Database) -> Arc<dyn Store> {
    match database {
        Database::Sqlite(sqlite) => Arc::new(sqlite::SqliteStore::new(sqlite)),
        Database::Postgres(postgres) => Arc::new(postgres::PostgresStore(postgres)),
    }
}

/// What a list begins behind, as text: nothing sorts before the empty text.
fn behind(after: Option<UserId>) -> String {
    after.map(|user| user.to_string()).unwrap_or_default()
}

/// A number of rows as the databases take it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn user_id(text: &str) -> Result<UserId, StoreError> {
    text.parse().map_err(|_| corrupt("a user's id"))
}

fn external_id(text: &str) -> Result<ExternalUserId, StoreError> {
    text.parse().map_err(|_| corrupt("a user's name"))
}

fn pairs(rows: Vec<(String, String)>) -> Result<Vec<(ExternalUserId, UserId)>, StoreError> {
    rows.iter()
        .map(|(external, id)| Ok((external_id(external)?, user_id(id)?)))
        .collect()
}

fn named(rows: Vec<(String, String)>) -> Result<Vec<(UserId, ExternalUserId)>, StoreError> {
    rows.iter()
        .map(|(id, external)| Ok((user_id(id)?, external_id(external)?)))
        .collect()
}

/// id, created_at, locale, timezone, attributes, whether it is being erased
type UserRow = (String, i64, Option<String>, Option<String>, Option<String>, i64);

fn user_record(
    (id, created_at, locale, timezone, attributes, erasing): UserRow,
) -> Result<UserRecord, StoreError> {
    Ok(UserRecord {
        id: user_id(&id)?,
        created_at: Timestamp::from_micros(created_at),
        locale,
        timezone,
        attributes: devices::attributes(attributes.as_deref())?,
        state: if erasing == 0 {
            UserState::Active
        } else {
            UserState::Erasing
        },
    })
}

/// tenant, user_id, pass, attempts
type ErasureRow = (String, String, i64, i64);

fn erasure(row: &ErasureRow) -> Result<Erasure, StoreError> {
    let (tenant, user, pass, attempts) = row;
    Ok(Erasure {
        tenant: tenant.parse().map_err(|_| corrupt("a tenant"))?,
        user: user_id(user)?,
        pass: *pass,
        attempts: *attempts,
    })
}
