use carillon_domain::{EndpointId, TenantId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{QueryBuilder, Sqlite};

use super::super::{
    SqliteStore,
    outside::{write_events, write_new},
};
use crate::store::{
    endpoints::{self, AttemptQuery, ENDPOINT_ATTEMPT, EndpointAttempt, EndpointAttemptColumns, EventRow},
    outside::{OutsideRow, WorkRow},
};

impl SqliteStore {
    pub(super) async fn send_event(
        &self,
        event: &EventRow,
        outside: &OutsideRow,
        work: &WorkRow,
    ) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&event.tenant)).await?;
        write_events(&mut tx, std::slice::from_ref(event)).await?;
        write_new(&mut tx, std::slice::from_ref(outside), std::slice::from_ref(work)).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn endpoint_attempts(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        query: &AttemptQuery,
    ) -> Result<Vec<EndpointAttempt>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(format!(
            "SELECT {ENDPOINT_ATTEMPT} FROM deliveries d CROSS JOIN attempts a \
             ON a.tenant = d.tenant AND a.delivery = d.id \
             LEFT JOIN events v ON v.tenant = d.tenant AND v.id = d.notification \
             WHERE d.channel = 'webhook' AND d.tenant = "
        ));
        statement
            .push_bind(tenant.as_str())
            .push(" AND d.address = ")
            .push_bind(id.to_string());
        if let Some((delivery, number)) = query.before {
            statement
                .push(" AND d.id <= ")
                .push_bind(delivery.to_string())
                .push(" AND (d.id < ")
                .push_bind(delivery.to_string())
                .push(" OR a.number < ")
                .push_bind(i64::from(number))
                .push(")");
        }
        statement
            .push(" ORDER BY d.id DESC, a.number DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows: Vec<EndpointAttemptColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(endpoints::endpoint_attempt).collect()
    }
}
