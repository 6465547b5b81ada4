use std::{collections::HashMap, time::Duration};

use carillon_domain::{NotificationId, NotificationState, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    PostgresStore,
    column::column,
    outside::{listeners, write_events, write_new},
};
use crate::events::EventKind;
use crate::store::{
    ledger::NotificationEvent,
    listeners::Told,
    records::{AcceptReply, AcceptRequest, Claim, Lease, Loaded, NewNotification},
    rows::{self, stored},
};

impl PostgresStore {
    pub(super) async fn accept(
        &self,
        now: Timestamp,
        requests: &[AcceptRequest],
        leased: Option<Timestamp>,
    ) -> Result<Vec<AcceptReply>, StoreError> {
        let mut tx = self
            .postgres
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
            .postgres
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
        let mut tx = self.postgres.begin_system("the relay serves all tenants").await?;
        #[cfg(feature = "planted-bugs")]
        if let Some(leases) = super::planted::lease(&mut tx, now, limit).await? {
            tx.commit().await?;
            return Ok(leases);
        }
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE outbox o SET lease = o.lease + 1, due_at = $3 FROM \
             (SELECT tenant, notification FROM outbox WHERE due_at <= $1 ORDER BY due_at, notification LIMIT $2 \
             FOR UPDATE SKIP LOCKED) d WHERE o.tenant = d.tenant AND o.notification = d.notification \
             RETURNING o.tenant, o.notification, o.lease",
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
        let mut read = self.postgres.read_system("the relay serves all tenants").await?;
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
        let mut tx = self
            .postgres
            .begin_system("the planner serves all tenants")
            .await?;
        let (tenant, id) = (lease.tenant.as_str(), lease.notification.to_string());
        // Notifications are locked before outbox rows.
        sqlx::query("SELECT 1 FROM notifications WHERE tenant = $1 AND id = $2 FOR UPDATE")
            .bind(tenant)
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
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
        let mut read = self
            .postgres
            .read_system("the planner serves all tenants")
            .await?;
        let bound = i64::try_from(most).unwrap_or(i64::MAX);
        // Whatever stands before a notification is counted first, so that no more is read than asked for.
        let statement = format!(
            "SELECT {} FROM (SELECT m.tenant, m.id, j.place, SUM({size}) OVER (ORDER BY j.place) - {size} AS before \
             FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS j(tenant, id, place) \
             JOIN notifications m ON m.tenant = j.tenant AND m.id = j.id) k \
             JOIN notifications n ON n.tenant = k.tenant AND n.id = k.id WHERE k.before < $3 ORDER BY k.place",
            rows::NOTIFICATION,
            size = rows::SIZE,
        );
        let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(column!(ids, (tenant, _) => tenant.as_str()))
            .bind(column!(ids, (_, id) => id.to_string()))
            .bind(bound)
            .fetch_all(&mut *read)
            .await?;
        rows::loaded(found, most)
    }
}

/// Writes notifications with their outbox rows; with `leased`, those whose time has come are leased until then.
pub(super) async fn write_accepted(
    tx: &mut PgConnection,
    now: Timestamp,
    accepted: &[(&TenantId, &NewNotification)],
    leased: Option<Timestamp>,
) -> Result<(), StoreError> {
    if accepted.is_empty() {
        return Ok(());
    }
    let tenants = column!(accepted, (tenant, _) => tenant.as_str());
    let ids = column!(accepted, (_, row) => row.id.to_string());
    sqlx::query(
        "INSERT INTO notifications (tenant, id, state, category, priority, collapse_key, content, targets, \
         created_at, send_at, expires_at, channels, template, template_version, data, plan, critical, digest_key) \
         SELECT v.tenant, v.id, 'accepted', v.category, v.priority, v.collapse_key, v.content, v.targets, \
         v.created_at, v.send_at, v.expires_at, v.channels, v.template, v.template_version, v.data, \
         v.plan, v.critical, v.digest_key \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::bigint[], $14::text[], \
         $15::text[], $16::bigint[], $17::text[]) AS v(tenant, id, category, priority, collapse_key, content, targets, created_at, send_at, \
         expires_at, channels, template, template_version, data, plan, critical, digest_key)",
    )
    .bind(&tenants)
    .bind(&ids)
    .bind(column!(accepted, (_, row) => row.category.as_str()))
    .bind(column!(accepted, (_, row) => row.priority.as_str()))
    .bind(column!(accepted, (_, row) => row.collapse_key.as_ref().map(|key| key.as_str())))
    .bind(column!(accepted, (_, row) => &*row.content))
    .bind(column!(accepted, (_, row) => &*row.targets))
    .bind(column!(accepted, (_, row) => row.created_at.as_micros()))
    .bind(column!(accepted, (_, row) => row.send_at.as_micros()))
    .bind(column!(accepted, (_, row) => row.expires_at.as_micros()))
    .bind(column!(accepted, (_, row) => row.channels.as_deref()))
    .bind(column!(accepted, (_, row) => row.template.as_ref().map(|template| template.name.as_str())))
    .bind(column!(accepted, (_, row) => row.template.as_ref().map(|template| stored(template.version))))
    .bind(column!(accepted, (_, row) => row.template.as_ref().map(|template| &*template.data)))
    .bind(column!(accepted, (_, row) => row.plan.as_deref()))
    .bind(column!(accepted, (_, row) => i64::from(row.critical)))
    .bind(column!(accepted, (_, row) => row.digest_key.as_ref().map(|key| key.as_str())))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO outbox (tenant, notification, due_at, lease) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[])",
    )
    .bind(&tenants)
    .bind(&ids)
    .bind(column!(accepted, (_, row) => row.first_due(now, leased).0.as_micros()))
    .bind(column!(accepted, (_, row) => row.first_due(now, leased).1))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Looks up the requests' idempotency keys and takes those that are free. Another node that takes one at the same time
