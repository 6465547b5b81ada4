use std::collections::HashMap;

use carillon_domain::{ChannelKind, DeliveryId, NotificationId, NotificationState, TenantId, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection};

use super::{SqliteStore, keys::json_list};
use crate::store::{
    outside,
    records::{NotificationQuery, NotificationRow, RecipientDetail},
    rows::{self, word},
};

impl SqliteStore {
    pub(super) async fn notification(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM notifications n WHERE n.tenant = $1 AND n.id = $2",
            rows::NOTIFICATION
        );
        let row: Option<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *read)
            .await?;
        row.map(rows::notification).transpose()
    }

    pub(super) async fn recipients(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<RecipientDetail>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM recipients r LEFT JOIN mailboxes m ON m.tenant = r.tenant AND m.user_id = r.user_id \
             LEFT JOIN climbs c ON c.tenant = r.tenant AND c.notification = r.notification AND c.user_id = r.user_id \
             WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id > $3 ORDER BY r.user_id LIMIT $4",
            rows::RECIPIENT
        );
        let rows: Vec<rows::RecipientColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .bind(after.map_or_else(String::new, |user| user.to_string()))
            .bind(i64::from(limit))
            .fetch_all(&mut *read)
            .await?;
        details(&mut read, tenant, id, rows).await
    }

    pub(super) async fn notifications(
        &self,
        tenant: &TenantId,
        query: &NotificationQuery,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(format!("SELECT {} FROM ", rows::NOTIFICATION));
        match query.user {
            None => statement.push("notifications n WHERE n.tenant = ").push_bind(tenant.as_str()),
            Some(user) => statement
                .push(
                    "recipients r CROSS JOIN notifications n ON n.tenant = r.tenant AND n.id = r.notification \
                     WHERE r.tenant = ",
                )
                .push_bind(tenant.as_str())
                .push(" AND r.user_id = ")
                .push_bind(user.to_string()),
        };
        let id = if query.user.is_some() {
            "r.notification"
        } else {
            "n.id"
        };
        if let Some(before) = query.before {
            statement
                .push(format!(" AND {id} < "))
                .push_bind(before.to_string());
        }
        if let Some(state) = query.state {
            statement.push(" AND n.state = ").push_bind(state.as_str());
            if state != NotificationState::Planned {
                // So that the index of the few that are not planned serves.
                statement.push(" AND n.state <> 'planned'");
            }
        }
        if let Some(category) = &query.category {
            statement.push(" AND n.category = ").push_bind(category.as_str());
        }
        statement
            .push(format!(" ORDER BY {id} DESC LIMIT "))
            .push_bind(i64::from(query.limit));
        let rows: Vec<rows::NotificationColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(rows::notification).collect()
    }
}

/// Recipients with their deliveries, attempts, decisions and receipts.
pub(super) async fn details(
    read: &mut SqliteConnection,
    tenant: &TenantId,
    id: NotificationId,
    rows: Vec<rows::RecipientColumns>,
) -> Result<Vec<RecipientDetail>, StoreError> {
    let mut details = rows
        .into_iter()
        .map(rows::recipient)
        .collect::<Result<Vec<_>, _>>()?;
    let users = json_list(details.iter().map(|detail| detail.user))?;
    let places: HashMap<UserId, usize> = details
        .iter()
        .enumerate()
        .map(|(index, detail)| (detail.user, index))
        .collect();
    let place = |user: &str| word::<UserId>(user).map(|user| places.get(&user).copied().unwrap_or(0));
    let statement = format!(
        "SELECT {} FROM deliveries d LEFT JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id \
         WHERE d.tenant = $1 AND d.notification = $2 AND d.user_id IN (SELECT value FROM json_each($3)) \
         ORDER BY d.user_id, d.step, d.channel, d.address",
        rows::DELIVERY
    );
    let deliveries: Vec<rows::DeliveryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(users.as_str())
        .fetch_all(&mut *read)
        .await?;
    let mut tried: HashMap<DeliveryId, (usize, usize)> = HashMap::new();
    for row in deliveries {
        let place = place(&row.0)?;
        let delivery = rows::delivery(row)?;
        if delivery.channel != ChannelKind::IN_APP {
            tried.insert(delivery.id, (place, details[place].deliveries.len()));
        }
        details[place].deliveries.push(delivery);
    }
    if !tried.is_empty() {
        let attempts: Vec<outside::AttemptOfColumns> = sqlx::query_as(
            "SELECT a.delivery, a.number, a.operation, a.started_at, a.ended_at, a.outcome, a.status, a.reason, \
             a.excerpt, a.next_at FROM attempts a WHERE a.tenant = $1 AND a.delivery IN (SELECT value FROM json_each($2)) \
             AND a.number > (SELECT MAX(l.number) FROM attempts l WHERE l.tenant = a.tenant \
             AND l.delivery = a.delivery) - $3 ORDER BY a.delivery, a.number",
        )
        .bind(tenant.as_str())
        .bind(json_list(tried.keys())?)
        .bind(rows::SHOWN_ATTEMPTS)
        .fetch_all(&mut *read)
        .await?;
        for row in attempts {
            let (delivery, attempt) = outside::attempt_of(row)?;
            if let Some((place, index)) = tried.get(&delivery) {
                details[*place].deliveries[*index].add(attempt);
            }
        }
    }
    let decisions: Vec<rows::DecisionColumns> = sqlx::query_as(
        "SELECT user_id, at, kind, step, body FROM decisions \
         WHERE tenant = $1 AND notification = $2 AND user_id IN (SELECT value FROM json_each($3)) \
         ORDER BY user_id, number",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(users.as_str())
    .fetch_all(&mut *read)
    .await?;
    for row in decisions {
        let place = place(&row.0)?;
        details[place].decisions.push(rows::decision(row)?);
    }
    let receipts: Vec<rows::ReceiptColumns> = sqlx::query_as(
        "SELECT user_id, kind, at, device, channel FROM receipts \
         WHERE tenant = $1 AND notification = $2 AND user_id IN (SELECT value FROM json_each($3)) \
         ORDER BY user_id, at, kind, channel, device",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(users.as_str())
    .fetch_all(&mut *read)
    .await?;
    for row in receipts {
        let place = place(&row.0)?;
        details[place].receipts.push(rows::receipt(row)?);
    }
    let confirmed: Vec<rows::ConfirmedColumns> = sqlx::query_as(
        "SELECT r.user_id, c.device, MIN(c.at) FROM recipients r CROSS JOIN confirmations c \
         ON c.tenant = r.tenant AND c.user_id = r.user_id AND c.seq >= r.seq \
         WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id IN (SELECT value FROM json_each($3)) \
         GROUP BY r.user_id, c.device ORDER BY r.user_id, MIN(c.at)",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(users.as_str())
    .fetch_all(&mut *read)
    .await?;
    for row in confirmed {
        let place = place(&row.0)?;
        details[place].confirmed.push(rows::confirmed(row)?);
    }
    Ok(details)
}
