use std::{collections::HashMap, time::Duration};

use carillon_domain::{NotificationId, NotificationState, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    bulk::Bulk,
    keys::{json_list, pairs},
    outside::{listeners, write_events, write_new},
};
use crate::events::EventKind;
use crate::store::{
    ledger::NotificationEvent,
    listeners::Told,
    records::{AcceptReply, AcceptRequest, Claim, Lease, Loaded, NewNotification},
    rows::{self, stored},
};

static NOTIFICATIONS: Bulk = Bulk::new(
    "INSERT INTO notifications (tenant, id, state, category, priority, collapse_key, content, targets, \
     created_at, send_at, expires_at, channels, template, template_version, data, plan, critical, \
     digest_key) VALUES ",
    18,
    "",
);
static OUTBOX: Bulk = Bulk::new(
    "INSERT INTO outbox (tenant, notification, due_at, lease) VALUES ",
    4,
    "",
);
static CLAIMS: Bulk = Bulk::new(
    "INSERT INTO idempotency (tenant, route, key, fingerprint, status, body, expires_at) VALUES ",
    7,
    " ON CONFLICT (tenant, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     status = excluded.status, body = excluded.body, expires_at = excluded.expires_at",
);

impl SqliteStore {
    pub(super) async fn accept(
        &self,
        now: Timestamp,
        requests: &[AcceptRequest],
        leased: Option<Timestamp>,
    ) -> Result<Vec<AcceptReply>, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("accepts what several tenants sent in one commit")
            .await?;
        let replies = claim(&mut tx, now, requests).await?;
        let accepted: Vec<_> = requests
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| **reply == AcceptReply::Accepted)
            .flat_map(|(request, _)| request.notifications.iter().map(|row| (&request.tenant, row)))
            .collect();
        write_accepted(&mut tx, now, &accepted, leased).await?;
        tx.commit().await?;
        Ok(replies)
    }

    pub(super) async fn release_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("leases of a dead process are of all tenants")
            .await?;
        let released = sqlx::query("UPDATE outbox SET due_at = $1 WHERE due_at > $1 AND lease > 0")
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(released)
    }

    pub(super) async fn lease_outbox(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        let mut tx = self.sqlite.begin_system("the relay serves all tenants").await?;
        #[cfg(feature = "planted-bugs")]
        if let Some(leases) = super::planted::lease(&mut tx, now, limit).await? {
            tx.commit().await?;
            return Ok(leases);
        }
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE outbox SET lease = lease + 1, due_at = $3 WHERE (tenant, notification) IN \
             (SELECT tenant, notification FROM outbox WHERE due_at <= $1 ORDER BY due_at, notification LIMIT $2) \
             RETURNING tenant, notification, lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows::leases(rows)
    }

    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.sqlite.read_system("the relay serves all tenants").await?;
        let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM outbox")
            .fetch_one(&mut *read)
            .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    pub(super) async fn postpone(
        &self,
        now: Timestamp,
        lease: &Lease,
        until: Timestamp,
    ) -> Result<Option<NotificationState>, StoreError> {
        let mut tx = self.sqlite.begin_system("the planner serves all tenants").await?;
        let (tenant, id) = (lease.tenant.as_str(), lease.notification.to_string());
        let held = sqlx::query(
            "UPDATE outbox SET due_at = $4 WHERE tenant = $1 AND notification = $2 AND lease = $3",
        )
        .bind(tenant)
        .bind(id.as_str())
        .bind(lease.token)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        let end = if held.rows_affected() > 0 {
            end_late(&mut tx, now, lease, self.limits.event_ttl).await?
        } else {
            None
        };
        tx.commit().await?;
        Ok(end)
    }

    pub(super) async fn load(
        &self,
        ids: &[(TenantId, NotificationId)],
        most: usize,
    ) -> Result<Loaded, StoreError> {
        let mut read = self.sqlite.read_system("the planner serves all tenants").await?;
        let bound = i64::try_from(most).unwrap_or(i64::MAX);
        // Whatever stands before a notification is counted first, so that no more is read than asked for.
        let statement = format!(
            "SELECT {} FROM (SELECT m.tenant, m.id, j.key AS place, SUM({size}) OVER (ORDER BY j.key) - {size} AS before \
             FROM json_each($1) j CROSS JOIN notifications m ON m.tenant = j.value ->> 0 AND m.id = j.value ->> 1) k \
             CROSS JOIN notifications n ON n.tenant = k.tenant AND n.id = k.id WHERE k.before < $2 ORDER BY k.place",
            rows::NOTIFICATION,
            size = rows::SIZE,
        );
        let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(pairs(ids.iter().map(|(tenant, id)| (tenant, id)))?)
            .bind(bound)
            .fetch_all(&mut *read)
            .await?;
        rows::loaded(found, most)
    }
}

