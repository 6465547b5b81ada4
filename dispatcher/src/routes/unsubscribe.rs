use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use carillon_domain::{TenantId, ports::Unavailable};
use carillon_runtime::http::{ApiQuery, Problem, read_body};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use crate::{Dispatcher, intake::busy, store::catalog::OptOut};

/// The page; what is between braces is filled in.
const PAGE: &str = include_str!("unsubscribe.html");

/// What to do.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Turn {
    /// Turns it on again.
    on: Option<bool>,
}

/// A page that says what the link turns off, with a button for it. Changes nothing: mail programs open links of their
/// own accord. The link is all that it takes.
#[utoipa::path(
    get,
    path = "/v1/unsubscribe/{token}",
    tag = "Notifications",
    params(("token" = String, Path, description = "From the link")),
    security(()),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 404, description = "None of ours"),
    ),
)]
pub(super) async fn page(
    State(dispatcher): State<Arc<Dispatcher>>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let opt_out = read(&dispatcher, &request, &token)?;
    let off = dispatcher
        .store
        .opted_out(&opt_out)
        .await
        .map_err(Unavailable::from)?;
    show(&dispatcher, &opt_out, off).await
}

/// Turns the category and channel off for the link's recipient, or on again. One click of a mail program suffices
/// (RFC 8058); what the body says does not matter.
#[utoipa::path(
    post,
    path = "/v1/unsubscribe/{token}",
    tag = "Notifications",
    params(("token" = String, Path, description = "From the link"), Turn),
    security(()),
    responses(
        (status = 200, description = "Done; the page", content_type = "text/html", body = String),
        (status = 404, description = "None of ours"),
        (status = 503, description = "Too many at once"),
    ),
)]
pub(super) async fn turn(
    State(dispatcher): State<Arc<Dispatcher>>,
    Path(token): Path<String>,
    ApiQuery(turn): ApiQuery<Turn>,
    request: Request,
) -> Result<Response, Problem> {
    let opt_out = read(&dispatcher, &request, &token)?;
    let Ok(_turn) = dispatcher.clicks.try_acquire() else {
        return Err(busy("Too many clicks at once. Try again."));
    };
    // Read to its end, so that the connection can be used again.
    read_body(request).await?;
    let off = !turn.on.unwrap_or_default();
    // What cannot be turned off stays as it is; the page says so.
    if !off || may_turn_off(&dispatcher, &opt_out).await? {
        dispatcher
            .store
            .opt_out(dispatcher.ports.clock.now(), &opt_out, off)
            .await
            .map_err(Unavailable::from)?;
    }
    show(&dispatcher, &opt_out, off).await
}

fn read(dispatcher: &Dispatcher, request: &Request, token: &str) -> Result<OptOut, Problem> {
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .cloned()
        .unwrap_or_default();
    dispatcher
        .links
        .as_ref()
        .and_then(|links| links.read_unsubscribe(&tenant, token))
        .ok_or_else(Problem::not_found)
}

/// Whether the category's users may turn it off.
async fn may_turn_off(dispatcher: &Dispatcher, opt_out: &OptOut) -> Result<bool, Unavailable> {
    let settings = dispatcher.categories.settings(&opt_out.tenant).await?;
    let own = settings.get(&opt_out.category);
    Ok(own.is_none_or(|own| own.rules.policy.may_turn_off))
}

async fn show(dispatcher: &Dispatcher, opt_out: &OptOut, off: bool) -> Result<Response, Problem> {
    let row = dispatcher
        .categories
        .get(&opt_out.tenant, &opt_out.category)
        .await?;
    let title = row.and_then(|row| row.title);
    let title = title.as_deref().unwrap_or(opt_out.category.as_str());
    let (state, button) = if !may_turn_off(dispatcher, opt_out).await? {
        (
            "You get these messages here. They are too important to be turned off.",
            None,
        )
    } else if off {
        (
            "You no longer get these messages here.",
            Some(("?on=true", "Get them again")),
        )
    } else {
        (
            "You get these messages here.",
            Some(("?on=false", "Stop these messages")),
        )
    };
    let button = button.map_or_else(String::new, |(action, button)| {
        format!(r#"<form method="post" action="{action}"><button type="submit">{button}</button></form>"#)
    });
    let preferences = dispatcher.links.as_ref().map_or_else(String::new, |links| {
        links.preferences_token(&opt_out.tenant, opt_out.user)
    });
    let page = PAGE
        .replace("{state}", state)
        .replace("{button}", &button)
        .replace("{preferences}", &preferences)
        .replace("{channel}", opt_out.channel.as_str())
        .replace("{title}", &escaped(title));
    Ok(html(StatusCode::OK, page))
}

/// A page for somebody who is not signed in: nothing is loaded, no script runs, nobody frames, keeps or indexes it.
pub(super) fn html(status: StatusCode, page: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        // The address is the credential.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    (status, headers, page).into_response()
}

/// Text as HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
