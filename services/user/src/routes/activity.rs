use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{DeviceName, Principal, Timestamp};
use carillon_runtime::http::{ApiJson, Caller, Problem, require_user};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{Users, activity::BeatError};

/// A heartbeat of a device.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActivityRequest {
    /// A device's id, or the name that its app gave it. Absent: the device that the token names.
    #[serde(default)]
    device: Option<DeviceName>,
    /// Whether somebody is in front of it: the page is visible and has the focus.
    focused: bool,
}

/// What a heartbeat led to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ActivityAnswer {
    /// Until when the user counts as active there, unless another heartbeat comes; null without focus.
    #[schema(required)]
    active_until: Option<Timestamp>,
}

/// Says whether somebody is in front of a device. Needs the user's token; a page that listens by a stream cookie sends it to
/// `POST /v1/stream/activity`.
#[utoipa::path(
    post,
    path = "/v1/activity",
    tag = "Users",
    request_body = ActivityRequest,
    responses(
        (status = 200, description = "It counts, on every node", body = ActivityAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not a user's token"),
        (status = 422, description = "The request does not fit, or nothing names the device"),
        (status = 503, description = "It was not kept"),
    ),
)]
pub(crate) async fn beat(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<ActivityRequest>,
) -> Result<Json<ActivityAnswer>, Problem> {
    take_beat(&users, &principal, request).await.map(Json)
}

pub(crate) async fn take_beat(
    users: &Users,
    principal: &Principal,
    request: ActivityRequest,
) -> Result<ActivityAnswer, Problem> {
    let caller = require_user(principal)?;
    let active_until = users
        .beat(&principal.tenant, caller, request.device, request.focused)
        .await?;
    Ok(ActivityAnswer { active_until })
}

impl From<BeatError> for Problem {
    fn from(error: BeatError) -> Self {
        match error {
            BeatError::NoDevice => Self::field("/device", "name the device: the token names none"),
            BeatError::Busy => Self {
                retry_after: Some(1),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "Too many heartbeats wait. Try again.",
                )
            },
            BeatError::Unavailable(cause) => cause.into(),
        }
    }
}
