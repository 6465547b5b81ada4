use async_trait::async_trait;
use carillon_domain::{DeliveryId, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{SqliteStore, keys::json_list};
use crate::{
    reach::{Fading, Reach},
    store::{
        reach::{self, Probes, ReachRow, ReachStore},
        rows::{stored, word},
    },
};

const WHY: &str = "what came back is counted for all tenants";

#[async_trait]
impl ReachStore for SqliteStore {
    async fn next_probed(&self, after: Option<&TenantId>) -> Result<Option<TenantId>, StoreError> {
        let mut read = self.sqlite.read_system(WHY).await?;
        let tenant: Option<String> = sqlx::query_scalar(
            "SELECT tenant FROM deliveries WHERE channel <> 'in_app' AND tenant > $1 ORDER BY tenant LIMIT 1",
        )
        .bind(after.map_or("", TenantId::as_str))
        .fetch_optional(&mut *read)
        .await?;
        tenant.as_deref().map(word).transpose()
    }

    async fn count_probes(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        probes: &Probes<'_>,
    ) -> Result<usize, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO reachability_cursors (tenant, delivery) VALUES ($1, '') ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        let cursor: String =
            sqlx::query_scalar("SELECT delivery FROM reachability_cursors WHERE tenant = $1")
                .bind(tenant.as_str())
                .fetch_one(&mut *tx)
                .await?;
        let rows: Vec<reach::ProbeColumns> = sqlx::query_as(
            "SELECT id, channel, address, user_id, device, state, receipts FROM deliveries \
             WHERE tenant = $1 AND channel <> 'in_app' AND id > $2 AND id < $3 ORDER BY id LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(&cursor)
        .bind(reach::from_then(probes.until))
        .bind(i64::try_from(probes.limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = rows.last() else {
            return Ok(0);
        };
        for ((channel, address), one) in reach::counted(&rows, probes.channels)? {
            let known = known(&mut tx, tenant, &channel, &address).await?;
            let known = known.unwrap_or(Reach::unknown(now));
            let after = one
                .came
                .iter()
                .fold(known, |reach, came| reach.probed(now, *came, probes.fading));
            sqlx::query(
                "INSERT INTO reachability (tenant, channel, address, user_id, device, sent, came, at, came_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant, channel, address) DO UPDATE SET \
                 user_id = excluded.user_id, device = excluded.device, sent = excluded.sent, came = excluded.came, \
                 at = excluded.at, came_at = excluded.came_at",
            )
            .bind(tenant.as_str())
            .bind(&channel)
            .bind(&address)
            .bind(&one.user)
            .bind(one.device.as_deref())
            .bind(stored(after.sent))
            .bind(stored(after.came))
            .bind(after.at.as_micros())
            .bind(after.came_at.map(Timestamp::as_micros))
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("UPDATE reachability_cursors SET delivery = $2 WHERE tenant = $1")
            .bind(tenant.as_str())
            .bind(&last.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(rows.len())
    }

    async fn came_back(
        &self,
        now: Timestamp,
        deliveries: &[(TenantId, DeliveryId)],
        fading: Fading,
    ) -> Result<(), StoreError> {
        for (tenant, id) in deliveries {
            let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
            let counted: Option<(String, String)> = sqlx::query_as(
                "SELECT d.channel, d.address FROM deliveries d JOIN reachability_cursors c \
                 ON c.tenant = d.tenant AND c.delivery >= d.id \
                 WHERE d.tenant = $1 AND d.id = $2 AND d.channel <> 'in_app'",
            )
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await?;
            let Some((channel, address)) = counted else {
                continue;
            };
            let Some(known) = known(&mut tx, tenant, &channel, &address).await? else {
                continue;
            };
            let after = known.came_back(now, fading);
            sqlx::query(
                "UPDATE reachability SET sent = $4, came = $5, at = $6, came_at = $7 \
                 WHERE tenant = $1 AND channel = $2 AND address = $3",
            )
            .bind(tenant.as_str())
            .bind(&channel)
            .bind(&address)
            .bind(stored(after.sent))
            .bind(stored(after.came))
            .bind(after.at.as_micros())
            .bind(after.came_at.map(Timestamp::as_micros))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn reach_of(&self, tenant: &TenantId, user: UserId) -> Result<Vec<ReachRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM reachability r WHERE r.tenant = $1 AND r.user_id = $2 ORDER BY r.channel, r.address LIMIT $3",
            reach::REACH_ROW
        );
        let rows: Vec<reach::ReachRowColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(user.to_string())
            .bind(reach::MOST_ADDRESSES)
            .fetch_all(&mut *read)
            .await?;
        rows.into_iter().map(reach::reach_row).collect()
    }

    async fn forget_reach(&self, cutoff: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut tx = self.sqlite.begin_system(WHY).await?;
        let gone = sqlx::query(
            "DELETE FROM reachability WHERE (tenant, channel, address) IN \
             (SELECT tenant, channel, address FROM reachability WHERE at < $1 ORDER BY at LIMIT $2)",
        )
        .bind(cutoff.as_micros())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }
}

async fn known(
    tx: &mut SqliteConnection,
    tenant: &TenantId,
    channel: &str,
    address: &str,
) -> Result<Option<Reach>, StoreError> {
    let row: Option<reach::ReachColumns> = sqlx::query_as(
        "SELECT sent, came, at, came_at FROM reachability WHERE tenant = $1 AND channel = $2 AND address = $3",
    )
    .bind(tenant.as_str())
    .bind(channel)
    .bind(address)
    .fetch_optional(tx)
    .await?;
    row.map(reach::reach).transpose()
}

/// What is known of these addresses: tenant, channel, address.
pub(super) async fn reach_of_addresses(
    tx: &mut SqliteConnection,
    addresses: &[(&str, &str, &str)],
) -> Result<Vec<(String, reach::ReachRowColumns)>, StoreError> {
    let statement = format!(
        "SELECT r.tenant, {} FROM json_each($1) j CROSS JOIN reachability r \
         ON r.tenant = j.value ->> 0 AND r.channel = j.value ->> 1 AND r.address = j.value ->> 2",
        reach::REACH_ROW
    );
    let rows: Vec<reach::ReachOfColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(json_list(addresses.iter())?)
        .fetch_all(tx)
        .await?;
    Ok(rows.into_iter().map(reach::with_tenant).collect())
}
