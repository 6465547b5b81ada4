//! Everything durable. One method is one transaction, with the outbox rows inside it; hot methods take batches.
//!
//! `sqlite/` and `postgres/` stand side by side, method by method; what they write is worked out in `ledger`, `plan`
//! and `apply` from the rows that they locked, so that both decide alike. `conformance` runs over both.

pub(crate) mod analytics;
mod apply;
pub(crate) mod broadcasts;
pub(crate) mod catalog;
#[cfg(test)]
mod conformance;
pub(crate) mod digests;
pub(crate) mod domain_events;
pub(crate) mod endpoints;
mod fingerprint;
pub(crate) mod ladder;
mod ledger;
mod listeners;
pub(crate) mod outside;
mod plan;
pub(crate) mod policy;
mod postgres;
pub(crate) mod reach;
mod records;
mod rows;
pub(crate) mod rules;
pub(crate) mod schedules;
mod sources;
mod sqlite;
pub(crate) mod why;
pub(crate) mod withdrawals;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use carillon_domain::{
    ChannelKind, Counts, DeviceName, EntryId, LoggedChange, NotificationId, NotificationState, Position,
    Publication, TenantId, Timestamp, TopicName, UserId, ports::Since,
};
use carillon_sql::{Database, MigrationText, StoreError};

pub(crate) use analytics::AnalyticsStore;
pub(crate) use broadcasts::BroadcastStore;
pub(crate) use catalog::CatalogStore;
pub(crate) use digests::DigestStore;
pub(crate) use domain_events::DomainEventStore;
pub(crate) use endpoints::EndpointStore;
pub(crate) use fingerprint::Fingerprints;
pub(crate) use ladder::LadderStore;
pub(crate) use ledger::publication;
pub(crate) use outside::{OutsideStore, RemoteStore};
pub(crate) use policy::PolicyStore;
pub(crate) use reach::ReachStore;
pub(crate) use records::*;
pub(crate) use rules::RuleStore;
pub(crate) use schedules::ScheduleStore;
pub(crate) use sources::{PutSource, SourceRow, SourceStore, SourceWrite};
pub(crate) use why::WhyStore;
pub(crate) use withdrawals::WithdrawalStore;

/// The schema's steps.
pub(crate) const MIGRATIONS: &[MigrationText] = &[
    MigrationText {
        version: 1,
        description: "notifications, mailboxes and topics",
        sqlite: include_str!("../../migrations/sqlite/001_notifications.sql"),
        postgres: include_str!("../../migrations/postgres/001_notifications.sql"),
    },
    MigrationText {
        version: 2,
        description: "channels outside the inbox",
        sqlite: include_str!("../../migrations/sqlite/002_outside.sql"),
        postgres: include_str!("../../migrations/postgres/002_outside.sql"),
    },
    MigrationText {
        version: 3,
        description: "plans, preferences and what is due",
        sqlite: include_str!("../../migrations/sqlite/003_policy.sql"),
        postgres: include_str!("../../migrations/postgres/003_policy.sql"),
    },
    MigrationText {
        version: 4,
        description: "domain events and rules",
        sqlite: include_str!("../../migrations/sqlite/004_rules.sql"),
        postgres: include_str!("../../migrations/postgres/004_rules.sql"),
    },
    MigrationText {
        version: 5,
        description: "schedules",
        sqlite: include_str!("../../migrations/sqlite/005_schedules.sql"),
        postgres: include_str!("../../migrations/postgres/005_schedules.sql"),
    },
    MigrationText {
        version: 6,
        description: "receipts of devices, and how well addresses are reached",
        sqlite: include_str!("../../migrations/sqlite/006_receipts.sql"),
        postgres: include_str!("../../migrations/postgres/006_receipts.sql"),
    },
    MigrationText {
        version: 7,
        description: "digests",
        sqlite: include_str!("../../migrations/sqlite/007_digests.sql"),
        postgres: include_str!("../../migrations/postgres/007_digests.sql"),
    },
];

