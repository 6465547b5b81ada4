//! A user's devices.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Address, ChannelKind, DeviceId, DeviceKind, DeviceName, ExternalUserId, PlainAddress, Scope, Timestamp,
    ports::{Channel, Directory as _, Unavailable},
};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Listing, Problem};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    acting::{Acting, acting, readable_by},
    profile::given,
    sentence,
};
use crate::{
    Users,
    device::{Device, DeviceChange, DeviceError, Retired},
    locale::Locale,
    profiles::PutDeviceError,
};

/// The longest label, in bytes.
const MAX_LABEL: usize = 255;

/// The longest platform and version, in bytes.
const MAX_WORD: usize = 64;

/// Why a device was retired that its user or the tenant removed.
const REMOVED: &str = "removed";

/// What a device is to be. What is absent stays as it is; null removes it.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRequest {
    /// Which device, when its app knows; else the address and the name tell.
    #[serde(default)]
    id: Option<DeviceId>,
    /// As its app calls it, and as heartbeats and tokens name it; unique among the user's devices.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DeviceName>)]
    name: Option<Option<DeviceName>>,
    /// What it is. A new one's follows from its channel when absent.
    #[serde(default)]
    kind: Option<DeviceKind>,
    /// Over which channel it is reached outside the inbox; with `address`. A browser or an app needs none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ChannelKind>)]
    channel: Option<Option<ChannelKind>>,
    /// Where, in any spelling that the channel takes; with `channel`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2_048)]
    address: Option<Option<String>>,
    /// What it runs on, for example `ios`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    platform: Option<Option<String>>,
    /// Its language, BCP 47, where it differs from the user's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 35, example = "de-AT")]
    locale: Option<Option<String>>,
    /// The version of its app.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    app_version: Option<Option<String>>,
    /// What the user calls it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    label: Option<Option<String>>,
    /// Whether you vouch that the address is the user's; an API key alone may say so.
    #[serde(default)]
    verified: Option<bool>,
}

/// A device of a user: where he is reached, or where he looks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeviceAnswer {
    /// The device's id.
    id: DeviceId,
    /// As its app calls it.
    #[schema(required)]
    name: Option<DeviceName>,
    /// What it is.
    kind: DeviceKind,
    /// Over which channel it is reached outside the inbox.
    #[schema(required)]
    channel: Option<ChannelKind>,
    /// Where, in the channel's canonical spelling.
    #[schema(required)]
    address: Option<Address>,
    /// What it runs on.
    #[schema(required)]
    platform: Option<String>,
    /// Its language, where it differs from the user's.
    #[schema(required)]
    locale: Option<String>,
    /// The version of its app.
    #[schema(required)]
    app_version: Option<String>,
    /// What the user calls it.
    #[schema(required)]
    label: Option<String>,
    /// Whether its owner confirmed the address, or the tenant vouched for it.
    verified: bool,
    /// Whether it is used.
    state: DeviceState,
    /// Why it was retired.
    #[schema(required)]
    reason: Option<String>,
    /// When it was retired.
    #[schema(required)]
    retired_at: Option<Timestamp>,
    /// When it was registered first.
    created_at: Timestamp,
    /// When it was registered, changed or retired last.
    updated_at: Timestamp,
}

/// Whether a device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeviceState {
    /// In use.
    Active,
    /// Removed, moved to another user, or found dead; registering it anew revives it.
    Retired,
}

impl From<Device> for DeviceAnswer {
    fn from(device: Device) -> Self {
        let (state, reason, retired_at) = match device.retired {
            Some(retired) => (DeviceState::Retired, Some(retired.reason), Some(retired.at)),
            None => (DeviceState::Active, None, None),
        };
        let (channel, address) = device.to.map(|to| (to.channel, to.to)).unzip();
        Self {
            id: device.id,
            name: device.name,
            kind: device.kind,
            channel,
            address,
            platform: device.platform,
            locale: device.locale,
            app_version: device.app_version,
            label: device.label,
            verified: device.verified,
            state,
            reason,
            retired_at,
            created_at: device.created_at,
            updated_at: device.updated_at,
        }
    }
}

