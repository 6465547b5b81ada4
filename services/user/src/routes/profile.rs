//! A user's language and addresses, as requests give them and answers show them.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Address, ChannelKind, DeviceId, ExternalUserId, Scope, Timestamp,
    ports::{Channel, Unavailable},
};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem, require_scope};
use serde::{Deserialize, Deserializer, Serialize};

use super::users::UserAnswer;
use crate::{
    Users,
    device::{Change, Device, MAX_DEVICES, Wanted},
    locale::Locale,
};

/// The longest label, in bytes.
const MAX_LABEL: usize = 255;

/// What a user is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserRequest {
    /// The user's language, BCP 47. Absent: as it is; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 35, example = "de-AT")]
    locale: Option<Option<String>>,
    /// Where the user is reached outside the inbox: the whole set. Absent: as it is.
    #[serde(default)]
    #[schema(max_items = 32)]
    addresses: Option<Vec<AddressRequest>>,
}

/// An address of a user.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressRequest {
    /// Over which channel; not `in_app`.
    channel: ChannelKind,
    /// Where, in any spelling that the channel takes.
    #[schema(min_length = 1, max_length = 2_048)]
    address: String,
    /// Whether you vouch that the address is the user's. Absent: as it is; a new or retired one is not verified.
    #[serde(default)]
    verified: Option<bool>,
    /// What the user calls it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    label: Option<String>,
}

/// A device: an address of a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeviceAnswer {
    /// The device's id: an address that stays keeps it.
    id: DeviceId,
    /// Over which channel.
    channel: ChannelKind,
    /// Where, in the channel's canonical spelling.
    address: Address,
    /// What the user calls it.
    #[schema(required)]
    label: Option<String>,
    /// Whether its owner confirmed it, or the tenant vouched for it.
    verified: bool,
    /// Whether it is used.
    state: DeviceState,
    /// Why it was retired.
    #[schema(required)]
    reason: Option<String>,
    /// When it was retired.
    #[schema(required)]
    retired_at: Option<Timestamp>,
    /// When it was registered.
    created_at: Timestamp,
}

/// Whether an address is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeviceState {
    /// In use.
    Active,
    /// Found dead; registering it anew revives it.
    Retired,
}

impl From<Device> for DeviceAnswer {
    fn from(device: Device) -> Self {
        let (state, reason, retired_at) = match device.retired {
            Some(retired) => (DeviceState::Retired, Some(retired.reason), Some(retired.at)),
            None => (DeviceState::Active, None, None),
        };
        Self {
            id: device.id,
            channel: device.channel,
            address: device.address,
            label: device.label,
            verified: device.verified,
            state,
            reason,
            retired_at,
            created_at: device.created_at,
        }
    }
}

/// Makes a user or changes one: language and addresses. What is absent stays as it is. Needs the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}",
    tag = "Identity",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    request_body = UserRequest,
    responses(
        (status = 200, description = "The user as he is now", body = UserAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 422, description = "The request does not fit; an address is none of its channel's"),
    ),
)]
pub(crate) async fn put(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    ApiJson(request): ApiJson<UserRequest>,
) -> Result<Json<UserAnswer>, Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    let change = check(&users.channels, request).map_err(Problem::invalid)?;
    let changed = users.put_profile(&principal.tenant, &user, &change).await;
    let (known, devices) = changed.map_err(Unavailable::from)?;
    Ok(Json(UserAnswer::new(user, known, devices)))
}

/// Everything that is wrong with a request, each at its place.
fn check(channels: &[Arc<dyn Channel>], request: UserRequest) -> Result<Change, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut locale = None;
    match request.locale {
        Some(Some(text)) => match text.parse::<Locale>() {
            Ok(tag) => locale = Some(Some(tag.as_str().to_owned())),
            Err(error) => errors.push(FieldError::new("/locale", error.0)),
        },
        Some(None) => locale = Some(None),
        None => {}
    }
    let mut devices = None;
    if let Some(addresses) = request.addresses {
        if addresses.len() > MAX_DEVICES {
            errors.push(FieldError::new("/addresses", "a user has at most 32 addresses"));
        } else {
            devices = Some(check_addresses(channels, addresses, &mut errors));
        }
    }
    if errors.is_empty() {
        Ok(Change { locale, devices })
    } else {
        Err(errors)
    }
}

fn check_addresses(
    channels: &[Arc<dyn Channel>],
    addresses: Vec<AddressRequest>,
    errors: &mut Vec<FieldError>,
) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(addresses.len());
    for (index, given) in addresses.into_iter().enumerate() {
        let at = |field: &str| format!("/addresses/{index}/{field}");
        if given.channel.is_in_app() {
            errors.push(FieldError::new(
                at("channel"),
                "everybody has an inbox: in_app has no addresses",
            ));
            continue;
        }
        let misnamed =
            |label: &String| !matches!(label.len(), 1..=MAX_LABEL) || label.chars().any(char::is_control);
        if given.label.as_ref().is_some_and(misnamed) {
            errors.push(FieldError::new(
                at("label"),
                "a label is 1-255 bytes without control characters",
            ));
        }
        // A channel that a worker brings takes any text.
        let channel = channels.iter().find(|channel| channel.kind() == given.channel);
        let address = match channel {
            Some(channel) => channel.check(&given.address).map(|checked| checked.address),
            None => given.address.parse::<Address>(),
        };
        let address = match address {
            Ok(address) => address,
            Err(error) => {
                errors.push(FieldError::new(at("address"), error.0));
                continue;
            }
        };
        if wanted
            .iter()
            .any(|other| (&other.channel, &other.address) == (&given.channel, &address))
        {
            errors.push(FieldError::new(
                at("address"),
                "the address is in the list already",
            ));
            continue;
        }
        wanted.push(Wanted {
            channel: given.channel,
            address,
            label: given.label,
            verified: given.verified,
        });
    }
    wanted
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
