use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Category, Counts, DeviceName, Entry, EntryId, Position, Timestamp, ports::Unavailable,
};
use carillon_runtime::http::{
    ApiJson, ApiQuery, Caller, IdPath, Page, Paged, Problem, encode_cursor, require_user,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    store::{
        EntryAction, EntryQuery, EntryRow, MailboxCommand, MailboxReply, Operation, OperationResult, View,
        Which,
    },
    validation::MAX_AHEAD,
    wire::EntryBody,
};

/// The name of the list of entries, for its cursors.
const LIST: &str = "inbox";

/// Which entries are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListFilter {
    /// `inbox` (default), `archived`, `snoozed` or `all`.
    #[serde(default)]
    #[param(inline)]
    view: View,
    /// Only those not read.
    #[serde(default)]
    unread: bool,
    /// Only of this category.
    #[param(value_type = Option<String>)]
    category: Option<Category>,
}

/// The device that does it.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OnDevice {
    /// Its name, when the token names none.
    #[param(value_type = Option<String>)]
    device: Option<DeviceName>,
}

/// A page of the inbox, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct InboxAnswer {
    #[schema(value_type = Vec<Entry>)]
    data: Vec<Box<RawValue>>,
    /// The cursor of the next page; null on the last.
    #[schema(required)]
    next: Option<String>,
    /// A stream that starts here misses nothing.
    position: Position,
    counts: Counts,
}

/// The mailbox after a change.
#[derive(Serialize, ToSchema)]
pub(super) struct MailboxAnswer {
    position: Position,
    counts: Counts,
}

/// Until when an entry is hidden.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnoozeRequest {
    /// In the future, at most 366 days ahead.
    until: Timestamp,
}

/// Which entries become read.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReadAllRequest {
    /// Only of this category.
    category: Option<Category>,
    /// Only those that arrived up to here.
    before: Option<Position>,
}

/// Lists the caller's entries, newest first.
#[utoipa::path(
    get,
    path = "/v1/inbox",
    tag = "Inbox",
    params(Page, ListFilter),
    responses((status = 200, description = "The entries", body = InboxAnswer)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, filter): Paged<ListFilter>,
) -> Result<Json<InboxAnswer>, Problem> {
    let user = require_user(&principal)?.id;
    let query = EntryQuery {
        view: filter.view,
        unread: filter.unread,
        category: filter.category,
        before: page.after(LIST)?,
        limit: page.fetch(),
    };
    // The position first: what changes until the entries are read comes twice rather than never.
    let (position, counts) = dispatcher
        .store
        .mailbox(&principal.tenant, user)
        .await
        .map_err(Unavailable::from)?;
    let mut rows = dispatcher
        .store
        .entries(&principal.tenant, user, &query)
        .await
        .map_err(Unavailable::from)?;
    let more = rows.len() > page.limit as usize;
    rows.truncate(page.limit as usize);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|row| encode_cursor(LIST, &row.seq));
    let data = rows.iter().map(body).collect::<Result<_, _>>()?;
    Ok(Json(InboxAnswer {
        data,
        next,
        position,
        counts,
    }))
}

/// Counts the caller's inbox.
#[utoipa::path(
    get,
    path = "/v1/inbox/counts",
    tag = "Inbox",
    responses((status = 200, description = "The counts", body = MailboxAnswer)),
)]
pub(super) async fn counts(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
) -> Result<Json<MailboxAnswer>, Problem> {
    let user = require_user(&principal)?.id;
    let (position, counts) = dispatcher
        .store
        .mailbox(&principal.tenant, user)
        .await
        .map_err(Unavailable::from)?;
    Ok(Json(MailboxAnswer { position, counts }))
}

