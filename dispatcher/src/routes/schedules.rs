use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    NotificationId, NotificationState, ScheduleName, Scope, Timestamp, ports::Unavailable,
};
use carillon_policy::{Cron, Zone};
use carillon_runtime::http::{
    ApiJson, ApiQuery, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    schedules::{MOST, RunError, Timing, When, prepare},
    store::schedules::{PutSchedule, ScheduleRow, ScheduleRun, ScheduleWrite},
    validation::{MAX_AHEAD, SendRequest},
};

/// The name of the list, for its cursors.
const LIST: &str = "schedules";
/// How many coming times are shown when nothing is said.
const COUNT: u32 = 10;
/// The most coming times that are shown.
const MOST_COUNT: u32 = 100;

/// A schedule to make or replace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleRequest {
    /// Its name; with `PUT` it stands in the path.
    #[schema(value_type = Option<ScheduleName>)]
    name: Option<String>,
    /// When it is sent again and again: five fields, on the wall clock of `timezone`; or `at`.
    #[schema(value_type = Option<Cron>)]
    cron: Option<String>,
    /// An IANA time zone; `UTC` when absent. Only with `cron`.
    #[schema(value_type = Option<Zone>)]
    timezone: Option<String>,
    /// When it is sent once, at most 366 days ahead; or `cron`.
    #[schema(value_type = Option<Timestamp>)]
    at: Option<String>,
    /// What is sent: a whole request of `POST /v1/notifications` without `send_at`. A template's newest version at the
    /// time is rendered.
    #[schema(value_type = SendRequest)]
    notification: Box<RawValue>,
    /// Whether it runs; true when absent.
    enabled: Option<bool>,
    /// No time before is sent. Only with `cron`.
    #[schema(value_type = Option<Timestamp>)]
    starts_at: Option<String>,
    /// No time after is sent. Only with `cron`.
    #[schema(value_type = Option<Timestamp>)]
    ends_at: Option<String>,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleAnswer {
    name: ScheduleName,
    #[schema(required, value_type = Option<Cron>)]
    cron: Option<String>,
    #[schema(required, value_type = Option<Zone>)]
    timezone: Option<String>,
    #[schema(required)]
    at: Option<Timestamp>,
    /// What is sent.
    #[schema(value_type = SendRequest)]
    notification: Box<RawValue>,
    enabled: bool,
    #[schema(required)]
    starts_at: Option<Timestamp>,
    #[schema(required)]
    ends_at: Option<Timestamp>,
    /// When it is due next; null when it is disabled, over, or cannot be read any more.
    #[schema(required)]
    next_at: Option<Timestamp>,
    /// How many of its times went by without being sent: nobody was there, and they were too late or not the last.
    skipped: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The latest 50; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<RunAnswer>>,
}

/// One of a schedule's times and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleRun)]
struct RunAnswer {
    /// The time that it was for.
    due_at: Timestamp,
    /// When it ran.
    at: Timestamp,
    /// Whether somebody asked for it.
    manual: bool,
    /// What was sent.
    #[schema(required)]
    notification_id: Option<NotificationId>,
    /// Why nothing was sent.
    #[schema(required)]
    error: Option<String>,
}

/// What a schedule that ran has sent.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleRan)]
pub(super) struct RanAnswer {
    id: NotificationId,
    state: NotificationState,
}

/// A schedule's coming times.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleTimes)]
pub(super) struct TimesAnswer {
    /// Ascending; fewer than were asked for when it ends before.
    data: Vec<Timestamp>,
}

/// How many times to show.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TimesQuery {
    /// 1-100; 10 when absent.
    #[param(minimum = 1, maximum = 100)]
    count: Option<u32>,
}