/// makes us wait for its commit; then its answer is there.
async fn claim(
    tx: &mut PgConnection,
    now: Timestamp,
    requests: &[AcceptRequest],
) -> Result<Vec<AcceptReply>, StoreError> {
    let mut replies = vec![AcceptReply::Accepted; requests.len()];
    let mut claims: Vec<(usize, &TenantId, &Claim)> = requests
        .iter()
        .enumerate()
        .filter_map(|(index, request)| Some((index, &request.tenant, request.claim.as_ref()?)))
        .collect();
    if claims.is_empty() {
        return Ok(replies);
    }
    // One order on every node, so that two nodes cannot wait for each other.
    claims.sort_unstable_by_key(|(_, tenant, claim)| (*tenant, claim.route, claim.key.clone()));
    let tenants = column!(claims, (_, tenant, _) => tenant.as_str());
    let routes = column!(claims, (_, _, claim) => claim.route);
    let keys = column!(claims, (_, _, claim) => &*claim.key);
    let taken: Vec<(String, String, String)> = sqlx::query_as(
        "INSERT INTO idempotency (tenant, route, key, fingerprint, status, body, expires_at) SELECT * FROM \
         UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[]) \
         ON CONFLICT (tenant, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
         status = excluded.status, body = excluded.body, expires_at = excluded.expires_at \
         WHERE idempotency.expires_at <= $8 RETURNING tenant, route, key",
    )
    .bind(&tenants)
    .bind(&routes)
    .bind(&keys)
    .bind(column!(claims, (_, _, claim) => claim.fingerprint.as_str()))
    .bind(column!(claims, (_, _, claim) => i64::from(claim.status)))
    .bind(column!(claims, (_, _, claim) => &*claim.body))
    .bind(column!(claims, (_, _, claim) => claim.expires_at.as_micros()))
    .bind(now.as_micros())
    .fetch_all(&mut *tx)
    .await?;
    if taken.len() == claims.len() {
        return Ok(replies);
    }
    type Answer = (String, String, String, String, i64, String);
    let used: Vec<Answer> = sqlx::query_as(
        "SELECT i.tenant, i.route, i.key, i.fingerprint, i.status, i.body \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, route, key) \
         JOIN idempotency i ON i.tenant = j.tenant AND i.route = j.route AND i.key = j.key",
    )
    .bind(&tenants)
    .bind(&routes)
    .bind(&keys)
    .fetch_all(&mut *tx)
    .await?;
    let mut used: HashMap<(String, String, String), (String, i64, String)> = used
        .into_iter()
        .map(|(tenant, route, key, fingerprint, status, body)| {
            ((tenant, route, key), (fingerprint, status, body))
        })
        .collect();
    for taken in taken {
        used.remove(&taken);
    }
    for (index, tenant, claim) in claims {
        let key = (tenant.to_string(), claim.route.to_owned(), claim.key.to_string());
        if let Some((fingerprint, status, body)) = used.remove(&key) {
            replies[index] = rows::replay(claim, &fingerprint, status, body);
        }
    }
    Ok(replies)
}

/// Ends a notification whose time to live is over; where a part of it was sent, it is planned, as far as it went.
async fn end_late(
    tx: &mut PgConnection,
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
