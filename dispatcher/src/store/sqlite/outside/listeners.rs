use std::{collections::BTreeSet, time::Duration};

use carillon_domain::TenantId;
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::super::keys::json_list;
use crate::store::listeners::{ListenerColumns, Listeners};

/// The enabled endpoints of these tenants.
pub(in crate::store::sqlite) async fn listeners<'a>(
    tx: &mut SqliteConnection,
    tenants: impl Iterator<Item = &'a TenantId>,
    ttl: Duration,
) -> Result<Listeners, StoreError> {
    let tenants: BTreeSet<&str> = tenants.map(TenantId::as_str).collect();
    if tenants.is_empty() {
        return Ok(Listeners::default());
    }
    let rows: Vec<ListenerColumns> = sqlx::query_as(
        "SELECT e.tenant, e.id, e.lane, e.events, e.fifo FROM json_each($1) j \
         CROSS JOIN endpoints e ON e.tenant = j.value AND e.user_id = '' WHERE e.state = 'enabled'",
    )
    .bind(json_list(tenants.into_iter())?)
    .fetch_all(tx)
    .await?;
    Listeners::new(rows, ttl)
}
