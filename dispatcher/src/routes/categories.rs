use std::{collections::HashSet, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{Category, ChannelKind, Scope, Timestamp, ports::Unavailable};
use carillon_policy::{CategoryPolicy, Plan};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    categories::{CategoryRules, MOST},
    channels::KnownChannels,
    policy::fields,
    store::catalog::{CategoryRow, CategoryWrite, Put},
};

/// The name of the list, for its cursors.
const LIST: &str = "categories";
/// The most channels of a category, and of a request.
pub(crate) const MAX_CHANNELS: usize = 8;

/// A category to make or replace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CategoryRequest {
    /// What people call it: 1-256 bytes.
    title: Option<String>,
    /// Where its notifications go that name no channels: 1-8, without repeats. Either this or `plan`.
    #[schema(value_type = Vec<ChannelKind>, min_items = 1, max_items = 8)]
    channels: Option<Vec<String>>,
    /// In which order its notifications try channels that name neither channels nor a plan.
    plan: Option<Plan>,
    /// What holds for users who did not choose, and what they may choose.
    #[serde(default)]
    policy: CategoryPolicy,
    /// Whether its notifications pass over preferences, quiet hours, holds and caps.
    #[serde(default)]
    critical: bool,
}

/// A category.
#[derive(Serialize, ToSchema)]
pub(super) struct CategoryAnswer {
    name: Category,
    /// What people call it.
    #[schema(required)]
    title: Option<String>,
    /// With a plan, those that it names.
    channels: Vec<ChannelKind>,
    #[schema(required)]
    plan: Option<Plan>,
    policy: CategoryPolicy,
    /// Whether its notifications pass over preferences, quiet hours, holds and caps.
    critical: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl CategoryAnswer {
    fn of(row: CategoryRow) -> Result<Self, Problem> {
        let rules = CategoryRules::read(row.policy.as_deref()).map_err(Unavailable::from)?;
        Ok(Self {
            name: row.name,
            title: row.title,
            channels: row.channels,
            plan: rules.plan,
            policy: Arc::unwrap_or_clone(rules.policy),
            critical: rules.critical,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Makes or replaces a category: where its notifications go that name no channels, in which order, and what their
/// recipients may choose. Needs the scope `categories:write`.
#[utoipa::path(
    put,
    path = "/v1/categories/{name}",
    tag = "Notifications",
    params(("name" = Category, Path, description = "The category")),
    request_body = CategoryRequest,
    responses(
        (status = 200, description = "Replaced", body = CategoryAnswer),
        (status = 201, description = "Made", body = CategoryAnswer),
        (status = 409, description = "The tenant has 1,000 categories"),
        (status = 422, description = "The request does not fit, or names a channel that there is not"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<Category>,
    ApiJson(request): ApiJson<CategoryRequest>,
) -> Result<(StatusCode, Json<CategoryAnswer>), Problem> {
    require_scope(&principal, Scope::CategoriesWrite)?;
    let tenant = &principal.tenant;
    let known = dispatcher.channels.of(tenant).await?;
    let mut errors = Vec::new();
    if let Some(title) = &request.title
        && (!(1..=256).contains(&title.len()) || title.chars().any(char::is_control))
    {
        errors.push(FieldError::new(
            "/title",
            "must be one line of 1 to 256 bytes without control characters",
        ));
    }
    let channels = match (&request.channels, &request.plan) {
        (Some(names), None) => channels(&known, "", names, &mut errors),
        (None, Some(plan)) => {
            errors.extend(fields(plan.check(|kind| known.has(kind)), "/plan"));
            plan.channels().cloned().collect()
        }
        (Some(_), Some(_)) => {
            errors.push(FieldError::new(
                "/plan",
                "stands beside channels: one of both decides",
            ));
            Vec::new()
        }
        (None, None) => {
            errors.push(FieldError::new("/channels", "required, unless there is a plan"));
            Vec::new()
        }
    };
    errors.extend(fields(request.policy.check(), "/policy"));
    errors.extend(unknown(&known, request.policy.channels.keys(), "/policy"));
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let rules = CategoryRules {
        policy: Arc::new(request.policy),
        critical: request.critical,
        plan: request.plan,
    };
    let write = CategoryWrite {
        name: name.clone(),
        title: request.title,
        channels,
        // Of both, what a user chose is not asked for again before each attempt.
        mandatory: rules.critical || !rules.policy.may_turn_off,
        policy: Some(rules.write()?),
    };
    let status = match dispatcher.categories.put(tenant, &write).await? {
        Put::Made => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
        Put::Full => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "conflict",
                format!("A tenant has at most {MOST} categories."),
            ));
        }
    };
    let row = dispatcher.categories.get(tenant, &name).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    Ok((status, Json(CategoryAnswer::of(row)?)))
}

/// Shows a category. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/categories/{name}",
    tag = "Notifications",
    params(("name" = Category, Path, description = "The category")),
    responses(
        (status = 200, description = "The category", body = CategoryAnswer),
        (status = 404, description = "No such category: its notifications go to the inbox"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<Category>,
) -> Result<Json<CategoryAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let row = dispatcher.categories.get(&principal.tenant, &name).await?;
    CategoryAnswer::of(row.ok_or_else(Problem::not_found)?).map(Json)
}

/// Lists categories by name. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/categories",
    tag = "Notifications",
    params(Page),
    responses((status = 200, description = "The categories", body = Listing<CategoryAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<CategoryAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let after: Option<Category> = page.after(LIST)?;
    let rows = dispatcher
        .categories
        .list(&principal.tenant, after.as_ref(), page.fetch())
        .await?;
    let name = |row: &CategoryRow| row.name.clone();
    let listing = Listing::from_rows(LIST, &page, rows, name, CategoryAnswer::of);
    Ok(Json(Listing {
        data: listing.data.into_iter().collect::<Result<_, _>>()?,
        next: listing.next,
    }))
}

/// Removes a category: its notifications go to the inbox again. What was planned before is not touched. Needs the scope
/// `categories:write`.
#[utoipa::path(
    delete,
    path = "/v1/categories/{name}",
    tag = "Notifications",
    params(("name" = Category, Path, description = "The category")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such category"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<Category>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::CategoriesWrite)?;
    if dispatcher.categories.delete(&principal.tenant, &name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Those of the channels that a policy at `at` names which do not exist.
pub(super) fn unknown<'a>(
    known: &KnownChannels,
    named: impl Iterator<Item = &'a ChannelKind>,
    at: &str,
) -> Vec<FieldError> {
    named
        .filter(|kind| !known.has(kind))
        .map(|kind| FieldError::new(format!("{at}/channels/{kind}"), "there is no such channel"))
        .collect()
}

/// The channels that a request names below `{at}/channels`, or what is wrong with them.
pub(crate) fn channels(
    known: &KnownChannels,
    at: &str,
    names: &[String],
    errors: &mut Vec<FieldError>,
) -> Vec<ChannelKind> {
    if !(1..=MAX_CHANNELS).contains(&names.len()) {
        errors.push(FieldError::new(
            format!("{at}/channels"),
            "must have 1 to 8 items",
        ));
        return Vec::new();
    }
    let mut seen = HashSet::with_capacity(names.len());
    let mut channels = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("{at}/channels/{index}");
        match name.parse::<ChannelKind>() {
            Err(error) => errors.push(FieldError::new(pointer, error.0)),
            Ok(kind) if !known.has(&kind) => errors.push(FieldError::new(
                pointer,
                "there is no such channel: none is configured, and no worker announced it",
            )),
            Ok(kind) if !seen.insert(kind.clone()) => {
                errors.push(FieldError::new(pointer, "repeats an earlier one"));
            }
            Ok(kind) => channels.push(kind),
        }
    }
    channels
}
