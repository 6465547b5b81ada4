//! A user's properties and addresses, as requests give them.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    ChannelKind, ExternalUserId, PlainAddress, Scope,
    ports::{Channel, Unavailable},
};
use carillon_policy::Zone;
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{
    acting::acting,
    devices::{checked, is_line},
    users::UserAnswer,
};
use crate::{
    Users, attributes,
    device::{MAX_DEVICES, Wanted},
    locale::Locale,
    profiles::Change,
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
    /// The user's IANA time zone: quiet hours and schedules follow its wall clock. Absent: as it is; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "Europe/Vienna")]
    timezone: Option<Option<String>>,
    /// What you want to know of the user later, for segments and rules: an object of at most 16 KiB and 64 keys, 4 deep.
    /// Absent: as it is; null: nothing; else this is all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    attributes: Option<Option<Map<String, Value>>>,
    /// Where the user is reached outside the inbox: the whole set. Absent: as it is. Browsers and apps, which
    /// register themselves as devices, stay when they are not in it.
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

/// Makes a user or changes one. What is absent stays as it is. Needs the scope `users:write`; with his own token a user
/// changes his language and time zone.
#[utoipa::path(
    put,
    path = "/v1/users/{id}",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    request_body = UserRequest,
    responses(
        (status = 200, description = "The user as he is now", body = UserAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Another user's token, or a key without the scope; or a user writes what a backend writes"),
        (status = 409, description = "The user has 32 devices in use"),
        (status = 422, description = "The request does not fit; an address is none of its channel's"),
    ),
)]
pub(crate) async fn put(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    ApiJson(request): ApiJson<UserRequest>,
) -> Result<Json<UserAnswer>, Problem> {
    let acting = acting(&principal, &user, Scope::UsersWrite)?;
    if !acting.is_backend() && (request.attributes.is_some() || request.addresses.is_some()) {
        return Err(Problem::forbidden(
            "A user's own token changes locale and timezone; the rest needs an API key.",
        ));
    }
    let change = check(&users.channels, request).map_err(Problem::invalid)?;
    let changed = users.put_profile(&principal.tenant, &user, &change).await;
    let (known, devices) = changed.map_err(Unavailable::from)??;
    let answer = UserAnswer::new(&users, &principal.tenant, user, known, devices).await?;
    Ok(Json(answer))
}

/// Everything that is wrong with a request, each at its place.
fn check(channels: &[Arc<dyn Channel>], request: UserRequest) -> Result<Change, Vec<FieldError>> {
    let mut errors = Vec::new();
    let locale = request.locale.map(|locale| match locale?.parse::<Locale>() {
        Ok(tag) => Some(tag.as_str().to_owned()),
        Err(error) => {
            errors.push(FieldError::new("/locale", error.0));
            None
        }
    });
    let timezone = request.timezone.map(|zone| match zone?.parse::<Zone>() {
        Ok(zone) => Some(zone.as_str().to_owned()),
        Err(error) => {
            errors.push(FieldError::new("/timezone", error.0));
            None
        }
    });
    let attributes = request
        .attributes
        .map(|attributes| match attributes::encode(&attributes?) {
            Ok(text) => Some(text),
            Err(fault) => {
                errors.push(fault);
                None
            }
        });
    let mut devices = None;
    if let Some(addresses) = request.addresses {
        if addresses.len() > MAX_DEVICES {
            errors.push(FieldError::new("/addresses", "a user has at most 32 addresses"));
        } else {
            devices = Some(check_addresses(channels, addresses, &mut errors));
        }
    }
    if errors.is_empty() {
        Ok(Change {
            locale,
            timezone,
            attributes,
            devices,
        })
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
        let at = format!("/addresses/{index}");
        let misnamed = |label: &String| !is_line(label, MAX_LABEL);
        if given.label.as_ref().is_some_and(misnamed) {
            errors.push(FieldError::new(
                format!("{at}/label"),
                "a label is 1-255 bytes without control characters",
            ));
        }
        let Some(to) = checked(channels, &given.channel, &given.address, &at, errors) else {
            continue;
        };
        let to = PlainAddress {
            channel: given.channel,
            to,
        };
        if wanted.iter().any(|other| other.to == to) {
            errors.push(FieldError::new(
                format!("{at}/address"),
                "the address is in the list already",
            ));
            continue;
        }
        wanted.push(Wanted {
            to,
            label: given.label,
            verified: given.verified,
        });
    }
    wanted
}

/// Tells null from absent.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