/// Makes a schedule. Needs the scope `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/schedules",
    tag = "Notifications",
    request_body = ScheduleRequest,
    responses(
        (status = 201, description = "Made", body = ScheduleAnswer),
        (status = 409, description = "There is one of that name, or the tenant has 1,000"),
        (status = 422, description = "The request does not fit; pointers name the faults"),
    ),
)]
pub(super) async fn create(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<ScheduleRequest>,
) -> Result<(StatusCode, Json<ScheduleAnswer>), Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    let Some(name) = &request.name else {
        return Err(Problem::field("/name", "is missing"));
    };
    let name: ScheduleName = name
        .parse()
        .map_err(|error: carillon_domain::Invalid| Problem::field("/name", error.0))?;
    write(&dispatcher, &principal.tenant, name, request, true).await
}

/// Makes or replaces a schedule. It stays due when it was as long as its times are the same. Needs the scope
/// `notifications:write`.
#[utoipa::path(
    put,
    path = "/v1/schedules/{name}",
    tag = "Notifications",
    params(("name" = ScheduleName, Path, description = "The schedule")),
    request_body = ScheduleRequest,
    responses(
        (status = 200, description = "Replaced", body = ScheduleAnswer),
        (status = 201, description = "Made", body = ScheduleAnswer),
        (status = 409, description = "The tenant has 1,000 schedules"),
        (status = 422, description = "The request does not fit; pointers name the faults"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<ScheduleName>,
    ApiJson(request): ApiJson<ScheduleRequest>,
) -> Result<(StatusCode, Json<ScheduleAnswer>), Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    if request
        .name
        .as_deref()
        .is_some_and(|other| other != name.as_str())
    {
        return Err(Problem::field("/name", "is another than the path's"));
    }
    write(&dispatcher, &principal.tenant, name, request, false).await
}

async fn write(
    dispatcher: &Dispatcher,
    tenant: &carillon_domain::TenantId,
    name: ScheduleName,
    request: ScheduleRequest,
    only_new: bool,
) -> Result<(StatusCode, Json<ScheduleAnswer>), Problem> {
    let now = dispatcher.ports.clock.now();
    let before = dispatcher.store.schedule(tenant, &name).await;
    let before = before.map_err(Unavailable::from)?;
    let mut errors = Vec::new();
    let timing = timing(&request, before.as_ref(), now, &mut errors);
    match prepare(dispatcher, tenant, &request.notification, now).await {
        Ok(_) => {}
        Err(RunError::Unfit(faults)) => errors.extend(faults),
        Err(error) => return Err(error.into()),
    }
    let Some(timing) = timing.filter(|_| errors.is_empty()) else {
        return Err(Problem::invalid(errors));
    };
    // In one spelling, so that an erasure finds whom it names.
    let spelled: serde_json::Value =
        serde_json::from_str(request.notification.get()).map_err(|error| Problem::internal(&error))?;
    let enabled = request.enabled.unwrap_or(true);
    let (cron, zone, once_at) = match &timing.when {
        When::Once(at) => (None, None, Some(*at)),
        When::Cron { cron, zone } => (Some(cron.to_string()), Some(zone.as_str().to_owned()), None),
    };
    let write = ScheduleWrite {
        tenant: tenant.clone(),
        name: name.clone(),
        cron,
        zone,
        once_at,
        notification: Arc::from(spelled.to_string()),
        enabled,
        starts_at: timing.starts_at,
        ends_at: timing.ends_at,
        next_at: if enabled { timing.next_after(now) } else { None },
        only_new,
    };
    let put = dispatcher.store.put_schedule(now, &write, MOST).await;
    let conflict = |detail: String| Problem::new(StatusCode::CONFLICT, "conflict", detail);
    let status = match put.map_err(Unavailable::from)? {
        PutSchedule::Made => StatusCode::CREATED,
        PutSchedule::Replaced => StatusCode::OK,
        PutSchedule::Taken => return Err(conflict("There is a schedule of that name.".to_owned())),
        PutSchedule::Full => return Err(conflict(format!("A tenant has at most {MOST} schedules."))),
    };
    dispatcher.scheduler.wake();
    Ok((status, Json(read(dispatcher, tenant, &name).await?)))
}

