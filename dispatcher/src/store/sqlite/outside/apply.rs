use carillon_domain::{ChannelKind, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::{
    super::{
        SqliteStore,
        bulk::{Bulk, Row},
        keys::json_list,
        ladder::climb_on,
        write::write_receipts,
    },
    lanes::lanes_of_new_work,
    lease::queue_keys,
};
use crate::store::endpoints::EventRow;
use crate::store::outside::{
    self, Brings, Effects, Outcomes, OutsideRow, SuppressionRow, UNREADABLE, Unreadable, WorkRow,
};
use crate::store::records::DeliveryRow;

static INBOX: Bulk = Bulk::new(
    "INSERT INTO deliveries (tenant, notification, user_id, step, channel, address, id, state, created_at) VALUES ",
    9,
    "",
);
static OUTSIDE: Bulk = Bulk::new(
    "INSERT INTO deliveries (tenant, notification, user_id, step, channel, address, id, state, reason, created_at, \
     device, lane, locale, expires_at, provider_id, ended_at, collapse, name) VALUES ",
    18,
    "",
);
static WORK: Bulk = Bulk::new(
    "INSERT INTO delivery_queue (tenant, delivery, channel, lane, strand, ord, operation, due_at, expires_at, \
     earlier, zone) VALUES ",
    11,
    " ON CONFLICT DO NOTHING",
);
static HELD: Bulk = Bulk::new(
    "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
     SELECT d.tenant, d.notification, d.user_id, MAX(v.column3, 1 + COALESCE((SELECT MAX(o.number) FROM decisions o \
     WHERE o.tenant = d.tenant AND o.notification = d.notification AND o.user_id = d.user_id), 0)), v.column4, 'held', \
     d.step, v.column5 FROM (VALUES ",
    5,
    ") AS v CROSS JOIN deliveries d ON d.tenant = v.column1 AND d.id = v.column2 AND d.channel <> 'in_app' \
     WHERE TRUE ON CONFLICT DO NOTHING",
);
static ATTEMPTS: Bulk = Bulk::new(
    "INSERT INTO attempts (tenant, delivery, number, operation, started_at) VALUES ",
    5,
    "",
);
static ATTEMPT_ENDS: Bulk = Bulk::new(
    "UPDATE attempts SET ended_at = v.column4, outcome = v.column5, status = v.column6, reason = v.column7, \
     excerpt = v.column8, next_at = v.column9 FROM (VALUES ",
    9,
    ") AS v WHERE attempts.tenant = v.column1 AND attempts.delivery = v.column2 \
     AND attempts.number = v.column3 AND attempts.outcome IS NULL",
);
static CHANGES: Bulk = Bulk::new(
    "UPDATE deliveries SET state = COALESCE(v.column3, state), \
     reason = CASE WHEN v.column3 IS NULL THEN COALESCE(v.column4, reason) ELSE v.column4 END, \
     outcome = COALESCE(v.column5, outcome), attempts = COALESCE(v.column6, attempts), \
     provider_id = COALESCE(v.column7, provider_id), ended_at = COALESCE(v.column8, ended_at), \
     news = COALESCE(v.column9, news), receipts = COALESCE(v.column10, receipts) FROM (VALUES ",
    10,
    ") AS v WHERE deliveries.tenant = v.column1 AND deliveries.id = v.column2 AND deliveries.channel <> 'in_app'",
);
static EVENTS: Bulk = Bulk::new("INSERT INTO events (tenant, id, kind, body, at) VALUES ", 5, "");
static SUPPRESSIONS: Bulk = Bulk::new(
    "INSERT INTO suppressions (tenant, channel, address, reason, detail, delivery, at) VALUES ",
    7,
    " ON CONFLICT DO NOTHING",
);

impl SqliteStore {
    pub(super) async fn open_work(&self, outside: &[OutsideRow], work: &[WorkRow]) -> Result<(), StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("work of several tenants may follow from one change")
            .await?;
        write_new(&mut tx, outside, work).await?;
        Ok(tx.commit().await?)
    }
}

/// Writes new deliveries, and open work with its lanes.
pub(in crate::store::sqlite) async fn write_new(
    tx: &mut SqliteConnection,
    outside: &[OutsideRow],
    work: &[WorkRow],
) -> Result<(), StoreError> {
    write_deliveries(tx, &[], outside).await?;
    write_work(tx, work).await
}

/// Writes new deliveries; where inboxes and other addresses are among them, in the order of their key, which they share:
/// those of one kind between those of the other would split the table's pages again.
pub(in crate::store::sqlite) async fn write_deliveries(
    tx: &mut SqliteConnection,
    inbox: &[DeliveryRow],
    outside: &[OutsideRow],
) -> Result<(), StoreError> {
    if outside.is_empty() {
        INBOX
            .run(tx, inbox, |columns, row| {
                of_inbox(columns, row).bind(row.created_at)
            })
            .await?;
    } else if inbox.is_empty() {
        OUTSIDE.run(tx, outside, of_outside).await?;
    } else {
        let mut rows: Vec<NewDelivery<'_>> = outside.iter().map(NewDelivery::Outside).collect();
        rows.extend(inbox.iter().map(NewDelivery::Inbox));
        rows.sort_by(|one, other| one.key().cmp(&other.key()));
        OUTSIDE
            .run(tx, &rows, |columns, row| match row {
                NewDelivery::Outside(row) => of_outside(columns, row),
                NewDelivery::Inbox(row) => {
                    let reason = None::<&str>;
                    of_inbox(columns, row)
                        .bind(reason)
                        .bind(row.created_at)
                        .nothing_more()
                }
            })
            .await?;
    }
    Ok(())
}

enum NewDelivery<'a> {
    Inbox(&'a DeliveryRow),
    Outside(&'a OutsideRow),
}

impl NewDelivery<'_> {
    /// The order of the table's key, as far as it matters.
    fn key(&self) -> (&TenantId, Brings, Option<UserId>, u32, &str) {
        match self {
            Self::Inbox(row) => (
                &row.tenant,
                Brings::Notification(row.notification),
                Some(row.user),
                row.step,
                ChannelKind::IN_APP,
            ),
            Self::Outside(row) => (&row.tenant, row.brings, row.user, row.step, row.channel.as_str()),
        }
    }
}

fn of_inbox<'r>(columns: &'r mut Row, row: &DeliveryRow) -> &'r mut Row {
    columns
        .bind(row.tenant.as_str())
        .bind(row.notification)
        .bind(row.user)
        .bind(i64::from(row.step))
        .bind(ChannelKind::IN_APP)
        .bind("inbox")
        .bind(row.id)
        .bind("accepted")
}