/// Shows one entry.
#[utoipa::path(
    get,
    path = "/v1/inbox/{entry}",
    tag = "Inbox",
    params(("entry" = EntryId, Path, description = "The entry")),
    responses(
        (status = 200, description = "The entry", body = Entry),
        (status = 404, description = "No such entry"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(entry): IdPath<EntryId>,
) -> Result<Json<Box<RawValue>>, Problem> {
    let user = require_user(&principal)?.id;
    let row = dispatcher
        .store
        .entry(&principal.tenant, user, entry)
        .await
        .map_err(Unavailable::from)?;
    body(&row.ok_or_else(Problem::not_found)?).map(Json)
}

macro_rules! entry_route {
    ($(#[$doc:meta])* $name:ident, $method:ident, $path:literal, $action:expr) => {
        $(#[$doc])*
        #[utoipa::path(
            $method,
            path = $path,
            tag = "Inbox",
            params(("entry" = EntryId, Path, description = "The entry"), OnDevice),
            responses(
                (status = 200, description = "Done, or done before", body = MailboxAnswer),
                (status = 404, description = "No such entry"),
            ),
        )]
        pub(super) async fn $name(
            State(dispatcher): State<Arc<Dispatcher>>,
            Caller(principal): Caller,
            IdPath(entry): IdPath<EntryId>,
            ApiQuery(on): ApiQuery<OnDevice>,
        ) -> Result<Json<MailboxAnswer>, Problem> {
            act(&dispatcher, &principal, on.device, entry, $action).await
        }
    };
}

entry_route!(
    /// Marks an entry as seen.
    seen, post, "/v1/inbox/{entry}/seen", EntryAction::Seen
);
entry_route!(
    /// Marks an entry as read, which acknowledges it.
    read, post, "/v1/inbox/{entry}/read", EntryAction::Read
);
entry_route!(
    /// Shows an entry as unread again. An acknowledgement stays.
    unread, post, "/v1/inbox/{entry}/unread", EntryAction::Unread
);
entry_route!(
    /// Archives an entry, which acknowledges it as dismissed.
    archive, post, "/v1/inbox/{entry}/archive", EntryAction::Archive
);
entry_route!(
    /// Deletes an entry, which acknowledges it as dismissed.
    delete, delete, "/v1/inbox/{entry}", EntryAction::Delete
);

/// Hides an entry until a time.
#[utoipa::path(
    post,
    path = "/v1/inbox/{entry}/snooze",
    tag = "Inbox",
    params(("entry" = EntryId, Path, description = "The entry"), OnDevice),
    request_body = SnoozeRequest,
    responses(
        (status = 200, description = "Hidden", body = MailboxAnswer),
        (status = 404, description = "No such entry"),
        (status = 409, description = "It is archived"),
        (status = 422, description = "Not in the future, or too far"),
    ),
)]
pub(super) async fn snooze(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(entry): IdPath<EntryId>,
    ApiQuery(on): ApiQuery<OnDevice>,
    ApiJson(request): ApiJson<SnoozeRequest>,
) -> Result<Json<MailboxAnswer>, Problem> {
    let now = dispatcher.ports.clock.now();
    if request.until <= now || request.until > now.after(MAX_AHEAD) {
        return Err(Problem::field(
            "/until",
            "must be in the future, at most 366 days ahead",
        ));
    }
    let action = EntryAction::Snooze { until: request.until };
    let answer = act(&dispatcher, &principal, on.device, entry, action).await?;
    dispatcher.mailboxes.snoozed();
    Ok(answer)
}

/// Marks all unread entries of the inbox as read, which acknowledges them.
#[utoipa::path(
    post,
    path = "/v1/inbox/read-all",
    tag = "Inbox",
    params(OnDevice),
    request_body = Option<ReadAllRequest>,
    responses((status = 200, description = "Done", body = MailboxAnswer)),
)]
pub(super) async fn read_all(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiQuery(on): ApiQuery<OnDevice>,
    request: Option<ApiJson<ReadAllRequest>>,
) -> Result<Json<MailboxAnswer>, Problem> {
    let user = require_user(&principal)?;
    let ReadAllRequest { category, before } = request.map(|ApiJson(request)| request).unwrap_or_default();
    // What arrives meanwhile was not on the screen.
    let before = match before {
        Some(before) => before,
        None => {
            dispatcher
                .store
                .mailbox(&principal.tenant, user.id)
                .await
                .map_err(Unavailable::from)?
                .0
        }
    };
    loop {
        let command = MailboxCommand {
            tenant: principal.tenant.clone(),
            user: user.id,
            name: Some(user.external.clone()),
            device: on.device.clone().or_else(|| user.device.clone()),
            answering: Vec::new(),
            channel: None,
            operations: vec![Operation::ReadAll {
                category: category.clone(),
                before: Some(before.clone()),
            }],
        };
        let reply = dispatcher.mailboxes.submit(command).await?;
        if reply.results.contains(&OperationResult::NotFound) {
            return Err(Problem::field("/before", "not a position of this mailbox"));
        }
        if !reply.more {
            return Ok(Json(reply.into()));
        }
    }
}

async fn act(
    dispatcher: &Dispatcher,
    principal: &carillon_domain::Principal,
    device: Option<DeviceName>,
    entry: EntryId,
    action: EntryAction,
) -> Result<Json<MailboxAnswer>, Problem> {
    let user = require_user(principal)?;
    let command = MailboxCommand {
        tenant: principal.tenant.clone(),
        user: user.id,
        name: Some(user.external.clone()),
        device: device.or_else(|| user.device.clone()),
        answering: Vec::new(),
        channel: None,
        operations: vec![Operation::Entry(Which::Entry(entry), action)],
    };
    let reply = dispatcher.mailboxes.submit(command).await?;
    match reply.results.first() {
        Some(OperationResult::NotFound) | None => Err(Problem::not_found()),
        Some(OperationResult::Conflict) => Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "The entry is archived.",
        )),
        Some(OperationResult::Ok | OperationResult::Unchanged) => Ok(Json(reply.into())),
    }
}

impl From<MailboxReply> for MailboxAnswer {
    fn from(reply: MailboxReply) -> Self {
        Self {
            position: reply.position,
            counts: reply.counts,
        }
    }
}

/// An entry as JSON.
fn body(row: &EntryRow) -> Result<Box<RawValue>, Problem> {
    let encode = || {
        let content: &RawValue = serde_json::from_str(&row.content)?;
        serde_json::value::to_raw_value(&EntryBody::new(row, content))
    };
    encode().map_err(|error: serde_json::Error| Problem::internal(&error))
}
