use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use carillon_domain::{ChannelKind, NotificationId, NotificationState, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    PostgresStore,
    column::column,
    digests::{end_digests, live_digests, wake_members},
    outside::{self, listeners},
    plan::mailboxes,
    write::{lock_recipients, write},
};
use crate::events::EventKind;
use crate::store::{
    ledger::{Ledger, NotificationEnd, NotificationEvent, Writes, encode},
    outside::gate,
    records::{Cancelled, Committed, EntryRow, RecipientEnd, UserKey},
    rows::{self, number, word},
    withdrawals::{
        Answered, AnswersOf, Ending, PageRow, Recallable, WithdrawalDetail, WithdrawalKind, WithdrawalLease,
        WithdrawalStore, WithdrawnPage, end_recipients, keys_of, page_rows,
    },
};

/// What ending a page of recipients came to.
struct Page {
    recalled: u64,
    writes: Writes,
}

/// A notification that ends for its recipients.
struct Withdrawn<'a> {
    tenant: &'a TenantId,
    id: NotificationId,
    ending: &'a Ending,
    recallable: &'a Recallable,
}

#[async_trait]
impl WithdrawalStore for PostgresStore {
    async fn lease_withdrawals(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<WithdrawalLease>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("withdrawals are of all tenants")
            .await?;
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE withdrawals w SET lease = w.lease + 1, due_at = $3 FROM \
             (SELECT tenant, notification FROM withdrawals WHERE due_at <= $1 ORDER BY due_at LIMIT $2 \
             FOR UPDATE SKIP LOCKED) d WHERE w.tenant = d.tenant AND w.notification = d.notification \
             RETURNING w.tenant, w.notification, w.lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.into_iter()
            .map(|(tenant, notification, token)| {
                Ok(WithdrawalLease {
                    tenant: word(&tenant)?,
                    notification: word(&notification)?,
                    token,
                })
            })
            .collect()
    }

    async fn withdraw_page(
        &self,
        now: Timestamp,
        lease: &WithdrawalLease,
    ) -> Result<Committed<WithdrawnPage>, StoreError> {
        self.anew(|| self.next_page(now, lease)).await
    }

