//! What users serve over HTTP.

mod profile;
mod users;
mod verification;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Users;

impl Users {
    /// The routes of users.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(users::show, users::erase, profile::put))
            .routes(routes!(verification::send, verification::confirm))
            .with_state(Arc::clone(self))
    }
}
