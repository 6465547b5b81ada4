//! Taking in what a tool says.

use std::{sync::Arc, time::Duration};

use axum::extract::{FromRequestParts as _, Request};
use bytes::Bytes;
use carillon_domain::{NotificationId, Principal, Scope, SourceName, TenantId, ports::Unavailable};
use carillon_runtime::http::{BodyLimit, Caller, FieldError, Problem, read_body, require_scope};
use http::{StatusCode, header, request::Parts};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    SourceKind,
    credentials::{has_signature, has_token, is_signed},
    mapping::{Mapped, What},
    register::{place, read_settings, request, seal},
};
use crate::{
    Dispatcher,
    digest::sha256,
    intake::{IntakeError, Submission, Taken, busy},
    store::{NewNotification, SourceRow},
};

/// The largest payload.
pub(crate) const TAKE_BODY: BodyLimit = BodyLimit(2 * 1024 * 1024);
/// How many notifications of one payload wait for a commit at the same time.
const TOGETHER: usize = 64;
/// The route, for the keys.
const TAKE: &str = "POST /v1/in/{source}";

/// What became of a payload.
#[derive(Debug, Default)]
pub(crate) struct TakenIn {
    /// Notifications that are accepted, durably.
    pub(crate) accepted: Vec<NotificationId>,
    /// Whether all of them were accepted before.
    pub(crate) replayed: bool,
    /// What became nothing: where it stands in the payload, and why.
    pub(crate) ignored: Vec<(String, String)>,
}

/// Why a payload was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// Who sends it is not known, or may not; or the body did not come.
    #[error("the request is refused")]
    Refused(Problem),
    /// There is no such source.
    #[error("there is no such source")]
    NotFound,
    /// The body is of another type.
    #[error("the body is not JSON by its type")]
    Type,
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Malformed(String),
    /// The mapping does not find what it needs, or makes what is no notification.
    #[error("the payload does not fit the mapping")]
    Unfit(Vec<FieldError>),
    /// It was not committed.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Something is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<TakeError> for Problem {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Refused(problem) => problem,
            TakeError::NotFound => Self::not_found(),
            TakeError::Type => Self::unsupported_media_type(
                "The body must be application/json: tools that offer a form as well must be set to JSON.",
            ),
            TakeError::Malformed(detail) => Self::malformed(format!("The body is not JSON: {detail}.")),
            TakeError::Unfit(errors) => Self {
                detail: "The payload does not fit the source's mapping.".into(),
                ..Self::invalid(errors)
            },
            // Tools give up at a 4xx; the one that came first may still fail.
            TakeError::Intake(IntakeError::InFlight) => busy("The same is being taken in. Try again."),
            TakeError::Intake(error) => error.into(),
            TakeError::Unavailable(cause) => cause.into(),
        }
    }
}

/// Takes a tool's payload in. What it says twice is accepted once.
pub(crate) async fn take(
    dispatcher: &Dispatcher,
    name: &SourceName,
    incoming: Request,
) -> Result<TakenIn, TakeError> {
    let (mut parts, body) = incoming.into_parts();
    let (tenant, row, signed) = admit(dispatcher, name, &mut parts).await?;
    let row = row.ok_or(TakeError::NotFound)?;
    if !is_json(&parts) {
        return Err(TakeError::Type);
    }
    let headers = parts.headers.clone();
    let body = read_body(Request::from_parts(parts, body))
        .await
        .map_err(TakeError::Refused)?;
    if let Some(secret) = &signed
        && !has_signature(&headers, secret, &body)
    {
        return Err(TakeError::Refused(Problem::unauthorized()));
    }
    let (kind, settings) = read_settings(&row)?;
    let category = name.clone();
    let is_signed = signed.is_some();
    let mapped = dispatcher.workshop.run(move || {
        let payload = parse(&body)?;
        let mapping = settings.mapping(kind).map_err(|errors| unmappable(&errors))?;
        let mapped = mapping.apply(&headers, &payload, &settings.base(category.as_str()));
        let mut mapped = mapped.map_err(TakeError::Unfit)?;
        if is_signed {
            mapping.bind_keys(&body, &mut mapped);
        }
        Ok::<_, TakeError>(mapped)
    });
    let mapped = mapped.await.map_err(TakeError::Refused)??;
    let taken = accept(dispatcher, &tenant, name, mapped).await?;
    let count = |result, number: usize| {
        metrics::counter!("carillon_dispatcher_source_events_total", "kind" => kind.as_str(), "result" => result)
            .increment(number as u64);
    };
    count("accepted", taken.accepted.len());
    count("ignored", taken.ignored.len());
    Ok(taken)
}

