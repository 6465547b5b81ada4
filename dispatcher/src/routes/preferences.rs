use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{Category, ChannelKind, ExternalUserId, Timestamp};
use carillon_policy::{DecidedBy, DigestChoice, DigestPeriod, Preference};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::acting::{known, mentioned};
use crate::{
    Dispatcher,
    policy::{MOST_PREFERENCES, UserChoices},
    store::policy::PreferenceRow,
};

/// What stands for all categories, or all channels.
const ALL: &str = "*";

/// A part of a path: one of ours, or `*` for all of them.
pub(super) struct OneOrAll<T>(Option<T>);

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for OneOrAll<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text == ALL {
            return Ok(Self(None));
        }
        text.parse().map(|one| Self(Some(one))).map_err(de::Error::custom)
    }
}

/// Everything that a user chose.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreferencesRequest {
    /// At most 1,000, each category and channel once. Those that are not named go.
    #[schema(max_items = 1_000)]
    preferences: Vec<Preference>,
}

/// What a user chooses.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChoiceRequest {
    /// On or off; without it the less specific decides.
    enabled: Option<bool>,
    /// `immediate`, or the name of a digest that the category offers; without it the less specific decides.
    digest: Option<DigestChoice>,
}

/// What a user chose, and what holds because of it.
#[derive(Serialize, ToSchema)]
pub(super) struct PreferencesAnswer {
    /// What the user chose, by category and channel, those for all first.
    preferences: Vec<PreferenceAnswer>,
    /// What holds now, by category: the tenant's, and those that the user chose something for.
    effective: Vec<EffectiveCategory>,
}

/// What a user chose for a category, a channel, or a category over a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct PreferenceAnswer {
    /// Null for all.
    #[schema(required)]
    category: Option<Category>,
    /// Null for all.
    #[schema(required)]
    channel: Option<ChannelKind>,
    #[schema(required)]
    enabled: Option<bool>,
    #[schema(required)]
    digest: Option<String>,
    /// When it was chosen.
    at: Timestamp,
}

/// What holds for a category.
#[derive(Serialize, ToSchema)]
struct EffectiveCategory {
    category: Category,
    /// What people call it.
    #[schema(required)]
    title: Option<String>,
    /// Whether the user's "off" counts.
    may_turn_off: bool,
    /// Whether its notifications pass over all of this.
    critical: bool,
    /// The digests that the user may choose from, beside `immediate`.
    digests: Vec<DigestPeriod>,
    /// Every channel that there is.
    channels: Vec<EffectiveChannel>,
}

/// What holds for a category over a channel.
#[derive(Serialize, ToSchema)]
struct EffectiveChannel {
    channel: ChannelKind,
    enabled: bool,
    /// Who said so.
    decided_by: DecidedBy,
    /// `immediate`, or the digest that its alerts go to.
    digest: String,
}

impl From<&PreferenceRow> for PreferenceAnswer {
    fn from(row: &PreferenceRow) -> Self {
        Self {
            category: row.category.clone(),
            channel: row.channel.clone(),
            enabled: row.enabled,
            digest: row.digest.clone(),
            at: row.at,
        }
    }
}

impl From<&UserChoices> for PreferencesAnswer {
    fn from(choices: &UserChoices) -> Self {
        let kinds = choices.channels.kinds();
        let effective = |category: &Category| {
            let settings = choices.settings(category);
            let rules = settings
                .map(|settings| settings.rules.clone())
                .unwrap_or_default();
            let channels = kinds.iter().map(|channel| {
                let resolved = choices.resolved(category, channel, &rules.policy);
                EffectiveChannel {
                    channel: channel.clone(),
                    enabled: resolved.enabled,
                    decided_by: resolved.decided_by,
                    digest: resolved
                        .digest
                        .map_or(DigestChoice::IMMEDIATE, |period| period.name.as_str())
                        .to_owned(),
                }
            });
            EffectiveCategory {
                category: category.clone(),
                title: settings.and_then(|settings| settings.title.clone()),
                may_turn_off: rules.policy.may_turn_off,
                critical: rules.critical,
                channels: channels.collect(),
                digests: rules.policy.digests.clone(),
            }
        };
        Self {
            preferences: choices.rows.iter().map(PreferenceAnswer::from).collect(),
            effective: choices.categories().into_iter().map(effective).collect(),
        }
    }
}

