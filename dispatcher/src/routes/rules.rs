use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{DomainEventId, RuleName, Scope, TenantId, Timestamp, ports::Unavailable};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    dry_run::{self, DryRunAnswer},
    events::stored_event,
};
use crate::{
    Dispatcher,
    domain_events::CloudEvent,
    rules::{Judged, Rule, RuleDocument, check, put as save, request},
    store::{
        domain_events::{KEPT_ERRORS, RuleOutcome},
        rules::{PutRule, RuleRow},
    },
};

/// The names of the lists, for their cursors.
const LIST: &str = "rules";
const VERSIONS: &str = "rule_versions";

/// A rule that was saved.
#[derive(Serialize, ToSchema)]
pub(super) struct RuleSaved {
    name: RuleName,
    /// The one that counts from now on; the same as before where the rule was so already.
    version: u64,
}

/// A rule, or one of its versions.
#[derive(Serialize, ToSchema)]
pub(super) struct RuleAnswer {
    name: RuleName,
    version: u64,
    #[serde(flatten)]
    rule: RuleDocument,
    /// When the rule was made.
    created_at: Timestamp,
    /// When this version was.
    updated_at: Timestamp,
}

/// What a rule could not do.
#[derive(Serialize, ToSchema)]
pub(super) struct RuleErrorAnswer {
    event_id: DomainEventId,
    /// Of the rule.
    version: u64,
    reason: String,
    at: Timestamp,
}

/// The newest errors of a rule.
#[derive(Serialize, ToSchema)]
pub(super) struct RuleErrorsAnswer {
    data: Vec<RuleErrorAnswer>,
}

/// An event to try a rule with: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleDryRunRequest {
    /// An event in CloudEvents' JSON format.
    #[schema(value_type = Option<Object>)]
    event: Option<Map<String, Value>>,
    /// An event that was handed in.
    event_id: Option<DomainEventId>,
}

/// A rule that is not saved, and an event to try it with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRuleDryRunRequest {
    rule: RuleDocument,
    /// An event in CloudEvents' JSON format; or `event_id`.
    #[schema(value_type = Option<Object>)]
    event: Option<Map<String, Value>>,
    /// An event that was handed in; or `event`.
    event_id: Option<DomainEventId>,
}

/// What a rule would make of an event. Nothing was sent or written.
#[derive(Serialize, ToSchema)]
pub(super) struct RuleDryRunAnswer {
    outcome: RuleOutcome,
    /// Why there would be no notification.
    #[schema(required)]
    reason: Option<String>,
    /// What is wrong with the notification that the rule makes, with pointers into `request`.
    errors: Vec<FieldError>,
    /// Whether the rule counts: one that does not is tried all the same.
    enabled: bool,
    /// The notification, as `POST /v1/notifications` would take it.
    #[schema(required, value_type = Option<Object>)]
    request: Option<Value>,
    /// When it would go out, and until when.
    #[schema(required)]
    send_at: Option<Timestamp>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Who would get it, over which channel and why not over others, and what it would say.
    #[schema(required)]
    notification: Option<DryRunAnswer>,
}

