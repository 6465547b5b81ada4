//! The page on which somebody chooses what comes, behind a signed link: no account, no script.

mod form;
mod render;

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use carillon_domain::{Category, ChannelKind, TenantId, UserId};
use carillon_policy::{CategoryPolicy, DigestChoice, Preference, QuietHours};
use carillon_runtime::http::{ApiQuery, Problem, read_body};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::unsubscribe::html;
use crate::{Dispatcher, intake::busy, policy::UserChoices, store::policy::PreferenceRow};
use form::Form;
use render::View;

/// The most categories on one page. Who has more chooses among the others by the API.
const SHOWN: usize = 200;

/// What happened before.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Before {
    /// The page says that everything was saved.
    #[serde(default)]
    saved: bool,
}

/// A page on which the link's recipient chooses what comes over which channel, how often, and when it is quiet. The link is all
/// that it takes.
#[utoipa::path(
    get,
    path = "/v1/preferences/{token}",
    tag = "Preferences",
    params(("token" = String, Path, description = "From the link"), Before),
    security(()),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 404, description = "None of ours"),
    ),
)]
pub(super) async fn page(
    State(dispatcher): State<Arc<Dispatcher>>,
    Path(token): Path<String>,
    ApiQuery(before): ApiQuery<Before>,
    request: Request,
) -> Result<Response, Problem> {
    let (tenant, user) = read(&dispatcher, &request, &token)?;
    let choices = dispatcher.choices_of(&tenant, user).await?;
    let mut view = View::new(&choices, dispatcher.ports.clock.now());
    view.saved = before.saved;
    Ok(html(StatusCode::OK, view.page()))
}

/// Saves the page's form: what differs from what holds is what was chosen.
#[utoipa::path(
    post,
    path = "/v1/preferences/{token}",
    tag = "Preferences",
    params(("token" = String, Path, description = "From the link")),
    security(()),
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "Saved; the page again"),
        (status = 404, description = "None of ours"),
        (status = 409, description = "There would be more than 1,000 preferences"),
        (status = 422, description = "The page, which says what is wrong", content_type = "text/html", body = String),
        (status = 503, description = "Too many at once"),
    ),
)]
pub(super) async fn save(
    State(dispatcher): State<Arc<Dispatcher>>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (tenant, user) = read(&dispatcher, &request, &token)?;
    let Ok(_turn) = dispatcher.clicks.try_acquire() else {
        return Err(busy("Too many at once. Try again."));
    };
    let form = Form::read(&read_body(request).await?);
    let choices = dispatcher.choices_of(&tenant, user).await?;
    let windows = match form.windows() {
        Ok(windows) => windows,
        Err(faults) => {
            let mut view = View::new(&choices, dispatcher.ports.clock.now());
            view.fill(&form, faults);
            return Ok(html(StatusCode::UNPROCESSABLE_ENTITY, view.page()));
        }
    };
    let chosen = chosen(&choices, &form);
    if !chosen.is_empty() {
        dispatcher.choose(&tenant, user, false, chosen).await?;
    }
    let before = choices
        .quiet_hours
        .as_ref()
        .map_or(&[][..], |hours| &hours.windows);
    if let Some(windows) = windows
        && windows != before
    {
        let hours = (!windows.is_empty()).then_some(QuietHours { windows });
        dispatcher.be_quiet(&tenant, user, hours).await?;
    }
    let again = HeaderValue::from_static("?saved=true");
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, again)]).into_response();
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn read(dispatcher: &Dispatcher, request: &Request, token: &str) -> Result<(TenantId, UserId), Problem> {
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .cloned()
        .unwrap_or_default();
    let user = dispatcher
        .links
        .as_ref()
        .and_then(|links| links.read_preferences(&tenant, token));
    user.map(|user| (tenant, user)).ok_or_else(Problem::not_found)
}

/// The channels of a category that the page shows: its own, and those that the user chose something for.
fn channels(choices: &UserChoices, category: &Category) -> Vec<ChannelKind> {
    let own = choices
        .settings(category)
        .map_or(&[][..], |settings| &settings.channels);
    let chosen = choices
        .rows
        .iter()
        .filter(|row| row.category.as_ref() == Some(category));
    let mut channels: Vec<ChannelKind> = own.to_vec();
    for channel in chosen.filter_map(|row| row.channel.as_ref()) {
        if !channels.contains(channel) && choices.channels.has(channel) {
            channels.push(channel.clone());
        }
    }
    channels
}

/// How often a category comes, over all of the page's channels; none where that differs between them.
fn digest_of(choices: &UserChoices, category: &Category, policy: &CategoryPolicy) -> Option<DigestChoice> {
    let mut channels = channels(choices, category);
    // An inbox keeps everything at once.
    channels.retain(|channel| !channel.is_in_app());
    let mut each = channels
        .iter()
        .map(|channel| choices.digest_of(category, channel, policy));
    let first = each.next().unwrap_or(DigestChoice::Immediate);
    each.all(|choice| choice == first).then_some(first)
}

/// What the form chooses: what it says of what the page shows, where that is not what holds.
fn chosen(choices: &UserChoices, form: &Form) -> Vec<Preference> {
    let mut chosen = Vec::new();
    for category in choices.categories().into_iter().take(SHOWN) {
        let rules = choices.settings(category).map(|settings| settings.rules.clone());
        let policy = rules.unwrap_or_default().policy;
        let wanted = form.digest(category).filter(|wanted| {
            policy.offers(wanted).is_some() && Some(wanted) != digest_of(choices, category, &policy).as_ref()
        });
        for channel in channels(choices, category) {
            let before = choices.row(Some(category), Some(&channel));
            let holds = choices.resolved(category, &channel, &policy).enabled;
            let on = form
                .switch(category, &channel)
                .filter(|on| *on != holds && (*on || policy.may_turn_off));
            // What is said of the channel comes before what is chosen here for the category.
            let closer = choices.closer_digest(category, &channel, &policy);
            let differs = closer.is_some() && closer != wanted && !channel.is_in_app();
            let digest = wanted.clone().filter(|_| differs);
            if on.is_some() || digest.is_some() {
                chosen.push(Preference {
                    category: Some(category.clone()),
                    channel: Some(channel),
                    enabled: on.or_else(|| before.and_then(|row| row.enabled)),
                    digest: digest.or_else(|| stored_digest(before)),
                });
            }
        }
        if let Some(wanted) = wanted {
            let before = choices.row(Some(category), None);
            chosen.push(Preference {
                category: Some(category.clone()),
                channel: None,
                enabled: before.and_then(|row| row.enabled),
                digest: Some(wanted),
            });
        }
    }
    chosen
}

fn stored_digest(row: Option<&PreferenceRow>) -> Option<DigestChoice> {
    row.and_then(|row| row.digest.as_deref()?.parse().ok())
}
