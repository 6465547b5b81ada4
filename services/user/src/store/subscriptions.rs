use std::collections::HashMap;

use async_trait::async_trait;
use carillon_domain::{ExternalUserId, TenantId, Timestamp, TopicName, UserId};
use carillon_sql::StoreError;

use super::{corrupt, external_id, user_id};
use crate::subscriptions::{Item, ItemOutcome};

/// Who is subscribed to which topic. Each method is one transaction.
#[async_trait]
pub(crate) trait SubscriptionStore: Send + Sync + 'static {
    /// Subscribes and unsubscribes users; one who is to be subscribed is made on first mention. Answers one outcome per
    /// item. Nobody gets more than `most` subscriptions.
    async fn change_subscriptions(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        items: &[Item],
        most: i64,
        now: Timestamp,
    ) -> Result<Vec<ItemOutcome>, StoreError>;

    /// Who is subscribed to a topic and since when, behind `after`, by internal id.
    async fn subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, StoreError>;

    /// As [`Self::subscribers`], with their names.
    async fn named_subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<NamedSubscriber>, StoreError>;

    /// What a user is subscribed to and since when, behind `after`, by name.
    async fn subscriptions(
        &self,
        tenant: &TenantId,
        user: UserId,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Result<Vec<(TopicName, Timestamp)>, StoreError>;
}

/// Somebody who is subscribed to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedSubscriber {
    pub(crate) id: UserId,
    pub(crate) user: ExternalUserId,
    pub(crate) since: Timestamp,
}

/// user_id, created_at
pub(super) type SubscriberRow = (String, i64);

pub(super) fn subscriber((user, at): SubscriberRow) -> Result<(UserId, Timestamp), StoreError> {
    Ok((user_id(&user)?, Timestamp::from_micros(at)))
}

/// user_id, external, created_at
pub(super) type NamedRow = (String, String, i64);

pub(super) fn named((id, user, at): NamedRow) -> Result<NamedSubscriber, StoreError> {
    Ok(NamedSubscriber {
        id: user_id(&id)?,
        user: external_id(&user)?,
        since: Timestamp::from_micros(at),
    })
}

/// topic, created_at
pub(super) type TopicRow = (String, i64);

pub(super) fn subscription((topic, at): TopicRow) -> Result<(TopicName, Timestamp), StoreError> {
    let topic = topic.parse().map_err(|_| corrupt("a topic"))?;
    Ok((topic, Timestamp::from_micros(at)))
}

/// How many subscriptions each has.
pub(super) fn counts(rows: Vec<(String, i64)>) -> Result<HashMap<UserId, i64>, StoreError> {
    rows.iter()
        .map(|(user, count)| Ok((user_id(user)?, *count)))
        .collect()
}
