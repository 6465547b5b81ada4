//! Stored subscriptions to topics.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    ExternalUserId, Scope, Timestamp, TopicName, UserId,
    ports::{Directory as _, Unavailable},
};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::acting::{Acting, acting, readable_by};
use crate::{
    Users,
    subscriptions::{Item, ItemOutcome, MAX_SUBSCRIPTIONS},
};

/// The names of the lists, for their cursors.
const OF_TOPIC: &str = "topic_subscriptions";
const OF_USER: &str = "user_subscriptions";

/// The most items of a request.
const MAX_ITEMS: usize = 1_000;

/// Users to subscribe and to unsubscribe.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionsRequest {
    /// Applied one after the other, all or none.
    #[schema(min_items = 1, max_items = 1_000)]
    items: Vec<ItemRequest>,
}

/// One of them.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemRequest {
    /// `{"subscribe": "ada"}`
    Subscribe(ExternalUserId),
    /// `{"unsubscribe": "ada"}`
    Unsubscribe(ExternalUserId),
}

/// What became of the items.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionsAnswer {
    /// One per item, in their order.
    items: Vec<ItemAnswer>,
}

/// What became of one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemAnswer {
    /// Whom it named.
    user: ExternalUserId,
    /// What it led to.
    outcome: ItemOutcome,
}

/// Somebody who is subscribed to a topic.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriberAnswer {
    /// The tenant's own id.
    user: ExternalUserId,
    /// Since when.
    created_at: Timestamp,
}

/// A topic that a user is subscribed to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionAnswer {
    /// The topic.
    topic: TopicName,
    /// Since when.
    created_at: Timestamp,
}

/// Subscribes a user to a topic, connected or not: what is sent to it comes into his inbox as well. The user's own token
/// does where it grants the topic, or the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/topics/{name}/subscriptions/{user}",
    tag = "Topics",
    params(
        ("name" = TopicName, Path, description = "The topic"),
        ("user" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
    ),
    responses(
        (status = 204, description = "Is subscribed"),
        (status = 403, description = "Another user's token, one that does not grant the topic, or a key without the scope"),
        (status = 409, description = "The user has 10,000 subscriptions"),
    ),
)]
pub(crate) async fn subscribe(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((topic, user)): IdPath<(TopicName, ExternalUserId)>,
) -> Result<StatusCode, Problem> {
    if let Acting::Himself(caller) = acting(&principal, &user, Scope::UsersWrite)?
        && !caller.topics.may_subscribe(&topic)
    {
        return Err(Problem::forbidden("The token does not grant this topic."));
    }
    let item = Item {
        user,
        subscribe: true,
    };
    let now = users.clock.now();
    let outcomes = users
        .store
        .change_subscriptions(&principal.tenant, &topic, &[item], MAX_SUBSCRIPTIONS, now)
        .await;
    match outcomes.map_err(Unavailable::from)?.first() {
        Some(ItemOutcome::Full) => Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "A user has at most 10,000 subscriptions.",
        )),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Ends a user's subscription to a topic. The user's own token does, or the scope `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/topics/{name}/subscriptions/{user}",
    tag = "Topics",
    params(
        ("name" = TopicName, Path, description = "The topic"),
        ("user" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
    ),
    responses(
        (status = 204, description = "Is not subscribed"),
        (status = 403, description = "Another user's token, or a key without the scope"),
    ),
)]
pub(crate) async fn unsubscribe(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((topic, user)): IdPath<(TopicName, ExternalUserId)>,
) -> Result<StatusCode, Problem> {
    acting(&principal, &user, Scope::UsersWrite)?;
    let item = Item {
        user,
        subscribe: false,
    };
    let now = users.clock.now();
    let outcomes = users
        .store
        .change_subscriptions(&principal.tenant, &topic, &[item], MAX_SUBSCRIPTIONS, now)
        .await;
    outcomes.map_err(Unavailable::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Subscribes and unsubscribes many users. Needs the scope `users:write`.
#[utoipa::path(
    post,
    path = "/v1/topics/{name}/subscriptions",
    tag = "Topics",
    params(("name" = TopicName, Path, description = "The topic")),
    request_body = SubscriptionsRequest,
    responses(
        (status = 200, description = "What became of each", body = SubscriptionsAnswer),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 422, description = "The request does not fit; nothing was changed"),
    ),
)]
pub(crate) async fn change(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(topic): IdPath<TopicName>,
    ApiJson(request): ApiJson<SubscriptionsRequest>,
) -> Result<Json<SubscriptionsAnswer>, Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    if !matches!(request.items.len(), 1..=MAX_ITEMS) {
        return Err(Problem::field("/items", "must have 1 to 1000 items"));
    }
    let items: Vec<Item> = request
        .items
        .into_iter()
        .map(|item| match item {
            ItemRequest::Subscribe(user) => Item {
                user,
                subscribe: true,
            },
            ItemRequest::Unsubscribe(user) => Item {
                user,
                subscribe: false,
            },
        })
        .collect();
    let now = users.clock.now();
    let outcomes = users
        .store
        .change_subscriptions(&principal.tenant, &topic, &items, MAX_SUBSCRIPTIONS, now)
        .await;
    let outcomes = outcomes.map_err(Unavailable::from)?;
    let items = items.into_iter().zip(outcomes);
    Ok(Json(SubscriptionsAnswer {
        items: items
            .map(|(item, outcome)| ItemAnswer {
                user: item.user,
                outcome,
            })
            .collect(),
    }))
}

/// Lists who is subscribed to a topic. Needs the scope `users:write` or `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/topics/{name}/subscriptions",
    tag = "Topics",
    params(("name" = TopicName, Path, description = "The topic"), Page),
    responses(
        (status = 200, description = "A page of subscribers", body = Listing<SubscriberAnswer>),
        (status = 403, description = "Not an API key with one of the scopes"),
    ),
)]
pub(crate) async fn of_topic(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(topic): IdPath<TopicName>,
    page: Page,
) -> Result<Json<Listing<SubscriberAnswer>>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let after = page.after::<UserId>(OF_TOPIC)?;
    let rows = users
        .store
        .named_subscribers(&principal.tenant, &topic, after, page.fetch() as usize)
        .await;
    let rows = rows.map_err(Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        OF_TOPIC,
        &page,
        rows,
        |row| row.id,
        |row| SubscriberAnswer {
            user: row.user,
            created_at: row.since,
        },
    )))
}

/// Lists what a user is subscribed to, by name. The user's own token does, or one of the scopes `users:write` and
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/subscriptions",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"), Page),
    responses(
        (status = 200, description = "A page of topics", body = Listing<SubscriptionAnswer>),
        (status = 403, description = "Another user's token, or a key without one of the scopes"),
        (status = 404, description = "No such user"),
    ),
)]
pub(crate) async fn of_user(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    page: Page,
) -> Result<Json<Listing<SubscriptionAnswer>>, Problem> {
    acting(&principal, &user, readable_by(&principal))?;
    let after = page.after::<TopicName>(OF_USER)?;
    let known = users.find(&principal.tenant, &user).await?;
    let known = known.ok_or_else(Problem::not_found)?;
    let rows = users
        .store
        .subscriptions(&principal.tenant, known, after.as_ref(), page.fetch() as usize)
        .await;
    let rows = rows.map_err(Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        OF_USER,
        &page,
        rows,
        |(topic, _)| topic.clone(),
        |(topic, created_at)| SubscriptionAnswer { topic, created_at },
    )))
}
