//! Segments: saved filters over users.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{ExternalUserId, Scope, SegmentName, Timestamp, ports::Unavailable};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{acting::readable_by, devices::is_line};
use crate::{
    Users,
    filter::Filter,
    segments::{MAX_SEGMENTS, PREVIEW},
    store::{Put, SegmentRow, SegmentWrite},
};

/// The name of the list, for its cursors.
const LIST: &str = "segments";

/// The longest title, in bytes.
const MAX_TITLE: usize = 256;

/// The longest filter, encoded, in bytes.
const MAX_FILTER: usize = 16 * 1024;

/// A segment to make or replace.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentRequest {
    /// What people call it: 1-256 bytes.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    title: Option<String>,
    /// Whom it holds: `{"all": [..]}`, `{"any": [..]}`, `{"not": ..}`, or a term such as
    /// `{"attribute": "plan", "is": "pro"}`; at most 64 terms and 8 deep. See `docs/users.md`.
    #[schema(value_type = Object, example = json!({"attribute": "plan", "is": "pro"}))]
    filter: Value,
}

/// A segment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SegmentAnswer {
    name: SegmentName,
    /// What people call it.
    #[schema(required)]
    title: Option<String>,
    /// Whom it holds.
    #[schema(value_type = Object)]
    filter: Value,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<SegmentRow> for SegmentAnswer {
    fn from(row: SegmentRow) -> Self {
        Self {
            name: row.name,
            title: row.title,
            filter: row.filter,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// How many users a segment holds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CountAnswer {
    /// How many of those that were looked at.
    count: u64,
    /// How many were looked at.
    scanned: u64,
    /// Whether these were all users.
    complete: bool,
}

/// Some of the users whom a segment holds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PreviewAnswer {
    /// The first, at most 20, by when they were first mentioned.
    users: Vec<ExternalUserId>,
    /// How many were looked at.
    scanned: u64,
    /// Whether these are the first indeed: `false` when the look ended before 20 were found or all were looked at.
    complete: bool,
}

/// Makes or replaces a segment. Needs the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/segments/{name}",
    tag = "Users",
    params(("name" = SegmentName, Path, description = "The segment")),
    request_body = SegmentRequest,
    responses(
        (status = 200, description = "Replaced", body = SegmentAnswer),
        (status = 201, description = "Made", body = SegmentAnswer),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 409, description = "The tenant has 1,000 segments"),
        (status = 422, description = "The filter is none; each fault is named by its place"),
    ),
)]
pub(crate) async fn put(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SegmentName>,
    ApiJson(request): ApiJson<SegmentRequest>,
) -> Result<(StatusCode, Json<SegmentAnswer>), Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    let mut errors = Vec::new();
    if request
        .title
        .as_ref()
        .is_some_and(|title| !is_line(title, MAX_TITLE))
    {
        errors.push(FieldError::new(
            "/title",
            "must be one line of 1 to 256 bytes without control characters",
        ));
    }
    if request.filter.to_string().len() > MAX_FILTER {
        errors.push(FieldError::new("/filter", "a filter is at most 16 KiB"));
    } else if let Err(faults) = Filter::read(&request.filter, "/filter") {
        errors.extend(faults);
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let tenant = &principal.tenant;
    let write = SegmentWrite {
        name: name.clone(),
        title: request.title,
        filter: request.filter,
    };
    let now = users.clock.now();
    let put = users.store.put_segment(tenant, &write, MAX_SEGMENTS, now).await;
    let status = match put.map_err(Unavailable::from)? {
        Put::Made => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
        Put::Full => {
            let detail = format!("A tenant has at most {MAX_SEGMENTS} segments.");
            return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail));
        }
    };
    let row = users
        .store
        .segment(tenant, &name)
        .await
        .map_err(Unavailable::from)?;
    let row = row.ok_or_else(Problem::not_found)?;
    Ok((status, Json(row.into())))
}

/// Shows a segment. Needs the scope `users:write` or `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/segments/{name}",
    tag = "Users",
    params(("name" = SegmentName, Path, description = "The segment")),
    responses(
        (status = 200, description = "The segment", body = SegmentAnswer),
        (status = 403, description = "Not an API key with one of the scopes"),
        (status = 404, description = "No such segment"),
    ),
)]
pub(crate) async fn show(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SegmentName>,
) -> Result<Json<SegmentAnswer>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let row = users.store.segment(&principal.tenant, &name).await;
    let row = row.map_err(Unavailable::from)?.ok_or_else(Problem::not_found)?;
    Ok(Json(row.into()))
}

/// Lists segments by name. Needs the scope `users:write` or `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/segments",
    tag = "Users",
    params(Page),
    responses(
        (status = 200, description = "A page of segments", body = Listing<SegmentAnswer>),
        (status = 403, description = "Not an API key with one of the scopes"),
    ),
)]
pub(crate) async fn list(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<SegmentAnswer>>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let after = page.after::<SegmentName>(LIST)?;
    let rows = users
        .store
        .segments(&principal.tenant, after.as_ref(), page.fetch() as usize)
        .await;
    let rows = rows.map_err(Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.name.clone(),
        SegmentAnswer::from,
    )))
}

/// Removes a segment: it holds nobody from then on. Needs the scope `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/segments/{name}",
    tag = "Users",
    params(("name" = SegmentName, Path, description = "The segment")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 404, description = "No such segment"),
    ),
)]
pub(crate) async fn remove(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SegmentName>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    let gone = users.store.remove_segment(&principal.tenant, &name).await;
    if gone.map_err(Unavailable::from)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Counts the users whom a segment holds now, within bounds of time and rows. Needs the scope `users:write` or
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/segments/{name}/count",
    tag = "Users",
    params(("name" = SegmentName, Path, description = "The segment")),
    responses(
        (status = 200, description = "How many", body = CountAnswer),
        (status = 403, description = "Not an API key with one of the scopes"),
        (status = 404, description = "No such segment"),
    ),
)]
pub(crate) async fn count(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SegmentName>,
) -> Result<Json<CountAnswer>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let filter = users.filter(&principal.tenant, &name).await?;
    let filter = filter.ok_or_else(Problem::not_found)?;
    let look = users.look(&principal.tenant, &filter, None).await?;
    Ok(Json(CountAnswer {
        count: look.count,
        scanned: look.scanned,
        complete: look.complete,
    }))
}

/// Shows the first users whom a segment holds now, within bounds of time and rows. Needs the scope `users:write` or
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/segments/{name}/preview",
    tag = "Users",
    params(("name" = SegmentName, Path, description = "The segment")),
    responses(
        (status = 200, description = "The first, at most 20", body = PreviewAnswer),
        (status = 403, description = "Not an API key with one of the scopes"),
        (status = 404, description = "No such segment"),
    ),
)]
pub(crate) async fn preview(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SegmentName>,
) -> Result<Json<PreviewAnswer>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let filter = users.filter(&principal.tenant, &name).await?;
    let filter = filter.ok_or_else(Problem::not_found)?;
    let look = users.look(&principal.tenant, &filter, Some(PREVIEW)).await?;
    Ok(Json(PreviewAnswer {
        users: look.first,
        scanned: look.scanned,
        complete: look.complete,
    }))
}
