//! A webhook receiver on the page: answers as it was told to, so that retries can be watched with nothing installed.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Request, State},
    routing::{get, post},
};
use carillon_channels::outbound::{Network, Ports};
use carillon_domain::{Clock, Timestamp};
use carillon_runtime::{
    edge::{Edge, ListenAddress},
    http::{ApiJson, Problem, read_body},
};
use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;

/// Where it is.
const PATH: &str = "/dev/receiver";
/// What it is told to answer.
const ANSWERS: [u16; 3] = [200, 500, 410];
/// How many requests it remembers.
const KEPT: usize = 20;
/// The longest text that it remembers of a request, in characters.
const LONGEST: usize = 200;

/// Opens the way out to this server's own address, and to no other, and says where the receiver is. None without a plain
/// TCP listener or without webhooks: nothing could come.
pub(crate) fn allow(config: &mut Config, edge: &Edge) -> Option<String> {
    if edge.is_tls() || !config.channels.webhook.enabled {
        return None;
    }
    let address = edge.addresses().into_iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(address),
        ListenAddress::Unix(_) => None,
    })?;
    let port: Ports = address.port().to_string().parse().ok()?;
    let network: Network = address.ip().to_string().parse().ok()?;
    config.outbound.ports.push(port);
    config.outbound.allow_networks.push(network);
    Some(format!("http://{address}{PATH}"))
}

/// The receiver.
pub(super) struct Receiver {
    clock: Arc<dyn Clock>,
    answers: AtomicU16,
    received: Mutex<VecDeque<Received>>,
}

/// A request that came.
#[derive(Debug, Clone, Serialize)]
struct Received {
    at: Timestamp,
    /// `webhook-id`: the delivery.
    delivery: Option<String>,
    /// The event's type.
    event: Option<String>,
    /// The title, where a notification was told.
    title: Option<String>,
    /// What it was answered.
    answered: u16,
}

/// How it stands.
#[derive(Debug, Serialize)]
struct Standing {
    /// The status that the next request gets.
    answers: u16,
    /// Newest first.
    received: Vec<Received>,
}

/// What it is to answer from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    answers: u16,
}

/// The receiver's routes.
pub(super) fn router(clock: Arc<dyn Clock>) -> Router {
    let receiver = Arc::new(Receiver {
        clock,
        answers: AtomicU16::new(ANSWERS[0]),
        received: Mutex::default(),
    });
    Router::new()
        .route(PATH, post(take))
        .route("/dev/receiver/standing", get(show).put(tell))
        .with_state(receiver)
}

impl Receiver {
    fn standing(&self) -> Standing {
        Standing {
            answers: self.answers.load(Ordering::Relaxed),
            received: self.received.lock().iter().cloned().collect(),
        }
    }

    fn remember(&self, delivery: Option<&str>, body: &[u8], answered: u16) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let mut received = self.received.lock();
        received.truncate(KEPT - 1);
        received.push_front(Received {
            at: self.clock.now(),
            delivery: delivery.map(short),
            event: body["type"].as_str().map(short),
            title: body["data"]["content"]["title"].as_str().map(short),
            answered,
        });
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let header = request.headers().get("webhook-id").cloned();
    let body = read_body(request).await?;
    let status = StatusCode::from_u16(receiver.answers.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK);
    let delivery = header.as_ref().and_then(|id| id.to_str().ok());
    receiver.remember(delivery, &body, status.as_u16());
    // As JSON: bare text would become a problem of ours.
    let said = json!({"receiver": format!("told to answer {}", status.as_u16())});
    Ok((status, Json(said)))
}

async fn show(State(receiver): State<Arc<Receiver>>) -> Json<Standing> {
    Json(receiver.standing())
}

async fn tell(
    State(receiver): State<Arc<Receiver>>,
    ApiJson(told): ApiJson<Told>,
) -> Result<Json<Standing>, Problem> {
    if !ANSWERS.contains(&told.answers) {
        return Err(Problem::field("/answers", "expected 200, 500 or 410"));
    }
    receiver.answers.store(told.answers, Ordering::Relaxed);
    Ok(Json(receiver.standing()))
}

#[cfg(test)]
mod tests {
    use carillon_domain::SystemClock;

    use super::*;

    #[test]
    fn it_forgets_what_is_old() {
        let receiver = Receiver {
            clock: Arc::new(SystemClock),
            answers: AtomicU16::new(500),
            received: Mutex::default(),
        };
        for number in 0..50 {
            let body = format!(r#"{{"type": "event.{number}"}}"#);
            receiver.remember(Some("dlv_1"), body.as_bytes(), 500);
        }
        let standing = receiver.standing();
        assert_eq!(standing.received.len(), KEPT);
        assert_eq!(standing.received[0].event.as_deref(), Some("event.49"));
        receiver.remember(None, b"no JSON", 200);
        assert_eq!(receiver.standing().received[0].event, None);
    }
}
