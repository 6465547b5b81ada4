//! What users serve over HTTP.

mod acting;
mod activity;
mod devices;
mod profile;
mod segments;
mod subscriptions;
mod users;
mod verification;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use activity::{ActivityRequest, take_beat};

use crate::Users;

impl Users {
    /// The routes of users.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(users::show, users::erase, profile::put))
            .routes(routes!(devices::list, devices::register))
            .routes(routes!(devices::change, devices::retire))
            .routes(routes!(verification::send, verification::confirm))
            .routes(routes!(activity::beat))
            .routes(routes!(subscriptions::of_user))
            .routes(routes!(subscriptions::of_topic, subscriptions::change))
            .routes(routes!(subscriptions::subscribe, subscriptions::unsubscribe))
            .routes(routes!(segments::list))
            .routes(routes!(segments::put, segments::show, segments::remove))
            .routes(routes!(segments::count))
            .routes(routes!(segments::preview))
            .with_state(Arc::clone(self))
    }
}

/// An error's words as a sentence for people.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    format!(
        "{}{}.",
        first.map(String::from).unwrap_or_default(),
        letters.as_str()
    )
}
