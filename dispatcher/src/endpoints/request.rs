//! What callers ask for, and what is wrong with it.

use std::collections::HashSet;

use carillon_domain::{ExternalUserId, ports::SigningKind};
use carillon_runtime::http::FieldError;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::{events::EventFilter, store::endpoints::EndpointState};

/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1_024;
/// The most filters of an endpoint.
const MAX_EVENTS: usize = 32;
/// The longest time that an old secret goes on signing, in seconds.
pub(super) const LONGEST_GRACE: i64 = 30 * 86_400;

/// An endpoint to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEndpoint {
    /// Where it is: https, and a public address unless the server's configuration allows the host.
    #[schema(max_length = 2048)]
    pub(super) url: String,
    /// Which events it is told, 1-32 kinds; `*` at the end of one stands for the rest (`delivery.*`). A user's endpoint
    /// is told `notification.created` and nothing else.
    #[serde(default)]
    pub(super) events: Option<Vec<String>>,
    /// Whose address it is, by the tenant's own id. Absent: the tenant's own.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(super) user: Option<ExternalUserId>,
    /// Whether it is told one thing at a time, in order.
    #[serde(default)]
    pub(super) fifo: Option<bool>,
    /// A note of at most 1,024 bytes.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// How its first secret signs. `hmac` by default.
    #[serde(default)]
    pub(super) secret_kind: Option<SigningKind>,
}

/// What to change about an endpoint; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EndpointPatch {
    /// As when registering. What waits for it goes there too.
    #[schema(max_length = 2048)]
    pub(super) url: Option<String>,
    /// As when registering; the whole list.
    pub(super) events: Option<Vec<String>>,
    /// Whether it is told one thing at a time, in order.
    pub(super) fifo: Option<bool>,
    /// A note of at most 1,024 bytes; null removes it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(super) description: Option<Option<String>>,
    /// `true` disables it: what waits for it becomes a dead letter. `false` enables it.
    pub(super) disabled: Option<bool>,
}

/// Tells null, which is something, from absence.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl EndpointPatch {
    pub(super) fn state(&self) -> Option<EndpointState> {
        self.disabled.map(|disabled| {
            if disabled {
                EndpointState::Disabled
            } else {
                EndpointState::Enabled
            }
        })
    }
}

/// How to rotate an endpoint's secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateRequest {
    /// How the new one signs; as the newest one by default.
    pub(super) secret_kind: Option<SigningKind>,
    /// How many seconds the earlier ones go on signing, 0-2,592,000. 24 hours by default.
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub(super) grace: Option<i64>,
}

/// The filters that a request names.
pub(super) fn events(
    of_user: bool,
    asked: Option<Vec<String>>,
    errors: &mut Vec<FieldError>,
) -> Vec<EventFilter> {
    if of_user {
        let only = EventFilter::created();
        if asked.is_some_and(|asked| asked != [only.as_str()]) {
            errors.push(FieldError::new(
                "/events",
                "a user's endpoint is told notification.created and nothing else",
            ));
        }
        return vec![only];
    }
    let asked = asked.unwrap_or_default();
    if !(1..=MAX_EVENTS).contains(&asked.len()) {
        errors.push(FieldError::new("/events", "must have 1 to 32 items"));
        return Vec::new();
    }
    let mut seen = HashSet::with_capacity(asked.len());
    let mut events = Vec::with_capacity(asked.len());
    for (index, text) in asked.iter().enumerate() {
        match EventFilter::of_tenant(text) {
            Ok(filter) if seen.insert(filter.clone()) => events.push(filter),
            Ok(_) => errors.push(FieldError::new(
                format!("/events/{index}"),
                "repeats an earlier one",
            )),
            Err(error) => errors.push(FieldError::new(format!("/events/{index}"), error.0)),
        }
    }
    events
}

pub(super) fn description(text: Option<&str>, errors: &mut Vec<FieldError>) {
    if text.is_some_and(|text| text.len() > MAX_DESCRIPTION) {
        errors.push(FieldError::new("/description", "must be at most 1024 bytes"));
    }
    if text.is_some_and(|text| text.contains('\0')) {
        errors.push(FieldError::new("/description", "must not contain U+0000"));
    }
}