/// Makes a rule, or its next version where it says something else. Needs the scope `rules:write`.
#[utoipa::path(
    put,
    path = "/v1/rules/{name}",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule")),
    request_body = RuleDocument,
    responses(
        (status = 200, description = "The version that counts", body = RuleSaved),
        (status = 201, description = "Made", body = RuleSaved),
        (status = 409, description = "The tenant has 1,000 rules"),
        (status = 422, description = "The rule does not fit; pointers lead to the fault"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
    ApiJson(rule): ApiJson<RuleDocument>,
) -> Result<(StatusCode, Json<RuleSaved>), Problem> {
    require_scope(&principal, Scope::RulesWrite)?;
    let (status, version) = match save(&dispatcher, &principal.tenant, &name, &rule).await? {
        PutRule::Made(version) => (StatusCode::CREATED, version),
        PutRule::Changed(version) | PutRule::Same(version) => (StatusCode::OK, version),
        PutRule::Full => (StatusCode::CONFLICT, 0),
    };
    Ok((status, Json(RuleSaved { name, version })))
}

/// Shows a rule: its newest version. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/rules/{name}",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule")),
    responses(
        (status = 200, description = "The rule", body = RuleAnswer),
        (status = 404, description = "No such rule"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
) -> Result<Json<RuleAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    answer(find(&dispatcher, &principal.tenant, &name).await?).map(Json)
}

/// Lists rules by name. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/rules",
    tag = "Events",
    params(Page),
    responses((status = 200, description = "The rules", body = Listing<RuleAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<RuleAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let after: Option<RuleName> = page.after(LIST)?;
    let rows = dispatcher
        .store
        .rules(&principal.tenant, after.as_ref(), page.fetch())
        .await
        .map_err(Unavailable::from)?;
    listing(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.name.clone(),
        answer,
    ))
}

/// Lists the versions of a rule, newest first: the last 100 are kept. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/rules/{name}/versions",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule"), Page),
    responses(
        (status = 200, description = "The versions", body = Listing<RuleAnswer>),
        (status = 404, description = "No such rule"),
    ),
)]
pub(super) async fn versions(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
    page: Page,
) -> Result<Json<Listing<RuleAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let before: Option<u64> = page.after(VERSIONS)?;
    find(&dispatcher, &principal.tenant, &name).await?;
    let rows = dispatcher
        .store
        .rule_versions(&principal.tenant, &name, before, page.fetch())
        .await
        .map_err(Unavailable::from)?;
    listing(Listing::from_rows(
        VERSIONS,
        &page,
        rows,
        |row| row.version,
        answer,
    ))
}

/// Lists what a rule could not do: its last 100 errors, of the newest event first. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/rules/{name}/errors",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule")),
    responses(
        (status = 200, description = "The errors", body = RuleErrorsAnswer),
        (status = 404, description = "No such rule"),
    ),
)]
pub(super) async fn errors(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
) -> Result<Json<RuleErrorsAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    find(&dispatcher, &principal.tenant, &name).await?;
    let rows = dispatcher
        .store
        .rule_errors(&principal.tenant, &name, KEPT_ERRORS)
        .await
        .map_err(Unavailable::from)?;
    let data = rows
        .into_iter()
        .map(|row| RuleErrorAnswer {
            event_id: row.event,
            version: row.version,
            reason: row.reason,
            at: row.at,
        })
        .collect();
    Ok(Json(RuleErrorsAnswer { data }))
}

/// Deletes a rule: no further event is shown to it. Needs the scope `rules:write`.
#[utoipa::path(
    delete,
    path = "/v1/rules/{name}",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such rule"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::RulesWrite)?;
    let now = dispatcher.ports.clock.now();
    let deleted = dispatcher
        .store
        .delete_rule(now, &principal.tenant, &name)
        .await
        .map_err(Unavailable::from)?;
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Tries a rule with an event: who would get what, when, over which channel and why. Nothing is sent or written. Needs the
/// scope `rules:write`.
#[utoipa::path(
    post,
    path = "/v1/rules/{name}/dry-run",
    tag = "Events",
    params(("name" = RuleName, Path, description = "The rule")),
    request_body = RuleDryRunRequest,
    responses(
        (status = 200, description = "What it would do", body = RuleDryRunAnswer),
        (status = 404, description = "No such rule"),
        (status = 422, description = "The event is not valid, or there is none"),
    ),
)]
pub(super) async fn dry_run(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<RuleName>,
    ApiJson(tried): ApiJson<RuleDryRunRequest>,
) -> Result<Json<RuleDryRunAnswer>, Problem> {
    require_scope(&principal, Scope::RulesWrite)?;
    let row = find(&dispatcher, &principal.tenant, &name).await?;
    let rule = Rule::read(&row)
        .map_err(|error| Unavailable::new("reading a rule", error))
        .map_err(Problem::from)?;
    let event = event(&dispatcher, &principal.tenant, tried.event, tried.event_id).await?;
    try_out(&dispatcher, &principal.tenant, rule, event).await
}