/// Registers a device of a user, or changes the one that has the same id, address or name. The user's own token does, or
/// the scope `users:write`. The address of a browser, an app or a phone is one user's: the former owner's device is
/// retired, unless he confirmed it and it is not a backend that says so.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/devices",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    request_body = DeviceRequest,
    responses(
        (status = 200, description = "It was known; as it is now", body = DeviceAnswer),
        (status = 201, description = "Registered", body = DeviceAnswer),
        (status = 403, description = "Another user's token, or a key without the scope; or a user vouches for himself"),
        (status = 404, description = "The user has no device of that id"),
        (status = 409, description = "The user has 32 devices in use"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn register(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    ApiJson(request): ApiJson<DeviceRequest>,
) -> Result<(StatusCode, Json<DeviceAnswer>), Problem> {
    let acting = acting(&principal, &user, Scope::UsersWrite)?;
    let change = DeviceChange {
        registers: true,
        ..check(&users.channels, &acting, request)?
    };
    let put = users.put_device(&principal.tenant, &user, &change).await?;
    let status = if put.made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(put.device.into())))
}

/// Changes a device. What is absent stays as it is; null removes it. The user's own token does, or the scope `users:write`.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}/devices/{device}",
    tag = "Users",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("device" = DeviceId, Path, description = "The device's id"),
    ),
    request_body = DeviceRequest,
    responses(
        (status = 200, description = "As it is now", body = DeviceAnswer),
        (status = 403, description = "Another user's token, or a key without the scope; or a user vouches for himself"),
        (status = 404, description = "No such user or device"),
        (status = 409, description = "Another device of the user has that name or address"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn change(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((user, device)): IdPath<(ExternalUserId, DeviceId)>,
    ApiJson(request): ApiJson<DeviceRequest>,
) -> Result<Json<DeviceAnswer>, Problem> {
    let acting = acting(&principal, &user, Scope::UsersWrite)?;
    if request.id.is_some_and(|id| id != device) {
        return Err(Problem::field("/id", "a device keeps its id"));
    }
    let change = DeviceChange {
        id: Some(device),
        ..check(&users.channels, &acting, request)?
    };
    // Only a registration makes a user.
    let known = users.find(&principal.tenant, &user).await?;
    known.ok_or_else(Problem::not_found)?;
    let put = users.put_device(&principal.tenant, &user, &change).await?;
    Ok(Json(put.device.into()))
}

/// Lists a user's devices by when they were registered, retired ones for a while as well. The user's own token does, or one
/// of the scopes `users:write` and `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/devices",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 200, description = "All of them, at most 32", body = Listing<DeviceAnswer>),
        (status = 403, description = "Another user's token, or a key without one of the scopes"),
        (status = 404, description = "No such user"),
    ),
)]
pub(crate) async fn list(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<Listing<DeviceAnswer>>, Problem> {
    acting(&principal, &user, readable_by(&principal))?;
    let known = users.find(&principal.tenant, &user).await?;
    let known = known.ok_or_else(Problem::not_found)?;
    let devices = users.store.devices(&principal.tenant, known).await;
    let devices = devices.map_err(Unavailable::from)?;
    Ok(Json(Listing {
        data: devices.into_iter().map(DeviceAnswer::from).collect(),
        next: None,
    }))
}

/// Retires a device: nothing is sent to it until it is registered anew. The user's own token does, or the scope
/// `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/devices/{device}",
    tag = "Users",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("device" = DeviceId, Path, description = "The device's id"),
    ),
    responses(
        (status = 204, description = "It is retired"),
        (status = 403, description = "Another user's token, or a key without the scope"),
        (status = 404, description = "No such user or device"),
    ),
)]
pub(crate) async fn retire(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((user, device)): IdPath<(ExternalUserId, DeviceId)>,
) -> Result<StatusCode, Problem> {
    acting(&principal, &user, Scope::UsersWrite)?;
    let tenant = &principal.tenant;
    let known = users.find(tenant, &user).await?.ok_or_else(Problem::not_found)?;
    let retired = Retired {
        reason: REMOVED.to_owned(),
        at: users.clock.now(),
    };
    let was_there = users.store.retire_device(tenant, known, device, &retired).await;
    users.forget_profiles(tenant, &[known]).await;
    if was_there.map_err(Unavailable::from)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Everything that is wrong with a request, each at its place.
fn check(
    channels: &[Arc<dyn Channel>],
    acting: &Acting,
    request: DeviceRequest,
) -> Result<DeviceChange, Problem> {
    if request.verified.is_some() && !acting.is_backend() {
        return Err(Problem::forbidden(
            "An address is confirmed by the code that comes there, or by an API key.",
        ));
    }
    let mut errors = Vec::new();
    let to = match (request.channel, request.address) {
        (None, None) => None,
        (Some(None), Some(None)) => Some(None),
        (Some(Some(channel)), Some(Some(address))) => checked(channels, &channel, &address, "", &mut errors)
            .map(|to| Some(PlainAddress { channel, to })),
        _ => {
            errors.push(FieldError::new("/address", "channel and address come together"));
            None
        }
    };
    let locale = request.locale.map(|locale| {
        let text = locale?;
        match text.parse::<Locale>() {
            Ok(tag) => Some(tag.as_str().to_owned()),
            Err(error) => {
                errors.push(FieldError::new("/locale", error.0));
                None
            }
        }
    });
    for (member, text, longest) in [
        ("/platform", &request.platform, MAX_WORD),
        ("/app_version", &request.app_version, MAX_WORD),
        ("/label", &request.label, MAX_LABEL),
    ] {
        if let Some(Some(text)) = text
            && !is_line(text, longest)
        {
            let detail = format!("expected 1-{longest} bytes without control characters");
            errors.push(FieldError::new(member, detail));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(DeviceChange {
        id: request.id,
        kind: request.kind,
        to,
        name: request.name,
        platform: request.platform,
        locale,
        app_version: request.app_version,
        label: request.label,
        verified: request.verified,
        registers: false,
        vouched: acting.is_backend(),
    })
}

/// Whether a text is one line of at most `longest` bytes.
pub(super) fn is_line(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// An address in its channel's canonical spelling; what is wrong with it is below `at`.
pub(super) fn checked(
    channels: &[Arc<dyn Channel>],
    kind: &ChannelKind,
    address: &str,
    at: &str,
    errors: &mut Vec<FieldError>,
) -> Option<Address> {
    if kind.is_in_app() {
        errors.push(FieldError::new(
            format!("{at}/channel"),
            "everybody has an inbox: in_app has no addresses",
        ));
        return None;
    }
    // A channel that a worker brings takes any text.
    let channel = channels.iter().find(|channel| channel.kind() == *kind);
    let checked = match channel {
        Some(channel) => channel.check(address).map(|checked| checked.address),
        None => address.parse::<Address>(),
    };
    checked
        .map_err(|error| errors.push(FieldError::new(format!("{at}/address"), error.0)))
        .ok()
}

impl From<PutDeviceError> for Problem {
    fn from(error: PutDeviceError) -> Self {
        match error {
            PutDeviceError::Refused(refusal) => refusal.into(),
            PutDeviceError::Unavailable(cause) => cause.into(),
        }
    }
}

impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::NotFound => Self::not_found(),
            DeviceError::Full | DeviceError::Taken => {
                Self::new(StatusCode::CONFLICT, "conflict", sentence(&error))
            }
            DeviceError::NoAddress => Self::field("/address", error.to_string()),
            DeviceError::NoKind => Self::field("/kind", error.to_string()),
        }
    }
}
