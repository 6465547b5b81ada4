use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    keys::{USERS, json_list, users as user_list},
    outbox::write_accepted,
    outside,
    write::write,
};
use crate::store::{
    digests::{
        self, Closing, DROPPED_OUT, DUE_TENANTS, DigestKey, DigestLease, DigestStore, DigestWrites,
        DueDigest, FIRST_MEMBERS, LAST_OF_STEP, LeasedDigests, MOST_MEMBERS, MembersOf, NOTHING_LEFT,
        OpenDigests, WAITS, of_key,
    },
    ladder::RecipientKey,
    records::{MailboxCommand, NotificationRow, PlanJob},
    rows::{self, plain_address, word},
    withdrawals::Recallable,
};

#[async_trait]
impl DigestStore for SqliteStore {
    async fn next_digest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.first(&self.next_digest, "SELECT MIN(due_at) FROM digests")
            .await
    }

    async fn lease_digests(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
        after: Option<&TenantId>,
    ) -> Result<LeasedDigests, StoreError> {
        let mut tx = self.sqlite.begin_system("digests are of all tenants").await?;
        let tenants: Vec<(String,)> = sqlx::query_as(DUE_TENANTS)
            .bind(after.map_or("", TenantId::as_str))
            .bind(now.as_micros())
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
        let mut leased = LeasedDigests::default();
        for (tenant,) in &tenants {
            let rows: Vec<digests::LeaseColumns> = sqlx::query_as(
                "UPDATE digests SET lease = lease + 1, due_at = $4 \
                 WHERE (tenant, user_id, category, channel, name, key) IN (SELECT tenant, user_id, category, channel, \
                 name, key FROM digests WHERE tenant = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3) \
                 RETURNING tenant, user_id, category, channel, name, key, opened_at, lease",
            )
            .bind(tenant)
            .bind(now.as_micros())
            .bind(limit.div_ceil(tenants.len()) as i64)
            .bind(until.as_micros())
            .fetch_all(&mut *tx)
            .await?;
            leased.leases.extend(digests::digest_leases(rows));
        }
        tx.commit().await?;
        if let Some((last,)) = tenants.get(limit - 1) {
            leased.after = Some(word(last)?);
        }
        Ok(leased)
    }

    async fn due_digest(&self, now: Timestamp, lease: &DigestLease) -> Result<DueDigest, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(&lease.key.tenant)).await?;
        let waiting = waiting(&mut read, now, &lease.key).await?;
        let members = digests::member_ids(&waiting)?;
        let plain = waiting.first().cloned();
        Ok(DueDigest {
            first: first(&mut read, &lease.key.tenant, &members).await?,
            plain: plain.map_or(Ok(None), |(_, channel, address, _)| {
                plain_address(channel, address)
            })?,
            expires_at: digests::latest(&waiting, now),
            lease: lease.clone(),
            members,
        })
    }

    async fn postpone_digest(&self, lease: &DigestLease, until: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&lease.key.tenant)).await?;
        let statement = sqlx::query(
            "UPDATE digests SET due_at = MAX($7, closes_at) WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 \
             AND name = $5 AND key = $6 AND lease = $8",
        );
        of_key!(statement, lease.key)
            .bind(until.as_micros())
            .bind(lease.token)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn close_digest(&self, now: Timestamp, closing: &Closing) -> Result<bool, StoreError> {
        let key = &closing.lease.key;
        let mut tx = self.sqlite.begin(TenantScope::new(&key.tenant)).await?;
        let row: Option<(i64, i64, i64)> = sqlx::query_as(
            "SELECT opened_at, closes_at, lease FROM digests \
             WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 AND name = $5 AND key = $6",
        )
        .bind(key.tenant.as_str())
        .bind(key.user.to_string())
        .bind(key.category.as_str())
        .bind(key.channel.as_str())
        .bind(&*key.name)
        .bind(&*key.key)
        .fetch_optional(&mut *tx)
        .await?;
        if !closing.is_of(row, now)
            || digests::member_ids(&waiting(&mut tx, now, key).await?)? != closing.members
        {
            return Ok(false);
        }
        let members = json_list(closing.members.iter())?;
        if let Some(digest) = &closing.notification {
            write_accepted(&mut tx, now, &[(&key.tenant, digest)], None).await?;
            send(&mut tx, now, key, digest.id, &members).await?;
        }
        if !closing.leaves_some() {
            end(&mut tx, now, key).await?;
        } else {
            sqlx::query(
                "DELETE FROM digest_members WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 \
                 AND name = $5 AND key = $6 AND notification IN (SELECT value FROM json_each($7))",
            )
            .bind(key.tenant.as_str())
            .bind(key.user.to_string())
            .bind(key.category.as_str())
            .bind(key.channel.as_str())
            .bind(&*key.name)
            .bind(&*key.key)
            .bind(members)
            .execute(&mut *tx)
            .await?;
            let statement = sqlx::query(
                "UPDATE digests SET due_at = closes_at, lease = lease + 1 WHERE tenant = $1 AND user_id = $2 \
                 AND category = $3 AND channel = $4 AND name = $5 AND key = $6",
            );
            of_key!(statement, key).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// The first members that still wait.
async fn waiting(
    tx: &mut SqliteConnection,
    now: Timestamp,
    key: &DigestKey,
) -> Result<Vec<digests::MemberColumns>, StoreError> {
    let statement = format!(
        "SELECT DISTINCT m.notification, r.channel, r.address, n.expires_at FROM digest_members m \
         CROSS JOIN deliveries d ON d.tenant = m.tenant AND d.id = m.delivery AND d.channel <> 'in_app' \
         CROSS JOIN recipients r ON r.tenant = m.tenant AND r.notification = m.notification AND r.user_id = m.user_id \
         CROSS JOIN notifications n ON n.tenant = m.tenant AND n.id = m.notification \
         WHERE m.tenant = $1 AND m.user_id = $2 AND m.category = $3 AND m.channel = $4 AND m.name = $5 \
         AND m.key = $6 AND {WAITS} ORDER BY m.notification LIMIT $7"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(key.tenant.as_str())
        .bind(key.user.to_string())
        .bind(key.category.as_str())
        .bind(key.channel.as_str())
        .bind(&*key.name)
        .bind(&*key.key)
        .bind(MOST_MEMBERS as i64)
        .bind(now.as_micros())
        .fetch_all(tx)
        .await?)
}

/// What the first members say.
async fn first(
    tx: &mut SqliteConnection,
    tenant: &TenantId,
    members: &[NotificationId],
) -> Result<Vec<Arc<NotificationRow>>, StoreError> {
    let statement = format!(
        "SELECT {} FROM json_each($2) j CROSS JOIN notifications n ON n.tenant = $1 AND n.id = j.value ORDER BY n.id",
        rows::NOTIFICATION
    );
    let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(json_list(members.iter().take(FIRST_MEMBERS))?)
        .fetch_all(tx)
        .await?;
    found
        .into_iter()
        .map(|row| rows::notification(row).map(Arc::new))
        .collect()
}

/// Its members went out with the digest.
async fn send(
    tx: &mut SqliteConnection,
    now: Timestamp,
    key: &DigestKey,
    digest: NotificationId,
    members: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE notifications SET digest = $3 WHERE tenant = $1 AND id = $2")
        .bind(key.tenant.as_str())
        .bind(digest.to_string())
        .bind(&*key.name)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'digested', digest = $8, reason = NULL, collapse = NULL, ended_at = $9 \
         WHERE channel <> 'in_app' AND state = 'gathered' AND (tenant, id) IN (SELECT m.tenant, m.delivery \
         FROM digest_members m WHERE m.tenant = $1 AND m.user_id = $2 AND m.category = $3 AND m.channel = $4 \
         AND m.name = $5 AND m.key = $6 AND m.notification IN (SELECT value FROM json_each($7)))",
    )
    .bind(key.tenant.as_str())
    .bind(key.user.to_string())
    .bind(key.category.as_str())
    .bind(key.channel.as_str())
    .bind(&*key.name)
    .bind(&*key.key)
    .bind(members)
    .bind(digest.to_string())
    .bind(now.as_micros())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
         SELECT o.tenant, o.notification, o.user_id, 1 + COALESCE((SELECT MAX(d.number) FROM decisions d \
         WHERE d.tenant = o.tenant AND d.notification = o.notification AND d.user_id = o.user_id), 0), $3, 'digested', \
         MIN(o.step), $4 FROM deliveries o WHERE o.tenant = $1 AND o.digest = $2 AND o.digest IS NOT NULL \
         GROUP BY o.tenant, o.notification, o.user_id",
    )
    .bind(key.tenant.as_str())
    .bind(digest.to_string())
    .bind(now.as_micros())
    .bind(digests::digested(key, digest)?)
    .execute(&mut *tx)
    .await?;
    // A step that goes out with digests alone has its time from now on, whenever they were to close.
    for statement in [
        format!(
            "UPDATE climbs SET due_at = MIN(due_at, due_at + $3 - s.step_at) FROM (SELECT DISTINCT r.tenant, \
             r.notification, r.user_id, r.step_at {LAST_OF_STEP}) s WHERE climbs.tenant = s.tenant \
             AND climbs.notification = s.notification AND climbs.user_id = s.user_id"
        ),
        // Who was not expected to see another step looks when that is due.
        format!(
            "INSERT INTO climbs (tenant, notification, user_id, due_at) SELECT DISTINCT r.tenant, r.notification, r.user_id, \
             $3 {LAST_OF_STEP} ORDER BY r.tenant, r.notification, r.user_id ON CONFLICT DO NOTHING"
        ),
        format!(
            "UPDATE recipients SET step_at = $3 FROM (SELECT DISTINCT r.tenant, r.notification, r.user_id \
             {LAST_OF_STEP}) s WHERE recipients.tenant = s.tenant AND recipients.notification = s.notification \
             AND recipients.user_id = s.user_id"
        ),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .bind(key.tenant.as_str())
            .bind(digest.to_string())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// It is open no longer, and nothing waits in it: whoever is left of its members looks for the next step.
async fn end(tx: &mut SqliteConnection, now: Timestamp, key: &DigestKey) -> Result<(), StoreError> {
    let statement = sqlx::query(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT DISTINCT r.tenant, r.notification, r.user_id, $7 FROM digest_members m CROSS JOIN deliveries d \
         ON d.tenant = m.tenant AND d.id = m.delivery AND d.channel <> 'in_app' AND d.state = 'gathered' \
         CROSS JOIN recipients r ON r.tenant = d.tenant AND r.notification = d.notification AND r.user_id = d.user_id \
         AND r.state = 'open' WHERE m.tenant = $1 AND m.user_id = $2 AND m.category = $3 AND m.channel = $4 \
         AND m.name = $5 AND m.key = $6 \
         ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = MIN(climbs.due_at, excluded.due_at), \
         lease = climbs.lease + 1",
    );
    of_key!(statement, key)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = $7, collapse = NULL, ended_at = $8 \
         WHERE channel <> 'in_app' AND state = 'gathered' AND (tenant, id) IN (SELECT m.tenant, m.delivery \
         FROM digest_members m WHERE m.tenant = $1 AND m.user_id = $2 AND m.category = $3 AND m.channel = $4 \
         AND m.name = $5 AND m.key = $6)",
    )
    .bind(key.tenant.as_str())
    .bind(key.user.to_string())
    .bind(key.category.as_str())
    .bind(key.channel.as_str())
    .bind(&*key.name)
    .bind(&*key.key)
    .bind(DROPPED_OUT)
    .bind(now.as_micros())
    .execute(&mut *tx)
    .await?;
    for statement in [
        "DELETE FROM digest_members WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 \
         AND name = $5 AND key = $6",
        "DELETE FROM digests WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 AND name = $5 \
         AND key = $6",
    ] {
        sqlx::query(statement)
            .bind(key.tenant.as_str())
            .bind(key.user.to_string())
            .bind(key.category.as_str())
            .bind(key.channel.as_str())
            .bind(&*key.name)
            .bind(&*key.key)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Digests that jobs may join.
pub(super) async fn open_digests(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<OpenDigests, StoreError> {
    let users = digests::joiners(jobs);
    if users.is_empty() {
        return Ok(OpenDigests::new());
    }
    let rows: Vec<digests::DigestColumns> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT d.tenant, d.user_id, d.category, d.channel, d.name, d.key, d.opened_at, d.last_at, d.closes_at, d.closes_by \
         FROM {USERS} CROSS JOIN digests d ON d.tenant = t.key AND d.user_id = u.value",
    )))
    .bind(user_list(users.iter())?)
    .fetch_all(tx)
    .await?;
    digests::open_digests(rows)
}

/// Writes who joined which digest, and wakes those whose digest came to nothing.
pub(super) async fn write_digests(
    tx: &mut SqliteConnection,
    now: Timestamp,
    writes: &DigestWrites,
) -> Result<(), StoreError> {
    if !writes.open.is_empty() {
        let open = writes.open.iter().map(|(key, row)| {
            let named = (
                key.tenant.as_str(),
                key.user,
                key.category.as_str(),
                key.channel.as_str(),
            );
            let times = [row.opened_at, row.last_at, row.closes_at, row.closes_by].map(Timestamp::as_micros);
            (named, (&*key.name, &*key.key), times)
        });
        sqlx::query(
            "INSERT INTO digests (tenant, user_id, category, channel, name, key, opened_at, last_at, closes_at, \
             closes_by, due_at) SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]', \
             value ->> '$[0][3]', value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[2][0]', value ->> '$[2][1]', \
             value ->> '$[2][2]', value ->> '$[2][3]', value ->> '$[2][2]' FROM json_each($1) WHERE TRUE \
             ON CONFLICT (tenant, user_id, category, channel, name, key) DO UPDATE SET last_at = excluded.last_at, \
             closes_at = excluded.closes_at, closes_by = excluded.closes_by, \
             due_at = CASE WHEN digests.closes_at = excluded.closes_at THEN digests.due_at ELSE excluded.due_at END",
        )
        .bind(json_list(open)?)
        .execute(&mut *tx)
        .await?;
        let members = writes.members.iter().map(|member| {
            let key = &member.key;
            let named = (
                key.tenant.as_str(),
                key.user,
                key.category.as_str(),
                key.channel.as_str(),
            );
            (
                named,
                (&*key.name, &*key.key),
                member.notification,
                member.delivery,
            )
        });
        sqlx::query(
            "INSERT INTO digest_members (tenant, user_id, category, channel, name, key, notification, delivery) \
             SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]', value ->> '$[0][3]', \
             value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[2]', value ->> '$[3]' FROM json_each($1)",
        )
        .bind(json_list(members)?)
        .execute(&mut *tx)
        .await?;
    }
    for (tenant, digest, _) in &writes.failed {
        wake_members(tx, now, tenant, *digest).await?;
    }
    Ok(())
}

/// A digest came to nothing: its members look for their next step.
pub(super) async fn wake_members(
    tx: &mut SqliteConnection,
    now: Timestamp,
    tenant: &TenantId,
    digest: NotificationId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT DISTINCT r.tenant, r.notification, r.user_id, $3 FROM deliveries d \
         CROSS JOIN recipients r ON r.tenant = d.tenant AND r.notification = d.notification \
         AND r.user_id = d.user_id AND r.state = 'open' \
         WHERE d.tenant = $1 AND d.digest = $2 AND d.digest IS NOT NULL \
         ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = MIN(climbs.due_at, excluded.due_at), \
         lease = climbs.lease + 1",
    )
    .bind(tenant.as_str())
    .bind(digest.to_string())
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// Members of the digests that commands answer.
pub(super) async fn answered_members(
    tx: &mut SqliteConnection,
    commands: &[MailboxCommand],
) -> Result<MembersOf, StoreError> {
    let named = digests::answered(commands);
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<digests::DigestedColumns> = sqlx::query_as(
        "SELECT DISTINCT d.tenant, d.user_id, d.digest, d.notification FROM json_each($1) j CROSS JOIN deliveries d \
         ON d.tenant = j.value ->> 0 AND d.digest = j.value ->> 1 AND d.user_id = j.value ->> 2 \
         WHERE d.digest IS NOT NULL ORDER BY d.notification",
    )
    .bind(json_list(
        named
            .iter()
            .map(|((tenant, user), digest)| (tenant.as_str(), digest, user)),
    )?)
    .fetch_all(tx)
    .await?;
    digests::members_of(rows)
}

/// Digests that may still go out, of which these recipients are members.
pub(super) async fn live_digests(
    tx: &mut SqliteConnection,
    keys: &[RecipientKey],
) -> Result<Vec<RecipientKey>, StoreError> {
    let rows: Vec<digests::DigestOfColumns> = sqlx::query_as(
        "SELECT DISTINCT d.tenant, d.digest, d.user_id FROM json_each($1) j CROSS JOIN deliveries d \
         ON d.tenant = j.value ->> 0 AND d.notification = j.value ->> 1 AND d.user_id = j.value ->> 2 \
         AND d.state = 'digested' CROSS JOIN notifications n ON n.tenant = d.tenant AND n.id = d.digest \
         WHERE n.state IN ('accepted', 'planned') AND n.closed_at IS NULL AND NOT EXISTS (SELECT 1 FROM deliveries g \
         WHERE g.tenant = n.tenant AND g.notification = n.id AND g.state IN ('accepted', 'delivered')) \
         ORDER BY d.tenant, d.digest",
    )
    .bind(json_list(keys.iter())?)
    .fetch_all(tx)
    .await?;
    digests::digests_of(rows)
}

/// Takes back those of which nothing arrived and nothing is left.
pub(super) async fn end_digests(
    tx: &mut SqliteConnection,
    now: Timestamp,
    live: &[RecipientKey],
    recallable: &Recallable,
) -> Result<(), StoreError> {
    if live.is_empty() {
        return Ok(());
    }
    let rows: Vec<digests::DigestOfColumns> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT n.tenant, n.id, j.value ->> 2 FROM json_each($1) j CROSS JOIN notifications n \
         ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1 WHERE n.state IN ('accepted', 'planned') \
         AND NOT EXISTS (SELECT 1 FROM recipients s WHERE s.tenant = n.tenant AND s.notification = n.id \
         AND s.state <> 'open') AND NOT EXISTS (SELECT 1 FROM deliveries g WHERE g.tenant = n.tenant \
         AND g.notification = n.id AND g.state IN ('accepted', 'delivered')) AND {}",
        digests::emptied()
    )))
    .bind(json_list(live.iter())?)
    .fetch_all(&mut *tx)
    .await?;
    let over = digests::digests_of(rows)?;
    if over.is_empty() {
        return Ok(());
    }
    write(tx, now, 0, &digests::taken_back(&over)).await?;
    outside::end_outside(tx, now, &over, NOTHING_LEFT, recallable, &HashSet::new()).await
}