    async fn next_withdrawal(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self
            .postgres
            .read_system("withdrawals are of all tenants")
            .await?;
        let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM withdrawals")
            .fetch_one(&mut *read)
            .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn withdrawal(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<WithdrawalDetail, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: Option<(Option<String>, Option<i64>, Option<String>)> = sqlx::query_as(
            "SELECT w.kind, w.at, n.answered FROM notifications n LEFT JOIN withdrawals w \
             ON w.tenant = n.tenant AND w.notification = n.id WHERE n.tenant = $1 AND n.id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *read)
        .await?;
        let Some((kind, at, answered)) = row else {
            return Ok(WithdrawalDetail::default());
        };
        let running = kind
            .as_deref()
            .and_then(WithdrawalKind::from_stored)
            .zip(at.map(Timestamp::from_micros));
        let open = if running.is_some() {
            let (open,): (i64,) = sqlx::query_as(
                "SELECT COUNT(*) FROM recipients WHERE tenant = $1 AND notification = $2 AND state = 'open'",
            )
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_one(&mut *read)
            .await?;
            number(open)?
        } else {
            0
        };
        Ok(WithdrawalDetail {
            running,
            answered: answered.as_deref().map(Answered::stored).transpose()?,
            open,
        })
    }
}

impl PostgresStore {
    pub(super) async fn cancel(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: NotificationId,
        recallable: &[ChannelKind],
    ) -> Result<Committed<Cancelled>, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        // What is starting comes to its commit first, and is counted; nothing starts after that.
        outside::close_gates(&mut tx, &BTreeSet::from([gate(&self.epoch, tenant, id)])).await?;
        let row: Option<(String, Option<String>)> = sqlx::query_as(
            "SELECT state, topics FROM notifications WHERE tenant = $1 AND id = $2 FOR UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let done = |value| {
            Ok(Committed {
                value,
                told: false,
                envelopes: Vec::new(),
            })
        };
        let topics = match row {
            None => return done(Cancelled::NotFound),
            Some((state, _)) if state == "expired" => return done(Cancelled::Expired),
            Some((state, _)) if state == "cancelled" => {
                let in_flight = outside::in_flight(&mut tx, now, tenant.as_str(), &id.to_string()).await?;
                return done(Cancelled::Done {
                    recalled: 0,
                    in_flight,
                });
            }
            Some((_, topics)) => topics,
        };
        // The outbox row and the withdrawal are locked before mailboxes are.
        sqlx::query("DELETE FROM outbox WHERE tenant = $1 AND notification = $2")
            .bind(tenant.as_str())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        let mut page = page(&mut tx, tenant, id, "", self.limits.withdrawal_page + 1).await?;
        let many = page.len() > self.limits.withdrawal_page;
        page.truncate(self.limits.withdrawal_page);
        let recallable = Recallable::of(tenant, recallable.to_vec());
        let withdrawn = Withdrawn {
            tenant,
            id,
            ending: &Ending::Cancelled,
            recallable: &recallable,
        };
        if many {
            let last = page.last().map_or_else(String::new, |row| row.user.to_string());
            begin(&mut tx, now, &withdrawn, WithdrawalKind::Cancelled, &last).await?;
        } else {
            end(&mut tx, tenant, id).await?;
        }
        let ended = NotificationEnd {
            tenant: tenant.clone(),
            id,
            state: NotificationState::Cancelled,
            topics,
            plan: None,
        };
        let mut page = self.end_page(&mut tx, now, &withdrawn, page, Some(ended)).await?;
        // Now that nothing of its digests starts either.
        let in_flight = outside::in_flight(&mut tx, now, tenant.as_str(), &id.to_string()).await?;
        wake_members(&mut tx, now, tenant, id).await?;
        tx.commit().await?;
        Ok(Committed {
            value: Cancelled::Done {
                recalled: page.recalled,
                in_flight,
            },
            told: true,
            envelopes: std::mem::take(&mut page.writes.envelopes),
        })
    }

    async fn next_page(
        &self,
        now: Timestamp,
        lease: &WithdrawalLease,
    ) -> Result<Committed<WithdrawnPage>, StoreError> {
        let (tenant, id) = (&lease.tenant, lease.notification);
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let held: Option<(String, String, String, Option<String>)> = sqlx::query_as(
            "SELECT w.kind, w.cursor, w.recallable, n.answered FROM withdrawals w \
             LEFT JOIN notifications n ON n.tenant = w.tenant AND n.id = w.notification \
             WHERE w.tenant = $1 AND w.notification = $2 AND w.lease = $3 FOR UPDATE OF w",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(lease.token)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((kind, cursor, recallable, answered)) = held else {
            return Ok(Committed {
                value: WithdrawnPage::Stale,
                told: false,
                envelopes: Vec::new(),
            });
        };
        let ending = Ending::stored(&kind, answered.as_deref())?;
        let recallable = Recallable::of(tenant, rows::json(&recallable)?);
        let withdrawn = Withdrawn {
            tenant,
            id,
            ending: &ending,
            recallable: &recallable,
        };
        let page = page(&mut tx, tenant, id, &cursor, self.limits.withdrawal_page).await?;
        let count = page.len();
        let value = if count < self.limits.withdrawal_page {
            end(&mut tx, tenant, id).await?;
            WithdrawnPage::Done(count)
        } else {
            let last = page.last().map_or(cursor, |row| row.user.to_string());
            sqlx::query(
                "UPDATE withdrawals SET cursor = $3, due_at = $4 WHERE tenant = $1 AND notification = $2",
            )
            .bind(tenant.as_str())
            .bind(id.to_string())
            .bind(last)
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
            WithdrawnPage::More(count)
        };
        let mut page = self.end_page(&mut tx, now, &withdrawn, page, None).await?;
        tx.commit().await?;
        Ok(Committed {
            value,
            told: true,
            envelopes: std::mem::take(&mut page.writes.envelopes),
        })
    }

    /// Ends a page of recipients; and the notification itself, whoever is told of it, where that is asked for.
    async fn end_page(
        &self,
        tx: &mut PgConnection,
        now: Timestamp,
        withdrawn: &Withdrawn<'_>,
        page: Vec<PageRow>,
        notification: Option<NotificationEnd>,
    ) -> Result<Page, StoreError> {
        let Withdrawn {
            tenant,
            id,
            ending,
            recallable,
        } = *withdrawn;
        let users: HashSet<UserKey> = page
            .iter()
            .filter(|row| row.in_app)
            .map(|row| (tenant.clone(), row.user))
            .collect();
        let mailboxes = mailboxes(tx, &self.epoch, &users).await?;
        let all: Vec<_> = page.iter().map(|row| (tenant.clone(), id, row.user)).collect();
        lock_recipients(tx, &all).await?;
        // As they are now that nobody else can end them.
        let page = of_page(tx, tenant, id, &page).await?;
        let listeners = listeners(tx, std::iter::once(tenant), self.limits.event_ttl).await?;
        let told = if notification.is_some() {
            listeners.lanes(&[EventKind::NotificationCancelled])
        } else {
            BTreeSet::new()
        };
        let keys = keys_of(tenant, id, ending, &page);
        // Digests that may go out no more are locked behind the rest: where that meets another's order, one of the two is
        // broken off and runs anew.
        let digests = live_digests(tx, &keys).await?;
        let own = digests
            .iter()
            .map(|(tenant, digest, _)| (tenant.clone(), *digest));
        lock_answerable(tx, &self.epoch, &own.collect()).await?;
        lock_recipients(tx, &digests).await?;
        let ends: Vec<_> = keys.iter().chain(&digests).cloned().collect();
        let is_outside = outside::hold_ends(tx, now, &ends, recallable, told).await?;
        let entries = shown_entries(tx, tenant, id, &page).await?;
        let mut ledger = Ledger::new(now, self.limits, mailboxes, []);
        ledger.listeners = listeners;
        if let Some(end) = notification {
            ledger.tell(
                tenant,
                EventKind::NotificationCancelled,
                &NotificationEvent { notification_id: id },
            );
            ledger.writes.ended.push(end);
        }
        let recalled = end_recipients(&mut ledger, tenant, id, ending, &page, entries)?;
        let writes = ledger.finish();
        write(tx, now, self.limits.devices, &writes).await?;
        if is_outside {
            let except = HashSet::new();
            outside::end_outside(tx, now, &keys, ending.reason(), recallable, &except).await?;
        }
        end_digests(tx, now, &digests, recallable).await?;
        Ok(Page { recalled, writes })
    }
}

/// Locks notifications where one answer is enough, before anything else is locked, so that nothing of them starts once
/// they are answered.
pub(super) async fn lock_answerable(
    tx: &mut PgConnection,
    store: &str,
    keys: &BTreeSet<(TenantId, NotificationId)>,
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let gates = keys.iter().map(|(tenant, id)| gate(store, tenant, *id)).collect();
    outside::close_gates(tx, &gates).await?;
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN notifications n \
         ON n.tenant = j.tenant AND n.id = j.id ORDER BY n.tenant, n.id FOR UPDATE OF n",
    )
    .bind(column!(keys, (tenant, _) => tenant.as_str()))
    .bind(column!(keys, (_, id) => id.to_string()))
    .fetch_all(tx)
    .await?;
    Ok(())
}

/// Of notifications that are answered those where one answer is enough and none was there before.
pub(super) async fn answerable(
    tx: &mut PgConnection,
    ends: &[RecipientEnd],
) -> Result<BTreeSet<(TenantId, NotificationId)>, StoreError> {
    let keys: BTreeSet<(&TenantId, NotificationId)> =
        ends.iter().map(|end| (&end.tenant, end.notification)).collect();
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT n.tenant, n.id, n.plan FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN notifications n \
         ON n.tenant = j.tenant AND n.id = j.id \
         WHERE n.plan IS NOT NULL AND n.answered IS NULL AND n.state IN ('accepted', 'planned')",
    )
    .bind(column!(keys, (tenant, _) => tenant.as_str()))
    .bind(column!(keys, (_, id) => id.to_string()))
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .filter(|(_, _, plan)| AnswersOf::is_any(plan.as_deref()))
        .map(|(tenant, id, _)| Ok((word(&tenant)?, word(&id)?)))
        .collect()
}