/// Tries a rule that is not saved, as `POST /v1/rules/{name}/dry-run` tries one that is. Needs the scope `rules:write`.
#[utoipa::path(
    post,
    path = "/v1/rules/dry-run",
    tag = "Events",
    request_body = NewRuleDryRunRequest,
    responses(
        (status = 200, description = "What it would do", body = RuleDryRunAnswer),
        (status = 422, description = "The rule or the event is not valid; pointers lead to the fault"),
    ),
)]
pub(super) async fn dry_run_new(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(tried): ApiJson<NewRuleDryRunRequest>,
) -> Result<Json<RuleDryRunAnswer>, Problem> {
    require_scope(&principal, Scope::RulesWrite)?;
    let name = "dry-run".parse().map_err(|error| Problem::internal(&error))?;
    let rule = check(&dispatcher, &principal.tenant, &name, &tried.rule, "/rule").await?;
    let event = event(&dispatcher, &principal.tenant, tried.event, tried.event_id).await?;
    try_out(&dispatcher, &principal.tenant, rule, event).await
}

async fn event(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    event: Option<Map<String, Value>>,
    id: Option<DomainEventId>,
) -> Result<CloudEvent, Problem> {
    match (event, id) {
        (Some(members), None) => CloudEvent::check(members, "/event").map_err(Problem::invalid),
        (None, Some(id)) => stored_event(dispatcher, tenant, id)
            .await?
            .ok_or_else(|| Problem::field("/event_id", "there is no such event, or it is not kept any more")),
        (Some(_), Some(_)) => Err(Problem::field("/event_id", "must not stand beside event")),
        (None, None) => Err(Problem::field("/event", "is missing: an event or an event_id")),
    }
}

async fn try_out(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    rule: Rule,
    event: CloudEvent,
) -> Result<Json<RuleDryRunAnswer>, Problem> {
    let mut answer = RuleDryRunAnswer {
        outcome: RuleOutcome::Unmatched,
        reason: None,
        errors: Vec::new(),
        enabled: rule.enabled,
        request: None,
        send_at: None,
        expires_at: None,
        notification: None,
    };
    if !rule.is_for(event.kind(), event.source()) {
        answer.reason = Some("the rule is not for events of this type from this source".to_owned());
        return Ok(Json(answer));
    }
    let judged = dispatcher
        .judging
        .run(move || rule.judge(&event.into_payload()))
        .await?;
    let made = match judged {
        Judged::Notify(made) => made,
        Judged::Unmatched(why) => {
            answer.reason = Some(why);
            return Ok(Json(answer));
        }
        Judged::Failed(why) => {
            answer.outcome = RuleOutcome::Failed;
            answer.reason = Some(why);
            return Ok(Json(answer));
        }
    };
    let now = dispatcher.ports.clock.now();
    match request(dispatcher, tenant, &made, now, "").await? {
        Err(errors) => {
            answer.outcome = RuleOutcome::Failed;
            answer.reason = Some("the rule makes no valid notification".to_owned());
            answer.errors = errors;
        }
        Ok((notification, offer)) => {
            answer.outcome = RuleOutcome::Notified;
            answer.send_at = Some(notification.send_at);
            answer.expires_at = Some(notification.expires_at);
            let Json(planned) = dry_run::dry_run(dispatcher, tenant, Arc::new(offer), notification).await?;
            answer.notification = Some(planned);
        }
    }
    answer.request = Some(made);
    Ok(Json(answer))
}

async fn find(dispatcher: &Dispatcher, tenant: &TenantId, name: &RuleName) -> Result<RuleRow, Problem> {
    let row = dispatcher.store.rule(tenant, name, None).await;
    row.map_err(Unavailable::from)?.ok_or_else(Problem::not_found)
}

fn listing(listing: Listing<Result<RuleAnswer, Problem>>) -> Result<Json<Listing<RuleAnswer>>, Problem> {
    let data = listing.data.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(Listing {
        data,
        next: listing.next,
    }))
}

fn answer(row: RuleRow) -> Result<RuleAnswer, Problem> {
    Ok(RuleAnswer {
        name: row.name,
        version: row.version,
        rule: serde_json::from_str(&row.body).map_err(|error| Problem::internal(&error))?,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}