/// A tenant, its source, and the secret of a signature that is still to be checked.
type Admitted = (TenantId, Option<SourceRow>, Option<Vec<u8>>);

/// Whom a request comes from: its tenant, the source, and the secret that its body must be signed with, if its body is
/// what proves it. Whom nobody knows is refused before his body is read.
async fn admit(dispatcher: &Dispatcher, name: &SourceName, parts: &mut Parts) -> Result<Admitted, TakeError> {
    if let Some(admitted) = by_secret(dispatcher, name, parts).await? {
        return Ok(admitted);
    }
    let tenant = sender(parts).await?;
    let row = dispatcher
        .store
        .source(&tenant, name)
        .await
        .map_err(Unavailable::from)?;
    Ok((tenant, row, None))
}

/// The same by the source's own secret alone; none for everybody else.
pub(super) async fn by_secret(
    dispatcher: &Dispatcher,
    name: &SourceName,
    parts: &Parts,
) -> Result<Option<Admitted>, TakeError> {
    let asked = tenant(parts);
    let row = dispatcher
        .store
        .source(&asked, name)
        .await
        .map_err(Unavailable::from)?;
    let secret = match row.as_ref().and_then(|row| row.sealed.as_deref()) {
        Some(sealed) => Some(seal(dispatcher)?.open(&place(&asked, name), sealed)?),
        None => None,
    };
    let signs = row
        .as_ref()
        .is_some_and(|row| row.kind == SourceKind::Github.as_str());
    match secret {
        Some(secret) if signs && is_signed(&parts.headers) => Ok(Some((asked, row, Some(secret)))),
        Some(secret) if !signs && has_token(&parts.headers, &secret) => Ok(Some((asked, row, None))),
        _ => Ok(None),
    }
}

/// What the path said, or the internal listener.
fn tenant(parts: &Parts) -> TenantId {
    let principal = parts
        .extensions
        .get::<Principal>()
        .map(|principal| principal.tenant.clone());
    principal
        .or_else(|| parts.extensions.get().cloned())
        .unwrap_or_default()
}

/// The tenant of an API key that may send.
async fn sender(parts: &mut Parts) -> Result<TenantId, TakeError> {
    let Caller(principal) = Caller::from_request_parts(parts, &())
        .await
        .map_err(TakeError::Refused)?;
    require_scope(&principal, Scope::NotificationsWrite).map_err(TakeError::Refused)?;
    Ok(principal.tenant)
}

