use std::{collections::BTreeSet, time::Duration};

use carillon_domain::TenantId;
use carillon_sql::StoreError;
use sqlx::PgConnection;

use crate::store::listeners::{ListenerColumns, Listeners};

/// The enabled endpoints of these tenants.
pub(in crate::store::postgres) async fn listeners<'a>(
    tx: &mut PgConnection,
    tenants: impl Iterator<Item = &'a TenantId>,
    ttl: Duration,
) -> Result<Listeners, StoreError> {
    let tenants: BTreeSet<&str> = tenants.map(TenantId::as_str).collect();
    if tenants.is_empty() {
        return Ok(Listeners::default());
    }
    let rows: Vec<ListenerColumns> = sqlx::query_as(
        "SELECT e.tenant, e.id, e.lane, e.events, e.fifo FROM endpoints e \
         WHERE e.tenant = ANY($1) AND e.user_id = '' AND e.state = 'enabled'",
    )
    .bind(tenants.into_iter().collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Listeners::new(rows, ttl)
}
