use std::sync::Arc;

use carillon_domain::{DeliveryId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};

use super::super::{PostgresStore, column::column};
use crate::store::digests::OVER;
use crate::store::outside::{
    self, AttemptDetail, DETAIL, DeadFilter, DeadQuery, LeasedDelivery, OutsideDetail, Sources, Wanted,
};

impl PostgresStore {
    pub(super) async fn load_work(
        &self,
        now: Timestamp,
        deliveries: &[Arc<LeasedDelivery>],
    ) -> Result<Sources, StoreError> {
        let mut read = self
            .postgres
            .read_system("the deliverer serves all tenants")
            .await?;
        let wanted = Wanted::of(deliveries);
        let mut sources = Sources::default();
        if !wanted.notifications.is_empty() {
            let rows: Vec<outside::NotificationSourceColumns> = sqlx::query_as(
                "SELECT n.tenant, n.id, n.category, n.priority, n.collapse_key, n.content, n.template, \
                 n.template_version, n.data FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
                 JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id",
            )
            .bind(column!(wanted.notifications, (tenant, _) => tenant.as_str()))
            .bind(column!(wanted.notifications, (_, id) => id.as_str()))
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_notification(row)?;
            }
            let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT n.tenant, n.id, o.notification FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
                 JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id AND n.digest IS NOT NULL \
                 JOIN deliveries o ON o.tenant = n.tenant AND o.digest = n.id AND o.digest IS NOT NULL \
                 JOIN recipients r ON r.tenant = o.tenant AND r.notification = o.notification \
                 AND r.user_id = o.user_id JOIN notifications m ON m.tenant = o.tenant \
                 AND m.id = o.notification WHERE {OVER}"
            )))
            .bind(column!(wanted.notifications, (tenant, _) => tenant.as_str()))
            .bind(column!(wanted.notifications, (_, id) => id.as_str()))
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_over(row)?;
            }
            let templates = sources.template_keys();
            if !templates.is_empty() {
                let rows: Vec<outside::TemplateColumns> = sqlx::query_as(
                    "SELECT t.tenant, t.name, t.version, t.default_locale, t.locales FROM \
                     UNNEST($1::text[], $2::text[], $3::bigint[]) AS j(tenant, name, version) \
                     JOIN template_versions t ON t.tenant = j.tenant AND t.name = j.name \
                     AND t.version = j.version",
                )
                .bind(column!(templates, (tenant, _, _) => *tenant))
                .bind(column!(templates, (_, name, _) => *name))
                .bind(column!(templates, (_, _, version) => *version))
                .fetch_all(&mut *read)
                .await?;
                for row in rows {
                    sources.add_template(row)?;
                }
            }
        }
        if !wanted.events.is_empty() {
            let rows: Vec<outside::EventColumns> = sqlx::query_as(
                "SELECT e.tenant, e.id, e.kind, e.body FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
                 JOIN events e ON e.tenant = j.tenant AND e.id = j.id",
            )
            .bind(column!(wanted.events, (tenant, _) => tenant.as_str()))
            .bind(column!(wanted.events, (_, id) => id.as_str()))
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_event(row)?;
            }
        }
        if !wanted.endpoints.is_empty() {
            let tenants = column!(wanted.endpoints, (tenant, _) => tenant.as_str());
            let ids = column!(wanted.endpoints, (_, id) => id.as_str());
            let rows: Vec<outside::EndpointColumns> = sqlx::query_as(
                "SELECT e.tenant, e.id, e.url FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
                 JOIN endpoints e ON e.tenant = j.tenant AND e.id = j.id",
            )
            .bind(&tenants)
            .bind(&ids)
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_endpoint(row)?;
            }
            let rows: Vec<outside::SecretColumns> = sqlx::query_as(
                "SELECT s.tenant, s.endpoint, s.id, s.sealed FROM \
                 UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
                 JOIN endpoint_secrets s ON s.tenant = j.tenant AND s.endpoint = j.id \
                 WHERE s.expires_at IS NULL OR s.expires_at > $3 ORDER BY s.created_at DESC, s.id DESC",
            )
            .bind(&tenants)
            .bind(&ids)
            .bind(now.as_micros())
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_secret(row)?;
            }
        }
        Ok(sources)
    }

    pub(super) async fn dead_letters(
        &self,
        tenant: &TenantId,
        query: &DeadQuery,
    ) -> Result<Vec<OutsideDetail>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let mut statement =
            QueryBuilder::<Postgres>::new(format!("SELECT {DETAIL} FROM deliveries d WHERE "));
        matching(&mut statement, tenant, &query.filter)?;
        if let Some(before) = query.before {
            statement.push(" AND d.id < ").push_bind(before.to_string());
        }
        statement
            .push(" ORDER BY d.id DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows: Vec<outside::DetailColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(outside::outside_detail).collect()
    }

    pub(super) async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<(OutsideDetail, Vec<AttemptDetail>)>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {DETAIL} FROM deliveries d WHERE d.tenant = $1 AND d.id = $2 AND d.channel <> 'in_app'"
        );
        let row: Option<outside::DetailColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *read)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let rows: Vec<outside::AttemptColumns> = sqlx::query_as(
            "SELECT number, operation, started_at, ended_at, outcome, status, reason, excerpt, next_at \
             FROM (SELECT * FROM attempts WHERE tenant = $1 AND delivery = $2 \
             ORDER BY number DESC LIMIT 1000) a ORDER BY number",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_all(&mut *read)
        .await?;
        let due: Option<(i64,)> =
            sqlx::query_as("SELECT due_at FROM delivery_queue WHERE tenant = $1 AND delivery = $2")
                .bind(tenant.as_str())
                .bind(id.to_string())
                .fetch_optional(&mut *read)
                .await?;
        let attempts = rows
            .into_iter()
            .map(outside::attempt)
            .collect::<Result<Vec<_>, _>>()?;
        let mut detail = outside::outside_detail(row)?;
        let runs = attempts.last().is_some_and(|attempt| attempt.outcome.is_none());
        detail.next_at = due.filter(|_| !runs).map(|(due,)| Timestamp::from_micros(due));
        Ok(Some((detail, attempts)))
    }
}

