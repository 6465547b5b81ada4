//! The store in a SQLite file. One connection writes, so nothing needs a lock of its own.

mod analytics;
mod broadcasts;
mod bulk;
mod catalog;
mod digests;
mod domain_events;
mod endpoints;
mod keys;
mod ladder;
mod mailbox;
mod notifications;
mod outbox;
mod outside;
mod plan;
#[cfg(feature = "planted-bugs")]
mod planted;
mod policy;
mod reach;
mod rules;
mod schedules;
mod sources;
mod topics;
mod upkeep;
mod why;
mod withdrawals;
mod write;

use std::collections::HashMap;

use async_trait::async_trait;
use carillon_domain::{
    ChannelKind, Counts, DeviceName, EntryId, Epoch, LoggedChange, NotificationId, NotificationState,
    Position, Publication, TenantId, Timestamp, TopicName, UserId, ports::Since,
};
use carillon_sql::{Remembered, Sqlite, StoreError};

use super::{Fingerprints, Store, records::*, withdrawals::Recallable};

/// The store in a SQLite file.
pub(super) struct SqliteStore {
    sqlite: Sqlite,
    limits: StoreLimits,
    prints: Fingerprints,
    /// The life of this store; mailboxes' epochs come from it.
    epoch: String,
    /// When the next climb and digest are due, and the next notification is over: these are looked at all the time.
    next_climb: Remembered<Option<Timestamp>>,
    next_digest: Remembered<Option<Timestamp>>,
    next_end: Remembered<Option<Timestamp>>,
}

impl SqliteStore {
    pub(super) async fn open(
        sqlite: Sqlite,
        limits: StoreLimits,
        prints: Fingerprints,
    ) -> Result<Self, StoreError> {
        let mut tx = sqlite
            .begin_system("the store's own life belongs to no tenant")
            .await?;
        sqlx::query("INSERT INTO meta (tenant, name, value) VALUES ('', 'epoch', $1) ON CONFLICT DO NOTHING")
            .bind(Epoch::random().as_str())
            .execute(&mut *tx)
            .await?;
        let (epoch,): (String,) =
            sqlx::query_as("SELECT value FROM meta WHERE tenant = '' AND name = 'epoch'")
                .fetch_one(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok(Self {
            sqlite,
            limits,
            prints,
            epoch,
            next_climb: Remembered::default(),
            next_digest: Remembered::default(),
            next_end: Remembered::default(),
        })
    }

    /// The earliest of some times, which a statement without values reads; asked once for each change of the file.
    async fn first(
        &self,
        known: &Remembered<Option<Timestamp>>,
        statement: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let read = async {
            let mut read = self
                .sqlite
                .read_system("the dispatcher serves all tenants")
                .await?;
            let (first,): (Option<i64>,) = sqlx::query_as(statement).fetch_one(&mut *read).await?;
            Ok(first.map(Timestamp::from_micros))
        };
        known.read(&self.sqlite, read).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept(
        &self,
        now: Timestamp,
        requests: &[AcceptRequest],
        leased: Option<Timestamp>,
    ) -> Result<Vec<AcceptReply>, StoreError> {
        Self::accept(self, now, requests, leased).await
    }

    async fn release_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        Self::release_leases(self, now).await
    }

    async fn lease_outbox(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        Self::lease_outbox(self, now, limit, until).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Self::next_due(self).await
    }

    async fn postpone(
        &self,
        now: Timestamp,
        lease: &Lease,
        until: Timestamp,
    ) -> Result<Option<NotificationState>, StoreError> {
        Self::postpone(self, now, lease, until).await
    }

    async fn load(&self, ids: &[(TenantId, NotificationId)], most: usize) -> Result<Loaded, StoreError> {
        Self::load(self, ids, most).await
    }

    async fn plan(
        &self,
        now: Timestamp,
        jobs: &[PlanJob],
    ) -> Result<Committed<Vec<PlanOutcome>>, StoreError> {
        Self::plan(self, now, jobs).await
    }

    async fn cancel(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: NotificationId,
        recallable: &[ChannelKind],
    ) -> Result<Committed<Cancelled>, StoreError> {
        Self::cancel(self, now, tenant, id, recallable).await
    }

    async fn mutate(
        &self,
        now: Timestamp,
        commands: &[MailboxCommand],
        recallable: &Recallable,
    ) -> Result<Committed<Vec<MailboxReply>>, StoreError> {
        Self::mutate(self, now, commands, recallable).await
    }

    async fn due_snoozes(&self, now: Timestamp, limit: usize) -> Result<Vec<MailboxCommand>, StoreError> {
        Self::due_snoozes(self, now, limit).await
    }

    async fn next_snooze(&self) -> Result<Option<Timestamp>, StoreError> {
        Self::next_snooze(self).await
    }

    async fn outdated_entries(
        &self,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<MailboxCommand>, StoreError> {
        Self::outdated_entries(self, cutoff, limit).await
    }

    async fn mailbox(&self, tenant: &TenantId, user: UserId) -> Result<(Position, Counts), StoreError> {
        Self::mailbox(self, tenant, user).await
    }

    async fn entries(
        &self,
        tenant: &TenantId,
        user: UserId,
        query: &EntryQuery,
    ) -> Result<Vec<EntryRow>, StoreError> {
        Self::entries(self, tenant, user, query).await
    }

    async fn entry(
        &self,
        tenant: &TenantId,
        user: UserId,
        id: EntryId,
    ) -> Result<Option<EntryRow>, StoreError> {
        Self::entry(self, tenant, user, id).await
    }

    async fn contents(
        &self,
        tenant: &TenantId,
        user: UserId,
        which: &[Which],
    ) -> Result<HashMap<Which, String>, StoreError> {
        Self::contents(self, tenant, user, which).await
    }

    async fn since(
        &self,
        tenant: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, StoreError> {
        Self::since(self, tenant, user, from, limit).await
    }

    async fn confirmed(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, StoreError> {
        Self::confirmed(self, tenant, user, device).await
    }

    async fn publish(
        &self,
        now: Timestamp,
        publications: &[TopicAppend],
    ) -> Result<Committed<Vec<Position>>, StoreError> {
        Self::publish(self, now, publications).await
    }

    async fn topic_head(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        topic: &TopicName,
    ) -> Result<Position, StoreError> {
        Self::topic_head(self, now, tenant, topic).await
    }

    async fn topic_since(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Since<Publication>, StoreError> {
        Self::topic_since(self, tenant, topic, from, limit).await
    }

    async fn notification(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationRow>, StoreError> {
        Self::notification(self, tenant, id).await
    }

    async fn recipients(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<RecipientDetail>, StoreError> {
        Self::recipients(self, tenant, id, after, limit).await
    }

    async fn notifications(
        &self,
        tenant: &TenantId,
        query: &NotificationQuery,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        Self::notifications(self, tenant, query).await
    }

    async fn erase(&self, now: Timestamp, erasure: &Erasure) -> Result<(), StoreError> {
        Self::erase(self, now, erasure).await
    }

    async fn sweep(&self, sweep: Sweep, cutoff: Timestamp, limit: usize) -> Result<u64, StoreError> {
        Self::sweep(self, sweep, cutoff, limit).await
    }

    async fn tally(&self, now: Timestamp) -> Result<Tally, StoreError> {
        Self::tally(self, now).await
    }

    fn is_serial(&self) -> bool {
        true
    }
}