/// Writes who answered for all, and what ends it for the others.
pub(super) async fn answer(
    tx: &mut PgConnection,
    now: Timestamp,
    by: &RecipientEnd,
    answered: &Answered,
    recallable: &Recallable,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE notifications SET answered = $3 WHERE tenant = $1 AND id = $2")
        .bind(by.tenant.as_str())
        .bind(by.notification.to_string())
        .bind(encode(answered)?)
        .execute(&mut *tx)
        .await?;
    let withdrawn = Withdrawn {
        tenant: &by.tenant,
        id: by.notification,
        ending: &Ending::Answered(answered.clone()),
        recallable,
    };
    begin(tx, now, &withdrawn, WithdrawalKind::Answered, "").await
}

/// The next recipients after the cursor.
async fn page(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: NotificationId,
    after: &str,
    limit: usize,
) -> Result<Vec<PageRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT user_id, state, entry FROM recipients \
         WHERE tenant = $1 AND notification = $2 AND user_id > $3 ORDER BY user_id LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(after)
    .bind(limit as i64)
    .fetch_all(tx)
    .await?;
    page_rows(rows)
}

/// The same recipients as they stand now.
async fn of_page(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: NotificationId,
    page: &[PageRow],
) -> Result<Vec<PageRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT user_id, state, entry FROM recipients \
         WHERE tenant = $1 AND notification = $2 AND user_id = ANY($3) ORDER BY user_id",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(column!(page, row => row.user.to_string()))
    .fetch_all(tx)
    .await?;
    page_rows(rows)
}

