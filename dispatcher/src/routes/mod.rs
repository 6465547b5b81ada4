//! HTTP: extract, one call, answer.

mod acks;
mod acting;
mod analytics;
mod batch_items;
mod breakers;
pub(crate) mod categories;
mod dead_letters;
mod deliveries;
mod dry_run;
mod events;
mod inbox;
mod notifications;
mod policy;
mod preference_page;
mod preferences;
mod quiet_hours;
mod reachability;
mod remote;
mod rules;
mod schedules;
mod sending;
mod sources;
mod suppressions;
mod templates;
mod topics;
mod unsubscribe;
mod webhooks;
mod why;

use std::sync::Arc;

use axum::Extension;
use carillon_runtime::http::BodyLimit;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Dispatcher,
    sources::{DSN_BODY, TAKE_BODY},
};

pub(crate) use acks::{AckRequest, acknowledge};

/// The largest body of a request that carries many things.
const BATCH_BODY: BodyLimit = BodyLimit(8 * 1024 * 1024);

/// The largest body of a click: it says nothing that matters.
const CLICK_BODY: BodyLimit = BodyLimit(8 * 1024);

/// The largest form of a page of preferences.
const PAGE_BODY: BodyLimit = BodyLimit(256 * 1024);

/// The largest body of a template: all of its languages together.
const TEMPLATE_BODY: BodyLimit = BodyLimit(2 * 1024 * 1024);

/// Every route of the dispatcher.
pub(crate) fn router(dispatcher: Arc<Dispatcher>) -> OpenApiRouter {
    let large = OpenApiRouter::new()
        .routes(routes!(sending::send_batch))
        .routes(routes!(topics::publish))
        .layer(Extension(BATCH_BODY));
    let incoming = OpenApiRouter::new()
        .routes(routes!(sources::receive))
        .layer(Extension(TAKE_BODY));
    let bounces = OpenApiRouter::new()
        .routes(routes!(sources::bounce))
        .layer(Extension(DSN_BODY));
    let click = OpenApiRouter::new()
        .routes(routes!(unsubscribe::page, unsubscribe::turn))
        .layer(Extension(CLICK_BODY));
    let page = OpenApiRouter::new()
        .routes(routes!(preference_page::page, preference_page::save))
        .layer(Extension(PAGE_BODY));
    let template = OpenApiRouter::new()
        .routes(routes!(templates::put, templates::show, templates::delete))
        .layer(Extension(TEMPLATE_BODY));
    OpenApiRouter::new()
        .routes(routes!(sending::send, notifications::list))
        .routes(routes!(notifications::show))
        .routes(routes!(why::of_notification))
        .routes(routes!(why::of_user))
        .routes(routes!(analytics::show))
        .routes(routes!(reachability::show))
        .routes(routes!(sending::cancel))
        .routes(routes!(categories::list))
        .routes(routes!(categories::put, categories::show, categories::delete))
        .routes(routes!(schedules::list, schedules::create))
        .routes(routes!(schedules::put, schedules::show, schedules::delete))
        .routes(routes!(schedules::next))
        .routes(routes!(schedules::run))
        .routes(routes!(policy::show, policy::put))
        .routes(routes!(preferences::show, preferences::put))
        .routes(routes!(preferences::choose, preferences::leave_open))
        .routes(routes!(quiet_hours::show, quiet_hours::put, quiet_hours::delete))
        .routes(routes!(inbox::list))
        .routes(routes!(inbox::counts))
        .routes(routes!(inbox::read_all))
        .routes(routes!(inbox::show, inbox::delete))
        .routes(routes!(inbox::seen))
        .routes(routes!(inbox::read))
        .routes(routes!(inbox::unread))
        .routes(routes!(inbox::archive))
        .routes(routes!(inbox::snooze))
        .routes(routes!(acks::acks))
        .routes(routes!(deliveries::show))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(dead_letters::redrives))
        .routes(routes!(dead_letters::show))
        .routes(routes!(suppressions::list, suppressions::suppress))
        .routes(routes!(suppressions::lift))
        .routes(routes!(breakers::list))
        .routes(routes!(sources::list))
        .routes(routes!(sources::put, sources::show, sources::delete))
        .routes(routes!(events::receive, events::list))
        .routes(routes!(events::show))
        .routes(routes!(rules::list))
        .routes(routes!(rules::dry_run_new))
        .routes(routes!(rules::put, rules::show, rules::delete))
        .routes(routes!(rules::versions))
        .routes(routes!(rules::errors))
        .routes(routes!(rules::dry_run))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::delete))
        .routes(routes!(webhooks::enable))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::remove_secret))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::attempts))
        .routes(routes!(webhooks::key))
        .routes(routes!(webhooks::resend))
        .merge(remote::router())
        .merge(large)
        .merge(incoming)
        .merge(bounces)
        .routes(routes!(templates::list))
        .routes(routes!(templates::preview))
        .merge(template)
        .merge(click)
        .merge(page)
        .with_state(dispatcher)
}