/// Writes notifications with their outbox rows; with `leased`, those whose time has come are leased until then.
pub(super) async fn write_accepted(
    tx: &mut SqliteConnection,
    now: Timestamp,
    accepted: &[(&TenantId, &NewNotification)],
    leased: Option<Timestamp>,
) -> Result<(), StoreError> {
    NOTIFICATIONS
        .run(tx, accepted, |columns, (tenant, row)| {
            columns
                .bind(tenant.as_str())
                .bind(row.id)
                .bind("accepted")
                .bind(row.category.as_str())
                .bind(row.priority.as_str())
                .bind(row.collapse_key.as_ref().map(|key| key.as_str()))
                .bind(&row.content)
                .bind(&row.targets)
                .bind(row.created_at)
                .bind(row.send_at)
                .bind(row.expires_at)
                .bind(row.channels.as_ref())
                .bind(row.template.as_ref().map(|template| template.name.as_str()))
                .bind(row.template.as_ref().map(|template| stored(template.version)))
                .bind(row.template.as_ref().map(|template| &template.data))
                .bind(row.plan.as_ref())
                .bind(i64::from(row.critical))
                .bind(row.digest_key.as_ref().map(|key| key.as_str()))
        })
        .await?;
    OUTBOX
        .run(tx, accepted, |columns, (tenant, row)| {
            let (due, lease) = row.first_due(now, leased);
            columns.bind(tenant.as_str()).bind(row.id).bind(due).bind(lease)
        })
        .await?;
    Ok(())
}

/// Looks up the requests' idempotency keys and takes those that are free.
async fn claim(
    tx: &mut SqliteConnection,
    now: Timestamp,
    requests: &[AcceptRequest],
) -> Result<Vec<AcceptReply>, StoreError> {
    let mut replies = vec![AcceptReply::Accepted; requests.len()];
    let claims: Vec<(usize, &TenantId, &Claim)> = requests
        .iter()
        .enumerate()
        .filter_map(|(index, request)| Some((index, &request.tenant, request.claim.as_ref()?)))
        .collect();
    if claims.is_empty() {
        return Ok(replies);
    }
    let keys = json_list(
        claims
            .iter()
            .map(|(index, tenant, claim)| (index, tenant.as_str(), claim.route, &*claim.key)),
    )?;
    let used: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "SELECT CAST(j.value ->> 0 AS INTEGER), i.fingerprint, i.status, i.body FROM json_each($1) j \
         CROSS JOIN idempotency i ON i.tenant = j.value ->> 1 AND i.route = j.value ->> 2 \
         AND i.key = j.value ->> 3 WHERE i.expires_at > $2",
    )
    .bind(keys)
    .bind(now.as_micros())
    .fetch_all(&mut *tx)
    .await?;
    let mut used: HashMap<usize, (String, i64, String)> = used
        .into_iter()
        .filter_map(|(index, fingerprint, status, body)| {
            Some((usize::try_from(index).ok()?, (fingerprint, status, body)))
        })
        .collect();
    let mut free = Vec::with_capacity(claims.len());
    for (index, tenant, claim) in claims {
        match used.remove(&index) {
            None => free.push((tenant, claim)),
            Some((fingerprint, status, body)) => {
                replies[index] = rows::replay(claim, &fingerprint, status, body);
            }
        }
    }
    CLAIMS
        .run(tx, &free, |columns, (tenant, claim)| {
            columns
                .bind(tenant.as_str())
                .bind(claim.route)
                .bind(&*claim.key)
                .bind(claim.fingerprint.as_str())
                .bind(i64::from(claim.status))
                .bind(&*claim.body)
                .bind(claim.expires_at)
        })
        .await?;
    Ok(replies)
}

/// Ends a notification whose time to live is over; where a part of it was sent, it is planned, as far as it went.
async fn end_late(
    tx: &mut SqliteConnection,
    now: Timestamp,
    lease: &Lease,
    ttl: Duration,
) -> Result<Option<NotificationState>, StoreError> {
    let (tenant, id) = (lease.tenant.as_str(), lease.notification.to_string());
    let ended: Option<(String,)> = sqlx::query_as(
        "UPDATE notifications SET ended_at = $3, state = CASE WHEN topics IS NOT NULL OR EXISTS \
         (SELECT 1 FROM recipients r WHERE r.tenant = $1 AND r.notification = $2 \
         AND r.state NOT IN ('expired', 'erased')) THEN 'planned' ELSE 'expired' END \
         WHERE tenant = $1 AND id = $2 AND state = 'accepted' AND expires_at <= $3 RETURNING state",
    )
    .bind(tenant)
    .bind(id.as_str())
    .bind(now.as_micros())
    .fetch_optional(&mut *tx)
    .await?;
    let Some((state,)) = ended else {
        return Ok(None);
    };
    let (state, kind) = if state == NotificationState::Planned.as_str() {
        (NotificationState::Planned, EventKind::NotificationPlanned)
    } else {
        (NotificationState::Expired, EventKind::NotificationExpired)
    };
    sqlx::query("DELETE FROM outbox WHERE tenant = $1 AND notification = $2")
        .bind(tenant)
        .bind(id)
        .execute(&mut *tx)
        .await?;
    let listeners = listeners(tx, std::iter::once(&lease.tenant), ttl).await?;
    let mut told = Told::default();
    let data = NotificationEvent {
        notification_id: lease.notification,
    };
    listeners.tell(&mut told, now, &lease.tenant, kind, &data, None);
    write_events(tx, &told.events).await?;
    write_new(tx, &told.outside, &told.work).await?;
    Ok(Some(state))
}