/// What is left is due now; one that runs begins anew, for another reason.
async fn begin(
    tx: &mut PgConnection,
    now: Timestamp,
    withdrawn: &Withdrawn<'_>,
    kind: WithdrawalKind,
    cursor: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO withdrawals (tenant, notification, kind, cursor, recallable, at, due_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (tenant, notification) DO UPDATE SET kind = excluded.kind, \
         cursor = excluded.cursor, recallable = excluded.recallable, at = excluded.at, due_at = excluded.due_at, \
         lease = withdrawals.lease + 1",
    )
    .bind(withdrawn.tenant.as_str())
    .bind(withdrawn.id.to_string())
    .bind(kind.as_str())
    .bind(cursor)
    .bind(encode(&withdrawn.recallable.channels(withdrawn.tenant).unwrap_or_default())?)
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

async fn end(tx: &mut PgConnection, tenant: &TenantId, id: NotificationId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM withdrawals WHERE tenant = $1 AND notification = $2")
        .bind(tenant.as_str())
        .bind(id.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// The entries that show a notification to these recipients, without their content.
async fn shown_entries(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: NotificationId,
    page: &[PageRow],
) -> Result<Vec<EntryRow>, StoreError> {
    let statement = format!(
        "SELECT {} FROM recipients r JOIN entries e \
         ON e.tenant = r.tenant AND e.user_id = r.user_id AND e.id = r.entry \
         WHERE r.tenant = $1 AND r.notification = $2 AND e.notification = $2 AND r.user_id = ANY($3)",
        rows::ENTRY_STATE
    );
    let found: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(column!(page, row => row.user.to_string()))
        .fetch_all(tx)
        .await?;
    found.into_iter().map(EntryRow::try_from).collect()
}