fn is_json(parts: &Parts) -> bool {
    let value = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.map(|value| {
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    essence.is_some_and(|essence| essence == "application/json" || essence.ends_with("+json"))
}

/// A tool's JSON is read as tools write it: a key twice is not ours to teach.
fn parse(body: &Bytes) -> Result<Value, TakeError> {
    serde_json::from_slice(body).map_err(|error| TakeError::Malformed(error.to_string()))
}

fn unmappable(errors: &[FieldError]) -> TakeError {
    let first = errors
        .first()
        .map(|error| format!("{}: {}", error.pointer, error.detail));
    Unavailable::new("reading a source's mapping", first.unwrap_or_default()).into()
}

/// What the intake answers, and what an idempotency key keeps.
#[derive(Deserialize)]
struct AcceptedBefore {
    data: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: NotificationId,
}

/// A notification with the tool's own key for it; or what was ignored, with what stands for it.
type Keyed = (Option<NewNotification>, Arc<str>);

async fn accept(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    name: &SourceName,
    mapped: Vec<Mapped>,
) -> Result<TakenIn, TakeError> {
    let mut taken = TakenIn::default();
    let mut errors = Vec::new();
    let mut unkeyed: Vec<NewNotification> = Vec::new();
    let mut keyed: Vec<Keyed> = Vec::new();
    let now = dispatcher.ports.clock.now();
    // One after the other in the order of the payload, which is the order in which they are planned.
    for (micros, Mapped { at, what, bound }) in (0..).zip(mapped) {
        match what {
            What::Ignored(why) => {
                keyed.extend(bound.map(|key| (None, digest(name, &key))));
                taken.ignored.push((at, why));
            }
            What::Unfit(error) => errors.push(error),
            What::Notify { request: made, key } => match request(dispatcher, tenant, &made, "").await? {
                Err(wrong) => errors.extend(wrong.into_iter().map(|error| {
                    let detail = format!("the mapping gives no valid {}: {}", error.pointer, error.detail);
                    FieldError::new(at.clone(), detail)
                })),
                Ok(mut notification) => {
                    notification.id = NotificationId::at(now.after(Duration::from_micros(micros)));
                    match bound.or(key) {
                        None => unkeyed.push(notification),
                        Some(key) => keyed.push((Some(notification), digest(name, &key))),
                    }
                }
            },
        }
    }
    let fits = !unkeyed.is_empty() || !keyed.is_empty() || !taken.ignored.is_empty();
    if !errors.is_empty() && !fits {
        return Err(TakeError::Unfit(errors));
    }
    // Tools do not repeat what is refused: one bad item takes none of its neighbours along.
    let unfit = errors
        .into_iter()
        .map(|FieldError { pointer, detail }| (pointer, detail.into_owned()));
    taken.ignored.extend(unfit);
    let parts = submissions(tenant, unkeyed, keyed);
    let many = parts.len();
    let mut replays = 0;
    for (own, reply) in submit(dispatcher, parts).await {
        match reply? {
            Taken::New => taken.accepted.extend(own),
            Taken::Before { body, .. } => {
                replays += 1;
                let before: AcceptedBefore = serde_json::from_str(&body).map_err(|error| {
                    Unavailable::new("reading what was answered before", error.to_string())
                })?;
                taken.accepted.extend(before.data.into_iter().map(|Id { id }| id));
            }
        }
    }
    taken.replayed = many > 0 && replays == many;
    Ok(taken)
}

/// Some at a time, so that they share commits and leave room in the queue. Answers in the order of `parts`, with the ids
/// that each one has if it is new.
async fn submit(
    dispatcher: &Dispatcher,
    parts: Vec<Submission>,
) -> Vec<(Vec<NotificationId>, Result<Taken, IntakeError>)> {
    let mut replies = Vec::with_capacity(parts.len());
    let mut parts = parts.into_iter().enumerate().peekable();
    while parts.peek().is_some() {
        let mut together = JoinSet::new();
        for (index, part) in parts.by_ref().take(TOGETHER) {
            let intake = Arc::clone(&dispatcher.intake);
            let own: Vec<NotificationId> = part.notifications.iter().map(|one| one.id).collect();
            together.spawn(async move { (index, own, intake.submit(part).await) });
        }
        replies.extend(together.join_all().await);
    }
    replies.sort_by_key(|(index, ..)| *index);
    replies.into_iter().map(|(_, own, reply)| (own, reply)).collect()
}

/// What has a key is accepted by itself: the next payload may repeat it among others. The rest goes together, so that a
/// payload that is refused may be sent again whole.
fn submissions(tenant: &TenantId, unkeyed: Vec<NewNotification>, keyed: Vec<Keyed>) -> Vec<Submission> {
    let submission = |notifications: Vec<NewNotification>, key| Submission {
        tenant: tenant.clone(),
        body: body(&notifications),
        notifications,
        key,
    };
    // The key says what it is; other words for it (an alert's changed description) are not another request.
    let mut all: Vec<Submission> = keyed
        .into_iter()
        .map(|(notification, key)| {
            submission(
                notification.into_iter().collect(),
                Some((TAKE, key, Bytes::new())),
            )
        })
        .collect();
    if !unkeyed.is_empty() {
        all.push(submission(unkeyed, None));
    }
    all
}

fn body(notifications: &[NewNotification]) -> Arc<str> {
    let ids: Vec<String> = notifications
        .iter()
        .map(|notification| format!("{{\"id\":\"{}\"}}", notification.id))
        .collect();
    Arc::from(format!("{{\"data\":[{}]}}", ids.join(",")))
}

/// Keys of tools are of any length and of any characters.
fn digest(name: &SourceName, key: &str) -> Arc<str> {
    Arc::from(hex::encode(sha256(format!("{name}\n{key}").as_bytes())))
}

/// The answer's status: 202 where something is accepted, 200 where there was nothing to do.
impl TakenIn {
    pub(crate) fn status(&self) -> StatusCode {
        if self.accepted.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        }
    }
}