/// Shows what a user chose, and for every category and channel what holds and who decided it. The user's own token does, or
/// the scope `users:write`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/preferences",
    tag = "Preferences",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 200, description = "What was chosen and what holds", body = PreferencesAnswer),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 404, description = "No such user"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<PreferencesAnswer>, Problem> {
    let id = known(&dispatcher, &principal, &user).await?;
    let choices = dispatcher.choices_of(&principal.tenant, id).await?;
    Ok(Json(PreferencesAnswer::from(&choices)))
}

/// Replaces everything that a user chose. The user's own token does, or the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/preferences",
    tag = "Preferences",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    request_body = PreferencesRequest,
    responses(
        (status = 200, description = "What was chosen and what holds", body = PreferencesAnswer),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 422, description = "The request does not fit, or chooses what there is not"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    ApiJson(request): ApiJson<PreferencesRequest>,
) -> Result<Json<PreferencesAnswer>, Problem> {
    let id = mentioned(&dispatcher, &principal, &user).await?;
    let tenant = &principal.tenant;
    let wanted = request.preferences;
    if wanted.len() as u64 > MOST_PREFERENCES {
        return Err(Problem::field("/preferences", "must be at most 1,000"));
    }
    let choices = dispatcher.choices_of(tenant, id).await?;
    let mut errors = Vec::new();
    let mut seen = std::collections::HashMap::with_capacity(wanted.len());
    for (index, preference) in wanted.iter().enumerate() {
        let at = format!("/preferences/{index}");
        errors.append(&mut choices.check(preference, &at));
        if let Some(earlier) = seen.insert((&preference.category, &preference.channel), index) {
            errors.push(FieldError::new(at, format!("repeats /preferences/{earlier}")));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    dispatcher.choose(tenant, id, true, wanted).await?;
    let choices = dispatcher.choices_of(tenant, id).await?;
    Ok(Json(PreferencesAnswer::from(&choices)))
}

/// Chooses for a category over a channel; `*` stands for all categories, or all channels, but not for both. The user's own
/// token does, or the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/preferences/{category}/{channel}",
    tag = "Preferences",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("category" = String, Path, description = "The category, or `*`"),
        ("channel" = String, Path, description = "The channel, or `*`"),
    ),
    request_body = ChoiceRequest,
    responses(
        (status = 200, description = "Chosen", body = PreferenceAnswer),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 409, description = "The user has 1,000 preferences"),
        (status = 422, description = "The request does not fit, or chooses what there is not"),
    ),
)]
pub(super) async fn choose(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath((user, category, channel)): IdPath<(ExternalUserId, OneOrAll<Category>, OneOrAll<ChannelKind>)>,
    ApiJson(request): ApiJson<ChoiceRequest>,
) -> Result<Json<PreferenceAnswer>, Problem> {
    let id = mentioned(&dispatcher, &principal, &user).await?;
    let tenant = &principal.tenant;
    let preference = Preference {
        category: category.0,
        channel: channel.0,
        enabled: request.enabled,
        digest: request.digest,
    };
    let choices = dispatcher.choices_of(tenant, id).await?;
    let errors = choices.check(&preference, "");
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let (category, channel) = (preference.category.clone(), preference.channel.clone());
    dispatcher.choose(tenant, id, false, vec![preference]).await?;
    let choices = dispatcher.choices_of(tenant, id).await?;
    let row = choices.row(category.as_ref(), channel.as_ref());
    Ok(Json(row.ok_or_else(Problem::not_found)?.into()))
}

/// Takes back what was chosen for a category over a channel: the less specific decides again. The user's own token does, or
/// the scope `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/preferences/{category}/{channel}",
    tag = "Preferences",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("category" = String, Path, description = "The category, or `*`"),
        ("channel" = String, Path, description = "The channel, or `*`"),
    ),
    responses(
        (status = 204, description = "Taken back"),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 404, description = "No such user, or nothing was chosen for it"),
    ),
)]
pub(super) async fn leave_open(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath((user, category, channel)): IdPath<(ExternalUserId, OneOrAll<Category>, OneOrAll<ChannelKind>)>,
) -> Result<StatusCode, Problem> {
    let id = known(&dispatcher, &principal, &user).await?;
    let tenant = &principal.tenant;
    let choices = dispatcher.choices_of(tenant, id).await?;
    if choices.row(category.0.as_ref(), channel.0.as_ref()).is_none() {
        return Err(Problem::not_found());
    }
    dispatcher.leave_open(tenant, id, category.0, channel.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
