use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use carillon_domain::{ChannelKind, DeliveryId, Fault, Outcome, Timestamp, ports::Report};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem, Served};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MOST, parse_lease, worker};
use crate::{
    Dispatcher,
    remote::{Answer, Refusal},
};

/// The longest id that a far end gives, in bytes.
const MAX_PROVIDER_ID: usize = 512;
/// The longest wait that a worker asks for, in seconds.
const MAX_AFTER: u64 = 30 * 86_400;

/// What attempts came to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutcomesRequest {
    #[schema(min_items = 1, max_items = 100)]
    outcomes: Vec<OutcomeItem>,
}

/// What one attempt came to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OutcomeItem {
    delivery: DeliveryId,
    /// As it came with the work.
    lease: String,
    outcome: OutcomeWord,
    /// With `accepted` and `delivered`: the far end's own id.
    #[serde(default)]
    provider_id: Option<String>,
    /// With `retry`: seconds that the far end asked for.
    #[serde(default)]
    after: Option<u64>,
    /// Why, for people; of more than 1 KiB the beginning is kept.
    #[serde(default)]
    reason: Option<String>,
    /// With `retry`: whose trouble it is, `provider` unless said; only that counts for the channel's breaker.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    fault: Option<Fault>,
    /// The far end's status, three digits.
    #[serde(default)]
    #[schema(minimum = 100, maximum = 999)]
    status: Option<u16>,
    /// What the far end answered; of more than 1 KiB the beginning is kept.
    #[serde(default)]
    excerpt: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OutcomeWord {
    /// A provider took it.
    Accepted,
    /// The receiver has it.
    Delivered,
    /// It may work later.
    Retry,
    /// The address is dead.
    Gone,
    /// It will never be taken.
    Rejected,
    /// It was not sent, and that is no failure.
    Skipped,
    /// It was taken back: the good end of `recall`.
    Recalled,
}

impl OutcomeWord {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Recalled => "recalled",
        }
    }
}

/// What became of each answer.
#[derive(Serialize, ToSchema)]
pub(super) struct OutcomesAnswer {
    results: Vec<AnswerResult>,
}

#[derive(Serialize, ToSchema)]
struct AnswerResult {
    delivery: DeliveryId,
    /// 200, 409 or 422.
    status: u16,
    /// `stale_lease` or `other_operation`, where it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// Says what attempts came to. A lease that another attempt, an answer or an end has overtaken is `409 stale_lease`: the
/// delivery is somebody else's now, or needs nothing more. A request with one outcome is itself answered so. Needs a key
/// with the scope `channel:{kind}`.
#[utoipa::path(
    post,
    path = "/v1/channels/{kind}/outcomes",
    operation_id = "answer_work",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = OutcomesRequest,
    responses(
        (status = 200, description = "What became of each", body = OutcomesAnswer),
        (status = 409, description = "The one lease is stale"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn outcomes(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<OutcomesRequest>,
) -> Result<Json<OutcomesAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    count(request.outcomes.len(), "/outcomes")?;
    let faults: Vec<_> = request
        .outcomes
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let (field, detail) = fault(item)?;
            Some(FieldError::new(format!("/outcomes/{index}{field}"), detail))
        })
        .collect();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let ids: Vec<DeliveryId> = request.outcomes.iter().map(|item| item.delivery).collect();
    let mut results: Vec<Result<(), Refusal>> = vec![Err(Refusal::Stale); ids.len()];
    let mut places = Vec::new();
    let mut answers = Vec::new();
    for (place, item) in request.outcomes.into_iter().enumerate() {
        if let Some(answer) = answer(&served, item) {
            places.push(place);
            answers.push(answer);
        }
    }
    let taken = dispatcher.remote.answer(&served, &kind, answers).await?;
    for (place, taken) in places.into_iter().zip(taken) {
        results[place] = taken;
    }
    if let [Err(refusal)] = results[..] {
        return Err(problem(refusal));
    }
    let results = ids.into_iter().zip(results).map(|(delivery, result)| {
        let problem = result.err().map(problem);
        AnswerResult {
            delivery,
            status: problem.as_ref().map_or(200, |problem| problem.status.as_u16()),
            code: problem.map(|problem| problem.code),
        }
    });
    Ok(Json(OutcomesAnswer {
        results: results.collect(),
    }))
}

/// Leases that need more time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendRequest {
    #[schema(min_items = 1, max_items = 100)]
    leases: Vec<LeaseItem>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LeaseItem {
    delivery: DeliveryId,
    /// As it came with the work.
    lease: String,
}

/// What became of each lease.
#[derive(Serialize, ToSchema)]
pub(super) struct ExtendAnswer {
    results: Vec<ExtendResult>,
}