/// The condition of a filter on a dead letter `d`.
pub(super) fn matching(
    statement: &mut QueryBuilder<Postgres>,
    tenant: &TenantId,
    filter: &DeadFilter,
) -> Result<(), StoreError> {
    statement
        .push("d.tenant = ")
        .push_bind(tenant.as_str().to_owned())
        .push(" AND d.state = 'dead' AND d.channel <> 'in_app'");
    if let Some(ids) = &filter.ids {
        statement
            .push(" AND d.id = ANY(")
            .push_bind(column!(ids, id => id.to_string()))
            .push(")");
    }
    if let Some(channel) = &filter.channel {
        statement
            .push(" AND d.channel = ")
            .push_bind(channel.as_str().to_owned());
    }
    if let Some(reason) = &filter.reason {
        statement
            .push(" AND POSITION(")
            .push_bind(reason.clone())
            .push(" IN d.reason) > 0");
    }
    if let Some(user) = filter.user {
        statement.push(" AND d.user_id = ").push_bind(user.to_string());
    }
    if let Some(address) = &filter.address {
        statement
            .push(" AND d.address = ")
            .push_bind(address.as_str().to_owned());
    }
    if let Some(since) = filter.since {
        statement.push(" AND d.ended_at >= ").push_bind(since.as_micros());
    }
    if let Some(category) = &filter.category {
        statement
            .push(
                " AND EXISTS (SELECT 1 FROM notifications n WHERE n.tenant = d.tenant \
                 AND n.id = d.notification AND n.category = ",
            )
            .push_bind(category.as_str().to_owned())
            .push(")");
    }
    Ok(())
}