fn of_outside<'r>(columns: &'r mut Row, row: &OutsideRow) -> &'r mut Row {
    let ended = (!row.state.waits()).then_some(row.created_at);
    columns.bind(row.tenant.as_str());
    match row.brings {
        Brings::Notification(id) => columns.bind(id),
        Brings::Event(id) => columns.bind(id),
    };
    match row.user {
        Some(user) => columns.bind(user),
        None => columns.bind(""),
    };
    columns
        .bind(i64::from(row.step))
        .bind(row.channel.as_str())
        .bind(row.address.as_str())
        .bind(row.id)
        .bind(row.state.as_str())
        .bind(row.reason.as_deref())
        .bind(row.created_at)
        .bind(row.device)
        .bind(&*row.lane)
        .bind(row.locale.as_deref())
        .bind(row.expires_at)
        .bind(row.provider_id.as_deref())
        .bind(ended)
        .bind(row.collapse.as_deref())
        .bind(row.name.as_ref().map(|name| name.as_str()))
}

/// Writes open work with its lanes.
pub(in crate::store::sqlite) async fn write_work(
    tx: &mut SqliteConnection,
    work: &[WorkRow],
) -> Result<(), StoreError> {
    WORK.run(tx, work, |columns, row| {
        columns
            .bind(row.key.tenant.as_str())
            .bind(row.delivery)
            .bind(row.key.channel.as_str())
            .bind(&*row.key.lane)
            .bind(&*row.key.strand)
            .bind(row.ord)
            .bind(row.operation.as_str())
            .bind(row.due_at)
            .bind(row.expires_at)
            .bind(i64::from(row.earlier))
            .bind(row.zone.as_deref())
    })
    .await?;
    lanes_of_new_work(tx, work).await
}