#[derive(Serialize, ToSchema)]
struct ExtendResult {
    delivery: DeliveryId,
    /// 200 or 409.
    status: u16,
    /// When the lease ends now; null where it is stale.
    #[schema(required)]
    lease_until: Option<Timestamp>,
}

/// Gives leases their whole time again, from now. An attempt takes at most `dispatcher.remote.longest_attempt` in all. A
/// request with one stale lease alone is answered 409. Needs a key with the scope `channel:{kind}`.
#[utoipa::path(
    post,
    path = "/v1/channels/{kind}/extend",
    operation_id = "extend_leases",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = ExtendRequest,
    responses(
        (status = 200, description = "What became of each", body = ExtendAnswer),
        (status = 409, description = "The one lease is stale"),
    ),
)]
pub(super) async fn extend(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<ExtendRequest>,
) -> Result<Json<ExtendAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    count(request.leases.len(), "/leases")?;
    let mut ends = vec![None; request.leases.len()];
    let (places, leases): (Vec<_>, Vec<_>) = request
        .leases
        .iter()
        .enumerate()
        .filter_map(|(place, item)| {
            let (tenant, number) = parse_lease(&served, &item.lease)?;
            Some((place, (tenant, item.delivery, number)))
        })
        .unzip();
    let extended = dispatcher.remote.extend(&kind, &leases).await?;
    for (place, end) in places.into_iter().zip(extended) {
        ends[place] = end.ok();
    }
    if let [None] = ends[..] {
        return Err(problem(Refusal::Stale));
    }
    let results = request
        .leases
        .into_iter()
        .zip(ends)
        .map(|(item, end)| ExtendResult {
            delivery: item.delivery,
            status: if end.is_some() { 200 } else { 409 },
            lease_until: end,
        });
    Ok(Json(ExtendAnswer {
        results: results.collect(),
    }))
}

pub(super) fn count(count: usize, pointer: &'static str) -> Result<(), Problem> {
    if (1..=MOST).contains(&count) {
        Ok(())
    } else {
        Err(Problem::field(pointer, "must have 1 to 100 items"))
    }
}

/// What is wrong with an item, by itself.
fn fault(item: &OutcomeItem) -> Option<(&'static str, &'static str)> {
    use OutcomeWord::{Accepted, Delivered, Retry};
    let of = |words: &[OutcomeWord]| words.contains(&item.outcome);
    if let Some(id) = &item.provider_id {
        if !of(&[Accepted, Delivered]) {
            return Some(("/provider_id", "goes with accepted and delivered alone"));
        }
        if id.is_empty() || id.len() > MAX_PROVIDER_ID || id.chars().any(char::is_control) {
            return Some(("/provider_id", "must be 1-512 bytes without control characters"));
        }
    }
    if item.after.is_some() && !of(&[Retry]) {
        return Some(("/after", "goes with retry alone"));
    }
    if item.after.is_some_and(|after| after > MAX_AFTER) {
        return Some(("/after", "must be at most 2592000"));
    }
    if item.fault.is_some() && !of(&[Retry]) {
        return Some(("/fault", "goes with retry alone"));
    }
    if item.status.is_some_and(|status| !(100..=999).contains(&status)) {
        return Some(("/status", "must be between 100 and 999"));
    }
    None
}

/// As the deliverer has it; none for a lease that was never this worker's.
fn answer(served: &Served, item: OutcomeItem) -> Option<Answer> {
    let (tenant, number) = parse_lease(served, &item.lease)?;
    let word = item.outcome;
    let reason = item
        .reason
        .unwrap_or_else(|| format!("the worker said {}", word.as_str()));
    let outcome = match word {
        OutcomeWord::Accepted => Outcome::Accepted {
            provider_id: item.provider_id,
        },
        OutcomeWord::Delivered => Outcome::Delivered {
            provider_id: item.provider_id,
        },
        OutcomeWord::Recalled => Outcome::Delivered { provider_id: None },
        OutcomeWord::Retry => Outcome::Retry {
            after: item.after.map(Duration::from_secs),
            reason,
            fault: item.fault.unwrap_or(Fault::Provider),
        },
        OutcomeWord::Gone => Outcome::Gone { reason },
        OutcomeWord::Rejected => Outcome::Rejected { reason },
        OutcomeWord::Skipped => Outcome::Skipped { reason },
    };
    Some(Answer {
        lease: (tenant, item.delivery, number),
        report: Report {
            outcome,
            status: item.status,
            excerpt: item.excerpt,
            acknowledged: None,
        },
        recalled: word == OutcomeWord::Recalled,
    })
}

fn problem(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Stale => Problem::new(
            StatusCode::CONFLICT,
            "stale_lease",
            "The lease ended, or was answered: the delivery is not this worker's any more.",
        ),
        Refusal::OtherOperation => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "other_operation",
            "A recall ends well in recalled, and nothing else does.",
        ),
    }
}
