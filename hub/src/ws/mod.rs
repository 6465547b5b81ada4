//! `/connection/websocket`: Centrifugo's client protocol.

mod drive;
pub(crate) mod frame;
mod handshake;
mod work;

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use carillon_domain::{DeviceName, TenantId};
use carillon_runtime::{edge::TakeOver, http::Problem};
use http::{StatusCode, header, request::Parts};

use crate::{
    connection::{Connection, Role},
    hub::Hub,
    session::Session,
};

/// Speaks Centrifugo's client protocol (JSON) over WebSocket; official `centrifuge` SDKs connect here.
#[utoipa::path(
    get,
    path = "/connection/websocket",
    tag = "stream",
    params(("device" = Option<String>, Query, description = "Names the device when neither token nor connect data do")),
    responses(
        (status = 101, description = "Switching to WebSocket; subprotocol `centrifuge-json` or none"),
        (status = 400, description = "No WebSocket handshake, or another subprotocol"),
        (status = 403, description = "A page of an origin that is not allowed"),
        (status = 426, description = "Another version of the WebSocket protocol than 13"),
    ),
    security(())
)]
pub(crate) async fn websocket(
    State(hub): State<Arc<Hub>>,
    take_over: Option<TakeOver>,
    request: Parts,
) -> Response {
    let Some(take_over) = take_over else {
        return Problem::malformed("A WebSocket is opened over HTTP/1.1.").into_response();
    };
    let head = match handshake::accept(&request.headers) {
        Ok(head) => head,
        Err(refused) => return refused.into_response(),
    };
    if !is_allowed(&hub, &request) {
        return Problem::forbidden("Pages of this origin may not connect.").into_response();
    }
    let device = match device(&request) {
        Ok(device) => device,
        Err(problem) => return problem.into_response(),
    };
    if hub.shared.is_draining() {
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "The service is stopping. Try again.",
        );
        return Problem {
            retry_after: Some(1),
            ..problem
        }
        .into_response();
    }
    let tenant = request.extensions.get::<TenantId>().cloned().unwrap_or_default();
    take_over
        .take(head, move |taken| {
            let shared = Arc::clone(&hub.shared);
            let session = Session::new(shared.elapsed(), device);
            let connection = hub.table.insert(|id| {
                Connection::on_socket(id, shared, taken.socket, taken.guard, Role::Session(session))
            });
            hub.opened(&connection);
            let runtime = hub.shared.runtime.clone();
            runtime.spawn(drive::drive(hub, connection, tenant, &taken.read));
        })
        .await
}

/// The token comes in the first frame and never by itself, as a cookie would: a foreign page gains nothing by
/// connecting. Whoever wants to keep pages out anyway lists the allowed origins.
fn is_allowed(hub: &Hub, request: &Parts) -> bool {
    let allowed = &hub.shared.config.allowed_origins;
    match request.headers.get(header::ORIGIN) {
        Some(origin) if !allowed.is_empty() => {
            allowed.iter().any(|known| known.as_bytes() == origin.as_bytes())
        }
        _ => true,
    }
}

fn device(request: &Parts) -> Result<Option<DeviceName>, Problem> {
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&request.uri)
        .map_err(|_| Problem::malformed("The query is malformed."))?;
    let named = query.into_iter().find(|(name, _)| name == "device");
    named
        .map(|(_, text)| text.parse())
        .transpose()
        .map_err(|_| Problem::malformed("device: not a device's name."))
}
