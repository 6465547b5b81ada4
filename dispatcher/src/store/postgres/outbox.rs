use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{PostgresStore, bulk::Bulk, keys::pairs};
use crate::store::{
    records::{AcceptReply, AcceptRequest, Claim, Lease, NotificationRow},
    rows::{self, word},
};

static NOTIFICATIONS: Bulk = Bulk::new(
    "INSERT INTO notifications (tenant, id, state, category, priority, collapse_key, content, targets, \
     created_at, send_at, expires_at) VALUES ",
    11,
    "",
);
static OUTBOX: Bulk = Bulk::new("INSERT INTO outbox (tenant, notification, due_at) VALUES ", 3, "");
impl PostgresStore {
    pub(super) async fn accept(
        &self,
        now: Timestamp,
        requests: &[AcceptRequest],
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
        NOTIFICATIONS
            .run(&mut tx, &accepted, |query, (tenant, row)| {
                query
                    .bind(tenant.as_str())
                    .bind(row.id.to_string())
                    .bind("accepted")
                    .bind(row.category.as_str())
                    .bind(row.priority.as_str())
                    .bind(row.collapse_key.as_ref().map(|key| key.as_str()))
                    .bind(row.content.clone())
                    .bind(row.targets.clone())
                    .bind(row.created_at.as_micros())
                    .bind(row.send_at.as_micros())
                    .bind(row.expires_at.as_micros())
            })
            .await?;
        OUTBOX
            .run(&mut tx, &accepted, |query, (tenant, row)| {
                query
                    .bind(tenant.as_str())
                    .bind(row.id.to_string())
                    .bind(row.send_at.as_micros())
            })
            .await?;
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
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE outbox SET lease = lease + 1, due_at = $3 WHERE (tenant, notification) IN \
             (SELECT tenant, notification FROM outbox WHERE due_at <= $1 ORDER BY due_at LIMIT $2 \
             FOR UPDATE SKIP LOCKED) \
             RETURNING tenant, notification, lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        leases(rows)
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
    ) -> Result<(), StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the planner serves all tenants")
            .await?;
        let held = sqlx::query(
            "UPDATE outbox SET due_at = $4 WHERE tenant = $1 AND notification = $2 AND lease = $3",
        )
        .bind(lease.tenant.as_str())
        .bind(lease.notification.to_string())
        .bind(lease.token)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        if held.rows_affected() > 0 {
            let expired = sqlx::query(
                "UPDATE notifications SET state = 'expired', ended_at = $3 \
                 WHERE tenant = $1 AND id = $2 AND state = 'accepted' AND expires_at <= $3",
            )
            .bind(lease.tenant.as_str())
            .bind(lease.notification.to_string())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
            if expired.rows_affected() > 0 {
                sqlx::query("DELETE FROM outbox WHERE tenant = $1 AND notification = $2")
                    .bind(lease.tenant.as_str())
                    .bind(lease.notification.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn load(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<Vec<NotificationRow>, StoreError> {
        let mut read = self
            .postgres
            .read_system("the planner serves all tenants")
            .await?;
        let statement = format!(
            "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j (tenant, id) \
             JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id",
            rows::NOTIFICATION
        );
        let (tenants, keys) = pairs(ids.iter().map(|(tenant, id)| (tenant, id)));
        let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenants)
            .bind(keys)
            .fetch_all(&mut *read)
            .await?;
        found.into_iter().map(rows::notification).collect()
    }
}

pub(super) fn leases(rows: Vec<(String, String, i64)>) -> Result<Vec<Lease>, StoreError> {
    let lease = |(tenant, notification, token): (String, String, i64)| {
        Ok(Lease {
            tenant: word(&tenant)?,
            notification: word(&notification)?,
            token,
        })
    };
    let mut leases = rows
        .into_iter()
        .map(lease)
        .collect::<Result<Vec<_>, StoreError>>()?;
    // Ids begin with their time: what was accepted first goes first.
    leases.sort_unstable_by_key(|lease| lease.notification);
    Ok(leases)
}

/// Takes the requests' idempotency keys where they are free, and looks up the others. A key that somebody else takes
/// at the same time is waited for: it is taken or free once he has committed or not.
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
    // All take keys in the same order, so that nobody waits in a circle.
    claims.sort_unstable_by(|(_, a_tenant, a), (_, b_tenant, b)| {
        (a_tenant, a.route, &a.key).cmp(&(b_tenant, b.route, &b.key))
    });
    for (index, tenant, claim) in claims {
        let taken = sqlx::query(
            "INSERT INTO idempotency AS i (tenant, route, key, fingerprint, status, body, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, route, key) DO UPDATE SET \
             fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, \
             expires_at = excluded.expires_at WHERE i.expires_at <= $8",
        )
        .bind(tenant.as_str())
        .bind(claim.route)
        .bind(&*claim.key)
        .bind(claim.fingerprint.as_str())
        .bind(i64::from(claim.status))
        .bind(&*claim.body)
        .bind(claim.expires_at.as_micros())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        if taken.rows_affected() == 0 {
            let (fingerprint, status, body): (String, i64, String) = sqlx::query_as(
                "SELECT fingerprint, status, body FROM idempotency \
                 WHERE tenant = $1 AND route = $2 AND key = $3",
            )
            .bind(tenant.as_str())
            .bind(claim.route)
            .bind(&*claim.key)
            .fetch_one(&mut *tx)
            .await?;
            replies[index] = rows::replay(claim, &fingerprint, status, body);
        }
    }
    Ok(replies)
}