/// When the schedule is due, or what is wrong with it.
fn timing(
    request: &ScheduleRequest,
    before: Option<&ScheduleRow>,
    now: Timestamp,
    errors: &mut Vec<FieldError>,
) -> Option<Timing> {
    let count = errors.len();
    let mut fail = |pointer: &str, detail: String| errors.push(FieldError::new(pointer.to_owned(), detail));
    let mut time = |pointer: &str, text: &Option<String>| -> Option<Timestamp> {
        match text.as_deref().map(Timestamp::parse)? {
            Ok(time) => Some(time),
            Err(error) => {
                fail(pointer, error.0.to_owned());
                None
            }
        }
    };
    let once = time("/at", &request.at);
    let starts_at = time("/starts_at", &request.starts_at);
    let ends_at = time("/ends_at", &request.ends_at);
    let when = match (&request.cron, &request.at) {
        (Some(cron), None) => {
            let cron = match cron.parse::<Cron>() {
                Ok(cron) => Some(cron),
                Err(error) => {
                    fail("/cron", error.to_string());
                    None
                }
            };
            let zone = match request.timezone.as_deref().unwrap_or("UTC").parse::<Zone>() {
                Ok(zone) => Some(zone),
                Err(error) => {
                    fail("/timezone", error.0.to_owned());
                    None
                }
            };
            if let (Some(start), Some(end)) = (starts_at, ends_at)
                && end < start
            {
                fail("/ends_at", "must not lie before starts_at".to_owned());
            }
            cron.zip(zone).map(|(cron, zone)| When::Cron { cron, zone })
        }
        (None, Some(_)) => {
            for (pointer, there) in [
                ("/timezone", request.timezone.is_some()),
                ("/starts_at", request.starts_at.is_some()),
                ("/ends_at", request.ends_at.is_some()),
            ] {
                if there {
                    fail(pointer, "goes with cron alone".to_owned());
                }
            }
            let known = before.and_then(|row| row.once_at);
            if let Some(at) = once {
                if at > now.after(MAX_AHEAD) {
                    fail("/at", "must be at most 366 days ahead".to_owned());
                } else if at <= now && known != Some(at) {
                    fail("/at", "must lie in the future".to_owned());
                }
            }
            once.map(When::Once)
        }
        (Some(_), Some(_)) => {
            fail("/at", "must not stand beside cron".to_owned());
            None
        }
        (None, None) => {
            fail("/cron", "is missing: a schedule has cron or at".to_owned());
            None
        }
    };
    let timing = Timing {
        when: when?,
        starts_at,
        ends_at,
    };
    (errors.len() == count).then_some(timing)
}

/// Lists schedules by name. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    tag = "Notifications",
    params(Page),
    responses((status = 200, description = "The schedules", body = Listing<ScheduleAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<ScheduleAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let after: Option<ScheduleName> = page.after(LIST)?;
    let rows = dispatcher
        .store
        .schedules(&principal.tenant, after.as_ref(), page.fetch())
        .await
        .map_err(Unavailable::from)?;
    let listing = Listing::from_rows(LIST, &page, rows, |row| row.name.clone(), |row| answer(row, None));
    let data = listing.data.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(Listing {
        data,
        next: listing.next,
    }))
}

/// Shows a schedule, when it is due next, and its latest runs with what they sent. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/schedules/{name}",
    tag = "Notifications",
    params(("name" = ScheduleName, Path, description = "The schedule")),
    responses(
        (status = 200, description = "The schedule", body = ScheduleAnswer),
        (status = 404, description = "No such schedule"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<ScheduleName>,
) -> Result<Json<ScheduleAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    read(&dispatcher, &principal.tenant, &name).await.map(Json)
}

