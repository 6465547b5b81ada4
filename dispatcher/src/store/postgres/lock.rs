use std::collections::HashSet;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::store::{
    ledger::TopicKey,
    records::{MailboxRow, TopicRow, UserKey},
    rows,
};

/// A row that somebody removed while we waited for it is made again; more often than this it cannot happen by chance.
const TURNS: usize = 8;

/// Locks the mailboxes, making those that do not exist yet: a row that is not there cannot be locked.
pub(super) async fn mailboxes(
    tx: &mut PgConnection,
    store: &str,
    users: &HashSet<UserKey>,
) -> Result<Vec<MailboxRow>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted: Vec<&UserKey> = users.iter().collect();
    wanted.sort_unstable();
    let statement = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j (tenant, user_id) \
         JOIN mailboxes m ON m.tenant = j.tenant AND m.user_id = j.user_id \
         ORDER BY m.tenant COLLATE \"C\", m.user_id COLLATE \"C\" FOR UPDATE OF m",
        rows::MAILBOX
    );
    let tenants: Vec<&str> = wanted.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let names: Vec<String> = wanted.iter().map(|(_, user)| user.to_string()).collect();
    let epochs: Vec<String> = wanted
        .iter()
        .map(|(tenant, user)| Ok(rows::new_mailbox(store, tenant, *user)?.epoch.to_string()))
        .collect::<Result<_, StoreError>>()?;
    for _ in 0..TURNS {
        sqlx::query(
            "INSERT INTO mailboxes (tenant, user_id, epoch, last_seq, floor_seq, total, unread, unseen) \
             SELECT tenant, user_id, epoch, 0, 0, 0, 0, 0 \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j (tenant, user_id, epoch) \
             WHERE NOT EXISTS (SELECT 1 FROM mailboxes m WHERE m.tenant = j.tenant AND m.user_id = j.user_id) \
             ORDER BY tenant COLLATE \"C\", user_id COLLATE \"C\" ON CONFLICT DO NOTHING",
        )
        .bind(&tenants)
        .bind(&names)
        .bind(&epochs)
        .execute(&mut *tx)
        .await?;
        let found: Vec<rows::MailboxColumns> = sqlx::query_as(AssertSqlSafe(statement.clone()))
            .bind(&tenants)
            .bind(&names)
            .fetch_all(&mut *tx)
            .await?;
        if found.len() == wanted.len() {
            return found.into_iter().map(rows::mailbox).collect();
        }
    }
    Err(StoreError::Corrupt(
        "mailboxes vanish as soon as they are made".to_owned(),
    ))
}

/// Locks the topics, making those that do not exist yet.
pub(super) async fn topics(
    tx: &mut PgConnection,
    now: Timestamp,
    keys: &HashSet<TopicKey>,
) -> Result<Vec<TopicRow>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted: Vec<&TopicKey> = keys.iter().collect();
    wanted.sort_unstable();
    let statement = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j (tenant, topic) \
         JOIN topics t ON t.tenant = j.tenant AND t.topic = j.topic \
         ORDER BY t.tenant COLLATE \"C\", t.topic COLLATE \"C\" FOR UPDATE OF t",
        rows::TOPIC
    );
    let tenants: Vec<&str> = wanted.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let names: Vec<&str> = wanted.iter().map(|(_, topic)| topic.as_str()).collect();
    let epochs: Vec<String> = wanted
        .iter()
        .map(|(tenant, topic)| rows::new_topic(now, tenant, topic).epoch.to_string())
        .collect();
    for _ in 0..TURNS {
        sqlx::query(
            "INSERT INTO topics (tenant, topic, epoch, last_seq, floor_seq, used_at) \
             SELECT tenant, topic, epoch, 0, 0, $4 \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j (tenant, topic, epoch) \
             WHERE NOT EXISTS (SELECT 1 FROM topics t WHERE t.tenant = j.tenant AND t.topic = j.topic) \
             ORDER BY tenant COLLATE \"C\", topic COLLATE \"C\" ON CONFLICT DO NOTHING",
        )
        .bind(&tenants)
        .bind(&names)
        .bind(&epochs)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let found: Vec<rows::TopicColumns> = sqlx::query_as(AssertSqlSafe(statement.clone()))
            .bind(&tenants)
            .bind(&names)
            .fetch_all(&mut *tx)
            .await?;
        if found.len() == wanted.len() {
            return found.into_iter().map(rows::topic).collect();
        }
    }
    Err(StoreError::Corrupt(
        "topics vanish as soon as they are made".to_owned(),
    ))
}
