use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use carillon_domain::ChannelKind;
use carillon_runtime::http::{ApiJson, Caller, IdPath, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MOST, holder, work::WorkItem, worker};
use crate::Dispatcher;

/// The longest wait, in seconds.
const LONGEST: u64 = 30;

/// How much is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PullRequest {
    /// Deliveries at the most.
    #[schema(minimum = 1, maximum = 100)]
    limit: usize,
    /// Seconds to wait for the first one.
    #[schema(maximum = 30)]
    wait: u64,
}

impl Default for PullRequest {
    fn default() -> Self {
        Self { limit: 10, wait: 0 }
    }
}

/// What is to be delivered.
#[derive(Serialize, ToSchema)]
pub(super) struct PullAnswer {
    /// Nothing, where nothing came in time.
    data: Vec<WorkItem>,
}

/// Leases due deliveries of a channel to its worker. Each goes to somebody else when its lease ends without an outcome.
/// Needs a key with the scope `channel:{kind}`.
#[utoipa::path(
    post,
    path = "/v1/channels/{kind}/pull",
    operation_id = "pull_work",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = PullRequest,
    responses(
        (status = 200, description = "The work", body = PullAnswer),
        (status = 401, description = "No valid credential; also where it was revoked meanwhile"),
        (status = 404, description = "The channel is not announced"),
    ),
)]
pub(super) async fn pull(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<PullRequest>,
) -> Result<Json<PullAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    if !(1..=MOST).contains(&request.limit) {
        return Err(Problem::field("/limit", "must be between 1 and 100"));
    }
    if request.wait > LONGEST {
        return Err(Problem::field("/wait", "must be between 0 and 30"));
    }
    let remote = &dispatcher.remote;
    let _place = remote.place()?;
    let mut announced = remote.announced(&served, &kind).await?;
    remote.seen(&mut announced).await?;
    let wait = Duration::from_secs(request.wait);
    let holder = holder(&principal, None);
    let handed = tokio::select! {
        handed = remote.pull(&served, &kind, holder, request.limit, wait) => handed?,
        () = remote.revoked(&served, holder.key) => return Err(Problem::unauthorized()),
    };
    let forms = announced.forms.as_deref();
    Ok(Json(PullAnswer {
        data: handed
            .into_iter()
            .map(|handing| WorkItem::of(handing, forms))
            .collect(),
    }))
}
