use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use carillon_domain::{TenantId, ports::Unavailable};
use carillon_runtime::http::{ApiQuery, Problem, read_body};
use http::{HeaderValue, StatusCode, header};
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
    dispatcher
        .store
        .opt_out(dispatcher.ports.clock.now(), &opt_out, off)
        .await
        .map_err(Unavailable::from)?;
    show(&dispatcher, &opt_out, off).await
}

fn read(dispatcher: &Dispatcher, request: &Request, token: &str) -> Result<OptOut, Problem> {
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .cloned()
        .unwrap_or_default();
    dispatcher
        .unsubscribe
        .as_ref()
        .and_then(|links| links.read(&tenant, token))
        .ok_or_else(Problem::not_found)
}

async fn show(dispatcher: &Dispatcher, opt_out: &OptOut, off: bool) -> Result<Response, Problem> {
    let row = dispatcher
        .categories
        .get(&opt_out.tenant, &opt_out.category)
        .await?;
    let title = row.and_then(|row| row.title);
    let title = title.as_deref().unwrap_or(opt_out.category.as_str());
    let (state, action, button) = if off {
        (
            "You no longer get these messages here.",
            "?on=true",
            "Get them again",
        )
    } else {
        ("You get these messages here.", "?on=false", "Stop these messages")
    };
    let page = PAGE
        .replace("{state}", state)
        .replace("{action}", action)
        .replace("{button}", button)
        .replace("{channel}", opt_out.channel.as_str())
        .replace("{title}", &escaped(title));
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
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((StatusCode::OK, headers, page).into_response())
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
