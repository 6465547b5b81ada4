//! The quickstart page: a browser over SSE, an app over WebSocket, a form that sends, and what became of it.
//!
//! Webhooks have a receiver here that can be told to fail, so that attempts and retries show with nothing installed.
//!
//! Only `serve --dev` mounts it, and only on loopback, because `GET /dev/session` gives an API key and tokens to whoever
//! asks. What keeps other pages out: the `Host` must be a loopback name (a foreign name that resolves to this machine
//! is refused), a request must come from this page or from no page at all, and no other origin may read the answer.

mod guard;
mod receiver;
mod session;

use std::sync::Arc;

use axum::{Router, middleware, routing::get};
use carillon_domain::Clock;

use crate::page::{self, Asset, CSS, HTML, JS, SVG};

pub(crate) use receiver::allow as allow_receiver;
pub(crate) use session::Guests;

macro_rules! asset {
    ($path:literal, $media_type:expr, $file:literal) => {
        Asset {
            path: $path,
            media_type: $media_type,
            text: include_str!($file),
        }
    };
}

const ASSETS: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    Asset {
        path: "/dev/tokens.css",
        media_type: CSS,
        text: page::TOKENS,
    },
    asset!("/dev/style.css", CSS, "style.css"),
    asset!("/dev/icon.svg", SVG, "icon.svg"),
    asset!("/dev/app.js", JS, "app.js"),
    asset!("/dev/app_socket.js", JS, "app_socket.js"),
    asset!("/dev/bell_tone.js", JS, "bell_tone.js"),
    asset!("/dev/browser_stream.js", JS, "browser_stream.js"),
    asset!("/dev/channels.js", JS, "channels.js"),
    asset!("/dev/dry_run.js", JS, "dry_run.js"),
    asset!("/dev/event_log.js", JS, "event_log.js"),
    asset!("/dev/inbox.js", JS, "inbox.js"),
    asset!("/dev/outside.js", JS, "outside.js"),
    asset!("/dev/pane.js", JS, "pane.js"),
    asset!("/dev/receiver.js", JS, "receiver.js"),
    asset!("/dev/send_form.js", JS, "send_form.js"),
    asset!("/dev/session.js", JS, "session.js"),
    asset!("/dev/text.js", JS, "text.js"),
    asset!("/dev/trail.js", JS, "trail.js"),
    asset!("/dev/why.js", JS, "why.js"),
];

/// The page's routes. `guests` gives the credentials that the page works with; `receiver` is where webhooks reach the
/// page's own receiver, where they can.
pub(crate) fn router(guests: Arc<dyn Guests>, receiver: Option<String>, clock: Arc<dyn Clock>) -> Router {
    let mut router = page::router(ASSETS);
    if receiver.is_some() {
        router = router.merge(receiver::router(clock));
    }
    let state = session::Opening { guests, receiver };
    router
        .route("/dev/session", get(session::open).with_state(Arc::new(state)))
        .route_layer(middleware::from_fn(guard::only_this_page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_a_page_imports_is_served() {
        for asset in ASSETS {
            let imports = asset
                .text
                .lines()
                .filter_map(|line| line.split_once("from \"./"))
                .filter_map(|(_, rest)| rest.split_once('"'));
            for (module, _) in imports {
                let path = format!("/dev/{module}");
                assert!(
                    ASSETS.iter().any(|served| served.path == path),
                    "{} imports {path}",
                    asset.path
                );
            }
        }
    }
}
