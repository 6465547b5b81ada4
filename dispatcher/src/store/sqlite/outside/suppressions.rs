use carillon_domain::{Address, ChannelKind, PlainAddress, TenantId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{QueryBuilder, Sqlite};

use super::{
    super::{SqliteStore, keys::json_list},
    apply::write_suppressions,
};
use crate::store::outside::{self, SuppressionQuery, SuppressionRow};

/// The columns of a suppression.
const SUPPRESSION: &str = "SELECT tenant, channel, address, reason, detail, delivery, at FROM suppressions";

impl SqliteStore {
    pub(super) async fn suppress(&self, row: &SuppressionRow) -> Result<SuppressionRow, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&row.tenant)).await?;
        write_suppressions(&mut tx, std::slice::from_ref(row)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(SUPPRESSION);
        statement
            .push(" WHERE tenant = ")
            .push_bind(row.tenant.as_str())
            .push(" AND channel = ")
            .push_bind(row.channel.as_str())
            .push(" AND address = ")
            .push_bind(row.address.as_str());
        let stands: outside::SuppressionColumns = statement.build_query_as().fetch_one(&mut *tx).await?;
        tx.commit().await?;
        outside::suppression(stands)
    }

    pub(super) async fn suppressions(
        &self,
        tenant: &TenantId,
        query: &SuppressionQuery,
    ) -> Result<Vec<SuppressionRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(SUPPRESSION);
        statement.push(" WHERE tenant = ").push_bind(tenant.as_str());
        if let Some(channel) = &query.channel {
            statement.push(" AND channel = ").push_bind(channel.as_str());
        }
        if let Some((channel, address)) = &query.after {
            statement
                .push(" AND (channel, address) > (")
                .push_bind(channel.as_str())
                .push(", ")
                .push_bind(address.as_str())
                .push(")");
        }
        statement
            .push(" ORDER BY channel, address LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows: Vec<outside::SuppressionColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(outside::suppression).collect()
    }

    pub(super) async fn suppressed(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let keys = addresses.iter().map(|PlainAddress { channel, to }| {
            let print = self.prints.of(tenant.as_str(), channel.as_str(), to.as_str());
            (channel.as_str(), to.as_str(), print)
        });
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT j.key, s.reason FROM json_each($2) j CROSS JOIN suppressions s ON s.tenant = $1 \
             AND s.channel = j.value ->> 0 AND s.address IN (j.value ->> 1, j.value ->> 2)",
        )
        .bind(tenant.as_str())
        .bind(json_list(keys)?)
        .fetch_all(&mut *read)
        .await?;
        let mut reasons = vec![None; addresses.len()];
        for (place, reason) in rows {
            if let Some(slot) = usize::try_from(place)
                .ok()
                .and_then(|place| reasons.get_mut(place))
            {
                *slot = Some(reason);
            }
        }
        Ok(reasons)
    }

    pub(super) async fn lift_suppression(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let lifted = sqlx::query(
            "DELETE FROM suppressions WHERE tenant = $1 AND channel = $2 AND address IN ($3, $4)",
        )
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .bind(address.as_str())
        .bind(
            self.prints
                .of(tenant.as_str(), channel.as_str(), address.as_str()),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(lifted.rows_affected() > 0)
    }
}