/// Writes events; their deliveries come as [`write_new`] takes them.
pub(in crate::store::sqlite) async fn write_events(
    tx: &mut SqliteConnection,
    rows: &[EventRow],
) -> Result<(), StoreError> {
    EVENTS
        .run(tx, rows, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.id)
                .bind(row.kind)
                .bind(row.body.as_str())
                .bind(row.at)
        })
        .await?;
    Ok(())
}

/// Writes suppressions that are new.
pub(super) async fn write_suppressions(
    tx: &mut SqliteConnection,
    rows: &[SuppressionRow],
) -> Result<(), StoreError> {
    SUPPRESSIONS
        .run(tx, rows, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.channel.as_str())
                .bind(row.address.as_str())
                .bind(&*row.reason)
                .bind(row.detail.as_deref())
                .bind(row.delivery)
                .bind(row.at)
        })
        .await?;
    Ok(())
}

/// Writes everything but the lanes, which follow from it.
pub(super) async fn apply(
    tx: &mut SqliteConnection,
    now: Timestamp,
    until: Timestamp,
    effects: &Effects,
) -> Result<(), StoreError> {
    if !effects.lost.is_empty() {
        let lost = json_list(
            effects
                .lost
                .iter()
                .map(|((tenant, id), number)| (tenant.as_str(), id, number)),
        )?;
        sqlx::query(
            "UPDATE attempts SET outcome = 'lost', ended_at = $2 WHERE outcome IS NULL \
             AND (tenant, delivery, number) IN \
             (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))",
        )
        .bind(lost)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    ATTEMPT_ENDS
        .run(tx, &effects.attempt_ends, |columns, row| {
            columns
                .bind(row.key.0.as_str())
                .bind(row.key.1)
                .bind(i64::from(row.number))
                .bind(row.ended_at)
                .bind(row.outcome)
                .bind(row.status.map(i64::from))
                .bind(row.reason.as_deref())
                .bind(row.excerpt.as_deref())
                .bind(row.next_at)
        })
        .await?;
    CHANGES
        .run(tx, &effects.changes, |columns, row| {
            columns
                .bind(row.key.0.as_str())
                .bind(row.key.1)
                .bind(row.state.map(|state| state.as_str()))
                .bind(row.reason.as_deref())
                .bind(row.outcome)
                .bind(row.attempts.map(i64::from))
                .bind(row.provider_id.as_deref())
                .bind(row.ended_at)
                .bind(row.news.as_deref())
                .bind(row.receipts.as_deref())
        })
        .await?;
    write_suppressions(tx, &effects.suppressions).await?;
    write_receipts(tx, &effects.receipts).await?;
    for ((tenant, endpoint), failing) in &effects.failing {
        sqlx::query("UPDATE endpoints SET failing_since = $3, failed_at = $4 WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(endpoint.to_string())
            .bind(failing.map(|failing| failing.since.as_micros()))
            .bind(failing.map(|failing| failing.last.as_micros()))
            .execute(&mut *tx)
            .await?;
    }
    for ((tenant, endpoint), reason) in &effects.disabled {
        sqlx::query(
            "UPDATE endpoints SET state = 'disabled', reason = $3, updated_at = $4 \
             WHERE tenant = $1 AND id = $2 AND state = 'enabled'",
        )
        .bind(tenant.as_str())
        .bind(endpoint.to_string())
        .bind(reason.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    queue(tx, until, effects).await?;
    condemn(tx, now, &effects.unreadable).await?;
    let held = outside::held(now, effects)?;
    HELD.run(tx, &held, |columns, row| {
        columns
            .bind(row.tenant)
            .bind(row.delivery.as_str())
            .bind(row.number)
            .bind(now)
            .bind(row.body.as_str())
    })
    .await?;
    ATTEMPTS
        .run(tx, &effects.leased, |columns, row| {
            columns
                .bind(row.key.tenant.as_str())
                .bind(row.id)
                .bind(i64::from(row.number()))
                .bind(row.operation.as_str())
                .bind(now)
        })
        .await?;
    write_events(tx, &effects.told.events).await?;
    write_new(tx, &effects.told.outside, &effects.told.work).await?;
    let mut outcomes = Outcomes::new();
    outside::note_outcomes(&mut outcomes, effects);
    climb_on(tx, now, &outcomes).await
}

/// Ends work that cannot be read.
async fn condemn(tx: &mut SqliteConnection, now: Timestamp, rows: &[Unreadable]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = json_list(rows.iter())?;
    sqlx::query(
        "UPDATE deliveries SET state = 'dead', reason = $2, ended_at = $3 WHERE channel <> 'in_app' \
         AND (tenant, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    )
    .bind(keys.as_str())
    .bind(UNREADABLE)
    .bind(now.as_micros())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM delivery_queue WHERE (tenant, delivery) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    )
    .bind(keys)
    .execute(tx)
    .await?;
    Ok(())
}

async fn queue(tx: &mut SqliteConnection, until: Timestamp, effects: &Effects) -> Result<(), StoreError> {
    if !effects.leased.is_empty() {
        let keys = json_list(effects.leased.iter().map(|row| (row.key.tenant.as_str(), row.id)))?;
        sqlx::query(
            "UPDATE delivery_queue SET lease = lease + 1, due_at = $2 WHERE (tenant, delivery) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(keys)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    if !effects.gone.is_empty() {
        sqlx::query(
            "DELETE FROM delivery_queue WHERE (tenant, delivery) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(queue_keys(effects.gone.iter())?)
        .execute(&mut *tx)
        .await?;
    }
    if !effects.moved.is_empty() {
        let moved = effects.moved.iter();
        let moved =
            json_list(moved.map(|((tenant, id), home)| (tenant.as_str(), id, &*home.lane, &*home.strand)))?;
        sqlx::query(
            "UPDATE delivery_queue SET lane = j.value ->> 2, strand = j.value ->> 3 FROM json_each($1) j \
             WHERE delivery_queue.tenant = j.value ->> 0 AND delivery_queue.delivery = j.value ->> 1",
        )
        .bind(moved)
        .execute(&mut *tx)
        .await?;
    }
    if !effects.due.is_empty() {
        let due = json_list(
            effects
                .due
                .iter()
                .map(|((tenant, id), at)| (tenant.as_str(), id, at.as_micros())),
        )?;
        sqlx::query(
            "UPDATE delivery_queue SET due_at = j.value ->> 2 FROM json_each($1) j \
             WHERE delivery_queue.tenant = j.value ->> 0 AND delivery_queue.delivery = j.value ->> 1",
        )
        .bind(due)
        .execute(&mut *tx)
        .await?;
    }
    if !effects.unsent.is_empty() {
        // The number of the next attempt is the sum, and the retry policy sees `lease` alone. After a hundred it waits
        // longer each time, up to a minute: whoever takes and lets go again and again fills no log.
        sqlx::query(
            "UPDATE delivery_queue SET earlier = earlier + 1, lease = lease - 1, \
             due_at = $2 + MIN(MAX(earlier - 100, 0), 600) * 100000 \
             WHERE (tenant, delivery) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(queue_keys(effects.unsent.iter())?)
        .bind(until.as_micros())
        .execute(tx)
        .await?;
    }
    Ok(())
}
