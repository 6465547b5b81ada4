//! Counts of what became of notifications.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use carillon_domain::{Category, ChannelKind, NotificationId, Scope, Timestamp, ports::Unavailable};
use carillon_runtime::http::{ApiQuery, Caller, Page, Problem, encode_cursor, require_scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    analytics::{GroupBy, Key, Totals, add},
    store::analytics::{CountedNotification, CountedQuery},
};

/// The name of the counts, for their cursors.
const LIST: &str = "analytics";
/// The window where none is given.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest window.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// Notifications that one look counts at the most.
const PAGE: u32 = 200;
/// Notifications that one answer counts at the most.
const MOST_NOTIFICATIONS: usize = 10_000;
/// Notifications that one look, and one answer, passes over at the most where those of a category are counted.
const LOOK: u32 = 2_000;
const MOST_LOOKED_AT: usize = 100_000;
/// Recipients that one look, and one answer, counts at the most; a single notification is counted whole.
const MOST_RECIPIENTS: u64 = 200_000;
/// Counts that one answer has, about.
const MOST_COUNTS: usize = 1_000;

/// What is counted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AnalyticsFilter {
    /// Notifications accepted from then on; a day before `to` unless given.
    from: Option<Timestamp>,
    /// Notifications accepted before then; now unless given. At most 31 days after `from`.
    to: Option<Timestamp>,
    /// `hour`, `category`, `channel` and `notification`, with commas between them; the first three unless given.
    group_by: Option<String>,
    /// Only of this category.
    #[param(value_type = Option<String>)]
    category: Option<Category>,
    /// Only over this channel.
    #[param(value_type = Option<String>)]
    channel: Option<ChannelKind>,
    /// Only this notification, whenever it was accepted.
    #[param(value_type = Option<String>)]
    notification: Option<NotificationId>,
    /// `next` of the answer before.
    cursor: Option<String>,
}

/// What became of notifications, counted.
#[derive(Serialize, ToSchema)]
#[schema(as = Analytics)]
pub(super) struct AnalyticsAnswer {
    /// Notifications accepted from then on.
    from: Timestamp,
    /// And before then.
    to: Timestamp,
    data: Vec<CountsAnswer>,
    /// How many notifications were counted here.
    notifications: u64,
    /// Where counting goes on: what the next answer says is to be added to this one. Null once all are counted.
    #[schema(required)]
    next: Option<String>,
}

/// What became of some of them. What it is not grouped by is absent.
#[derive(Serialize, ToSchema)]
#[schema(as = AnalyticsGroup)]
struct CountsAnswer {
    /// The beginning of the hour in which they were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_id: Option<NotificationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    category: Option<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(flatten)]
    counts: Totals,
}

/// Counts what became of notifications by the hour in which they were accepted, category and channel: from the rows that say
/// so, so that it is exact at any moment. What became of deliveries counts them, what people did counts people. Needs the scope
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/analytics",
    tag = "Notifications",
    params(AnalyticsFilter),
    responses(
        (status = 200, description = "The counts", body = AnalyticsAnswer),
        (status = 400, description = "No such window or group"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiQuery(filter): ApiQuery<AnalyticsFilter>,
) -> Result<Json<AnalyticsAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let bad = Problem::malformed_query;
    let to = filter.to.unwrap_or_else(|| dispatcher.ports.clock.now());
    let from = filter.from.unwrap_or_else(|| to.before(WINDOW));
    if from >= to || to.since(from) > LONGEST {
        return Err(bad("from", "must be before `to`, by 31 days at the most"));
    }
    let by = match filter.group_by.as_deref() {
        None => GroupBy::default(),
        Some(text) => GroupBy::parse(text).ok_or_else(|| {
            bad(
                "group_by",
                "expected hour, category, channel or notification, with commas",
            )
        })?,
    };
    let page = Page {
        limit: PAGE,
        cursor: filter.cursor,
    };
    let mut query = CountedQuery {
        from,
        to,
        only: filter.notification,
        after: page.after(LIST)?,
        limit: if filter.category.is_some() { LOOK } else { PAGE },
    };
    let channel = filter.channel.as_ref().map(ChannelKind::as_str);
    let (store, tenant) = (&dispatcher.store, &principal.tenant);
    let mut totals: BTreeMap<Key, Totals> = BTreeMap::new();
    let (mut notifications, mut looked_at, mut recipients) = (0_usize, 0_usize, 0_u64);
    let next = loop {
        let mut page = store.to_count(tenant, &query).await.map_err(Unavailable::from)?;
        let last = page.len() < query.limit as usize;
        let end = page.last().map(|notification| notification.id);
        looked_at += page.len();
        if let Some(category) = &filter.category {
            page.retain(|notification| notification.category == *category);
        }
        let (fits, width) = fitting(&page);
        let whole = fits == page.len();
        page.truncate(fits);
        let end = if whole {
            end
        } else {
            page.last().map(|notification| notification.id)
        };
        let last = last && whole;
        let ids: Vec<NotificationId> = page.iter().map(|notification| notification.id).collect();
        if !ids.is_empty() {
            let counted = store.count(tenant, &ids).await.map_err(Unavailable::from)?;
            add(&mut totals, by, channel, &page, &counted);
        }
        query.after = end.or(query.after);
        notifications += page.len();
        recipients += width;
        if last {
            break None;
        }
        let enough = notifications >= MOST_NOTIFICATIONS || looked_at >= MOST_LOOKED_AT;
        if enough || recipients >= MOST_RECIPIENTS || totals.len() >= MOST_COUNTS {
            break query.after.map(|after| encode_cursor(LIST, &after));
        }
    };
    Ok(Json(AnalyticsAnswer {
        from,
        to,
        data: totals.into_iter().map(CountsAnswer::from).collect(),
        notifications: notifications as u64,
        next,
    }))
}

/// How many of the first are counted in one look, and how many recipients they have: one at the least.
fn fitting(page: &[CountedNotification]) -> (usize, u64) {
    let mut width = 0;
    for (index, notification) in page.iter().enumerate() {
        let more = width + notification.recipients;
        if index > 0 && more > MOST_RECIPIENTS {
            return (index, width);
        }
        width = more;
    }
    (page.len(), width)
}

impl From<(Key, Totals)> for CountsAnswer {
    fn from((key, counts): (Key, Totals)) -> Self {
        Self {
            hour: key.hour,
            notification_id: key.notification,
            category: key.category,
            channel: key.channel,
            counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(recipients: &[u64]) -> Vec<CountedNotification> {
        let with = |recipients: &u64| CountedNotification {
            id: NotificationId::at(Timestamp::from_seconds(1)),
            category: Category::default(),
            recipients: *recipients,
        };
        recipients.iter().map(with).collect()
    }

    #[test]
    fn one_look_counts_so_many_recipients_and_one_notification_at_the_least() {
        assert_eq!(fitting(&page(&[])), (0, 0));
        assert_eq!(fitting(&page(&[1_000; 200])), (200, 200_000));
        assert_eq!(fitting(&page(&[1_000; 201])), (200, 200_000));
        assert_eq!(fitting(&page(&[1_000_000, 1])), (1, 1_000_000));
        assert_eq!(fitting(&page(&[1, 1_000_000, 1])), (1, 1));
    }
}