/// Removes a schedule. What it sent is not touched. Needs the scope `notifications:write`.
#[utoipa::path(
    delete,
    path = "/v1/schedules/{name}",
    tag = "Notifications",
    params(("name" = ScheduleName, Path, description = "The schedule")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such schedule"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<ScheduleName>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    let removed = dispatcher.store.delete_schedule(&principal.tenant, &name).await;
    if removed.map_err(Unavailable::from)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Shows the times at which a schedule is due from now on, as if it were enabled. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/schedules/{name}/next",
    tag = "Notifications",
    params(("name" = ScheduleName, Path, description = "The schedule"), TimesQuery),
    responses(
        (status = 200, description = "The coming times", body = TimesAnswer),
        (status = 404, description = "No such schedule"),
    ),
)]
pub(super) async fn next(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<ScheduleName>,
    ApiQuery(query): ApiQuery<TimesQuery>,
) -> Result<Json<TimesAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let count = query.count.unwrap_or(COUNT);
    if !(1..=MOST_COUNT).contains(&count) {
        return Err(Problem::malformed_query("count", "must be between 1 and 100"));
    }
    let row = dispatcher.store.schedule(&principal.tenant, &name).await;
    let row = row.map_err(Unavailable::from)?.ok_or_else(Problem::not_found)?;
    let now = dispatcher.ports.clock.now();
    let data = Timing::of(&row).map_or_else(Vec::new, |timing| {
        std::iter::successors(timing.next_after(now), |last| timing.next_after(*last))
            .take(count as usize)
            .collect()
    });
    Ok(Json(TimesAnswer { data }))
}

/// Sends a schedule's notification now, also while it is disabled; its times stay what they are. Needs the scope
/// `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/run",
    tag = "Notifications",
    params(("name" = ScheduleName, Path, description = "The schedule")),
    responses(
        (status = 202, description = "Accepted, durably", body = RanAnswer),
        (status = 404, description = "No such schedule"),
        (status = 422, description = "Its notification does not fit any more; pointers name the faults"),
    ),
)]
pub(super) async fn run(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<ScheduleName>,
) -> Result<(StatusCode, Json<RanAnswer>), Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    let id = dispatcher.run_schedule(&principal.tenant, &name).await?;
    let state = NotificationState::Accepted;
    Ok((StatusCode::ACCEPTED, Json(RanAnswer { id, state })))
}

async fn read(
    dispatcher: &Dispatcher,
    tenant: &carillon_domain::TenantId,
    name: &ScheduleName,
) -> Result<ScheduleAnswer, Problem> {
    let row = dispatcher.store.schedule(tenant, name).await;
    let row = row.map_err(Unavailable::from)?.ok_or_else(Problem::not_found)?;
    let runs = dispatcher.store.schedule_runs(tenant, name).await;
    answer(row, Some(runs.map_err(Unavailable::from)?))
}

fn answer(row: ScheduleRow, runs: Option<Vec<ScheduleRun>>) -> Result<ScheduleAnswer, Problem> {
    Ok(ScheduleAnswer {
        name: row.name,
        cron: row.cron,
        timezone: row.zone,
        at: row.once_at,
        notification: RawValue::from_string(row.notification.to_string())
            .map_err(|error| Problem::internal(&error))?,
        enabled: row.enabled,
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        next_at: row.next_at,
        skipped: row.skipped,
        created_at: row.created_at,
        updated_at: row.updated_at,
        runs: runs.map(|runs| runs.into_iter().map(RunAnswer::from).collect()),
    })
}

impl From<ScheduleRun> for RunAnswer {
    fn from(run: ScheduleRun) -> Self {
        Self {
            due_at: run.due_at,
            at: run.at,
            manual: run.manual,
            notification_id: run.notification,
            error: run.error,
        }
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Unfit(errors) => Self::invalid(errors),
            RunError::Gone => Self::not_found(),
            RunError::Away(error) => error.into(),
            RunError::Store(error) => Unavailable::from(error).into(),
        }
    }
}
