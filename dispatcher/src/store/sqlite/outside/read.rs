use std::sync::Arc;

use carillon_domain::{DeliveryId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};

use super::super::{
    SqliteStore,
    keys::{json_list, pairs},
};
use crate::store::digests::OVER;
use crate::store::outside::{
    self, AttemptDetail, DETAIL, DeadFilter, DeadQuery, LeasedDelivery, OutsideDetail, Sources, Wanted,
};

impl SqliteStore {
    pub(super) async fn load_work(
        &self,
        now: Timestamp,
        deliveries: &[Arc<LeasedDelivery>],
    ) -> Result<Sources, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the deliverer serves all tenants")
            .await?;
        let wanted = Wanted::of(deliveries);
        let mut sources = Sources::default();
        if !wanted.notifications.is_empty() {
            let rows: Vec<outside::NotificationSourceColumns> = sqlx::query_as(
                "SELECT n.tenant, n.id, n.category, n.priority, n.collapse_key, n.content, n.template, \
                 n.template_version, n.data FROM json_each($1) j \
                 CROSS JOIN notifications n ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1",
            )
            .bind(pairs(
                wanted.notifications.iter().map(|(tenant, id)| (tenant, id)),
            )?)
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_notification(row)?;
            }
            let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT n.tenant, n.id, o.notification FROM json_each($1) j CROSS JOIN notifications n \
                 ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1 AND n.digest IS NOT NULL \
                 CROSS JOIN deliveries o ON o.tenant = n.tenant AND o.digest = n.id AND o.digest IS NOT NULL \
                 CROSS JOIN recipients r ON r.tenant = o.tenant AND r.notification = o.notification \
                 AND r.user_id = o.user_id CROSS JOIN notifications m ON m.tenant = o.tenant \
                 AND m.id = o.notification WHERE {OVER}"
            )))
            .bind(pairs(
                wanted.notifications.iter().map(|(tenant, id)| (tenant, id)),
            )?)
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_over(row)?;
            }
            let templates = sources.template_keys();
            if !templates.is_empty() {
                let rows: Vec<outside::TemplateColumns> = sqlx::query_as(
                    "SELECT t.tenant, t.name, t.version, t.default_locale, t.locales FROM json_each($1) j \
                     CROSS JOIN template_versions t ON t.tenant = j.value ->> 0 AND t.name = j.value ->> 1 \
                     AND t.version = j.value ->> 2",
                )
                .bind(json_list(templates.into_iter())?)
                .fetch_all(&mut *read)
                .await?;
                for row in rows {
                    sources.add_template(row)?;
                }
            }
        }
        if !wanted.events.is_empty() {
            let rows: Vec<outside::EventColumns> = sqlx::query_as(
                "SELECT e.tenant, e.id, e.kind, e.body FROM json_each($1) j \
                 CROSS JOIN events e ON e.tenant = j.value ->> 0 AND e.id = j.value ->> 1",
            )
            .bind(pairs(wanted.events.iter().map(|(tenant, id)| (tenant, id)))?)
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_event(row)?;
            }
        }
        if !wanted.endpoints.is_empty() {
            let keys = pairs(wanted.endpoints.iter().map(|(tenant, id)| (tenant, id)))?;
            let rows: Vec<outside::EndpointColumns> = sqlx::query_as(
                "SELECT e.tenant, e.id, e.url FROM json_each($1) j \
                 CROSS JOIN endpoints e ON e.tenant = j.value ->> 0 AND e.id = j.value ->> 1",
            )
            .bind(keys.as_str())
            .fetch_all(&mut *read)
            .await?;
            for row in rows {
                sources.add_endpoint(row)?;
            }
            let rows: Vec<outside::SecretColumns> = sqlx::query_as(
                "SELECT s.tenant, s.endpoint, s.id, s.sealed FROM json_each($1) j \
                 CROSS JOIN endpoint_secrets s ON s.tenant = j.value ->> 0 AND s.endpoint = j.value ->> 1 \
                 WHERE s.expires_at IS NULL OR s.expires_at > $2 ORDER BY s.created_at DESC, s.id DESC",
            )
            .bind(keys.as_str())
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
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(format!("SELECT {DETAIL} FROM deliveries d WHERE "));
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
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
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
    statement: &mut QueryBuilder<Sqlite>,
    tenant: &TenantId,
    filter: &DeadFilter,
) -> Result<(), StoreError> {
    statement
        .push("d.tenant = ")
        .push_bind(tenant.as_str().to_owned())
        .push(" AND d.state = 'dead' AND d.channel <> 'in_app'");
    if let Some(ids) = &filter.ids {
        statement
            .push(" AND d.id IN (SELECT value FROM json_each(")
            .push_bind(json_list(ids.iter())?)
            .push("))");
    }
    if let Some(channel) = &filter.channel {
        statement
            .push(" AND d.channel = ")
            .push_bind(channel.as_str().to_owned());
    }
    if let Some(reason) = &filter.reason {
        statement
            .push(" AND instr(d.reason, ")
            .push_bind(reason.clone())
            .push(") > 0");
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