/// The dispatcher's durable state.
#[async_trait]
pub(crate) trait Store:
    OutsideStore
    + RemoteStore
    + SourceStore
    + EndpointStore
    + CatalogStore
    + PolicyStore
    + LadderStore
    + DigestStore
    + WithdrawalStore
    + RuleStore
    + DomainEventStore
    + ScheduleStore
    + BroadcastStore
    + WhyStore
    + AnalyticsStore
    + ReachStore
{
    /// Commits notifications with their outbox rows and idempotency keys. With `leased`, those whose time has come are
    /// leased until then at once, with the token 1. Answers one reply per request.
    async fn accept(
        &self,
        now: Timestamp,
        requests: &[AcceptRequest],
        leased: Option<Timestamp>,
    ) -> Result<Vec<AcceptReply>, StoreError>;

    /// Makes what a dead process had leased due again. Only where one process owns the store; elsewhere leases end by
    /// themselves.
    async fn release_leases(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Hands out what is due, the longest due first, until `until`.
    async fn lease_outbox(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When the next outbox row is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Keeps a leased row from coming back before `until`; when the notification's time to live is over, it ends instead:
    /// expired, or planned where a part of it was sent. Endpoints are told. Answers the end.
    async fn postpone(
        &self,
        now: Timestamp,
        lease: &Lease,
        until: Timestamp,
    ) -> Result<Option<NotificationState>, StoreError>;

    /// The notifications that still exist, as many as have up to `most` bytes together, and one at least where `most` is
    /// not 0.
    async fn load(&self, ids: &[(TenantId, NotificationId)], most: usize) -> Result<Loaded, StoreError>;

    /// Plans jobs in their order. Answers one outcome per job.
    async fn plan(&self, now: Timestamp, jobs: &[PlanJob])
    -> Result<Committed<Vec<PlanOutcome>>, StoreError>;

    /// Withdraws a notification: never sent if not planned, recalled where still open, and from channels that can.
    async fn cancel(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: NotificationId,
        recallable: &[ChannelKind],
    ) -> Result<Committed<Cancelled>, StoreError>;

    /// Carries out commands in their order. Who answers is sent nothing more, and what other devices show is taken back
    /// where a channel can. Answers one reply per command.
    async fn mutate(
        &self,
        now: Timestamp,
        commands: &[MailboxCommand],
        recallable: &withdrawals::Recallable,
    ) -> Result<Committed<Vec<MailboxReply>>, StoreError>;

    /// Commands that wake up to `limit` snoozed entries whose time has come.
    async fn due_snoozes(&self, now: Timestamp, limit: usize) -> Result<Vec<MailboxCommand>, StoreError>;

    /// When the next snoozed entry comes back.
    async fn next_snooze(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Commands that forget up to `limit` entries that arrived before `cutoff`.
    async fn outdated_entries(
        &self,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<MailboxCommand>, StoreError>;

    /// A mailbox's position and counts.
    async fn mailbox(&self, tenant: &TenantId, user: UserId) -> Result<(Position, Counts), StoreError>;

    /// Entries, newest first.
    async fn entries(
        &self,
        tenant: &TenantId,
        user: UserId,
        query: &EntryQuery,
    ) -> Result<Vec<EntryRow>, StoreError>;

    /// One entry that is neither deleted nor recalled.
    async fn entry(
        &self,
        tenant: &TenantId,
        user: UserId,
        id: EntryId,
    ) -> Result<Option<EntryRow>, StoreError>;

    /// What the user's entries and notifications say, JSON, as far as they exist and are not deleted or recalled.
    async fn contents(
        &self,
        tenant: &TenantId,
        user: UserId,
        which: &[Which],
    ) -> Result<HashMap<Which, String>, StoreError>;

    /// As [`carillon_domain::ports::Inbox::since`].
    async fn since(
        &self,
        tenant: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, StoreError>;

    /// As [`carillon_domain::ports::Inbox::confirmed`].
    async fn confirmed(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, StoreError>;

    /// Appends to topics' histories in order. Answers one position per publication.
    async fn publish(
        &self,
        now: Timestamp,
        publications: &[TopicAppend],
    ) -> Result<Committed<Vec<Position>>, StoreError>;

    /// A topic's newest position; makes the topic when it is new, so that its epoch stays.
    async fn topic_head(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        topic: &TopicName,
    ) -> Result<Position, StoreError>;

    /// As [`carillon_domain::ports::Topics::since`].
    async fn topic_since(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Since<Publication>, StoreError>;

    /// One notification.
    async fn notification(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationRow>, StoreError>;

    /// A notification's recipients by their ids.
    async fn recipients(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<RecipientDetail>, StoreError>;

    /// Notifications, newest first.
    async fn notifications(
        &self,
        tenant: &TenantId,
        query: &NotificationQuery,
    ) -> Result<Vec<NotificationRow>, StoreError>;

    /// Removes everything that names or describes a user.
    async fn erase(&self, now: Timestamp, erasure: &Erasure) -> Result<(), StoreError>;

    /// Removes up to about `limit` rows that are older than `cutoff`; answers how many.
    async fn sweep(&self, sweep: Sweep, cutoff: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Counts notifications by state.
    async fn tally(&self, now: Timestamp) -> Result<Tally, StoreError>;

    /// Whether all writes go through one connection, so that commits have an order that others can follow.
    fn is_serial(&self) -> bool;
}

/// Brings the schema up to date and opens the store.
pub(crate) async fn open(
    database: Database,
    limits: StoreLimits,
    prints: Fingerprints,
) -> Result<Arc<dyn Store>, StoreError> {
    carillon_sql::migrate(&database, MIGRATIONS).await?;
    Ok(match database {
        Database::Sqlite(sqlite) => Arc::new(sqlite::SqliteStore::open(sqlite, limits, prints).await?),
        Database::Postgres(postgres) => {
            Arc::new(postgres::PostgresStore::open(postgres, limits, prints).await?)
        }
    })
}
