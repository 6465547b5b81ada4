//! What one writes in an afternoon: axum with its own `Sse` and `WebSocketUpgrade` at their defaults, and a tokio broadcast
//! channel per topic. A subcommand of this program.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use anyhow::Result;
use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocketUpgrade},
    },
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use futures_util::{Stream, stream};
use tokio::sync::{
    Mutex,
    broadcast::{self, error::RecvError},
};

use super::Peer;
use crate::subjects::{Own, Subject};

/// Publications that a slow receiver may be behind.
const CAPACITY: usize = 1_024;

pub(super) struct StockAxum;

impl Peer for StockAxum {
    fn name(&self) -> &'static str {
        "stock axum"
    }

    fn version(&self) -> Option<String> {
        Some("axum 0.8, tokio broadcast".to_owned())
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        Ok(Box::new(Own::start(self.name(), "stock-axum")?))
    }
}

#[derive(Clone, Default)]
struct Topics(Arc<Mutex<HashMap<String, broadcast::Sender<String>>>>);

impl Topics {
    async fn topic(&self, name: String) -> broadcast::Sender<String> {
        let mut topics = self.0.lock().await;
        topics
            .entry(name)
            .or_insert_with(|| broadcast::channel(CAPACITY).0)
            .clone()
    }
}

/// Serves until killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new()
            .route("/ws/{topic}", get(websocket))
            .route("/sse/{topic}", get(events))
            .route("/publish/{topic}", post(publish))
            .with_state(Topics::default());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(listener, router).await?)
    })
}

async fn websocket(
    upgrade: WebSocketUpgrade,
    Path(topic): Path<String>,
    State(topics): State<Topics>,
) -> impl IntoResponse {
    let mut receiver = topics.topic(topic).await.subscribe();
    upgrade.on_upgrade(async move |mut socket| {
        loop {
            tokio::select! {
                published = receiver.recv() => match published {
                    Ok(text) => {
                        if socket.send(Message::Text(text.into())).await.is_err() {
                            break;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
                said = socket.recv() => {
                    if !matches!(said, Some(Ok(_))) {
                        break;
                    }
                }
            }
        }
    })
}

async fn events(
    Path(topic): Path<String>,
    State(topics): State<Topics>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = topics.topic(topic).await.subscribe();
    let events = stream::unfold(receiver, async |mut receiver| {
        loop {
            match receiver.recv().await {
                Ok(text) => return Some((Ok(Event::default().data(text)), receiver)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn publish(Path(topic): Path<String>, State(topics): State<Topics>, body: String) {
    // Nobody may be listening.
    let _ = topics.topic(topic).await.send(body);
}
