//! Far ends that do what they should not, behind a real server. Each test names the outcome, shows that the neighbours of
//! the same tenant and of another one finish meanwhile, and writes a line of the fault report.

mod many_hosts;
mod relays;
mod shared_host;
mod webhooks;

use std::time::Instant;

use serde_json::{Value, json};

use super::outside::{deliveries, outcomes, plain, text};
use crate::harness::{Api, Hooks, Server, eventually};

/// Notifications of each neighbour.
const NEIGHBOURS: usize = 50;

/// Healthy receivers of the same tenant and of another one.
struct Neighbours {
    hooks: [Hooks; 2],
    apis: [Api; 2],
}

impl Neighbours {
    async fn of(server: &Server) -> Self {
        Self {
            hooks: [Hooks::start().await, Hooks::start().await],
            apis: [server.api().await, server.tenant("acme").await],
        }
    }

    /// Sends to all of them and waits until everything arrived; says how long that took.
    async fn finish(&self) -> String {
        let begun = Instant::now();
        for (api, hooks) in self.apis.iter().zip(&self.hooks) {
            send(api, &plain("webhook", &hooks.url("/well")), NEIGHBOURS, 60).await;
        }
        for hooks in &self.hooks {
            hooks.wait("/well", NEIGHBOURS).await;
        }
        format!(
            "{} neighbours of two tenants in {} ms meanwhile",
            2 * NEIGHBOURS,
            begun.elapsed().as_millis()
        )
    }
}

/// Sends the same `count` times; answers the ids.
async fn send(api: &Api, targets: &Value, count: usize, ttl: u32) -> Vec<String> {
    let notification = json!({"targets": targets, "ttl": ttl, "content": {"title": "Hello"}});
    let batch = json!({"notifications": vec![notification; count]});
    let accepted = api.post("/v1/notifications/batch", &batch).await.expect(202);
    let accepted = accepted["data"].as_array().expect("a list").clone();
    accepted.iter().map(|one| text(&one["id"])).collect()
}

/// The one delivery of each notification over `channel`, as things stand.
async fn now(api: &Api, ids: &[String], channel: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for id in ids {
        let mut of_one = deliveries(&api.notification(id).await, channel);
        found.extend(of_one.pop());
    }
    found
}

/// The same, once all are in `state`.
async fn all_in(api: &Api, ids: &[String], channel: &str, state: &str) -> Vec<Value> {
    eventually(&format!("all over {channel} to be {state}"), || async {
        let found = now(api, ids, channel).await;
        (found.len() == ids.len() && found.iter().all(|one| one["state"] == state)).then_some(found)
    })
    .await
}

/// What every attempt of these deliveries came to: how many, and as what.
fn attempts(deliveries: &[Value], outcome: &str, reason: &str) -> usize {
    let mut count = 0;
    for delivery in deliveries {
        for (attempt, found) in delivery["attempts"]
            .as_array()
            .expect("attempts")
            .iter()
            .zip(outcomes(delivery))
        {
            assert_eq!(
                (found, attempt["reason"].as_str()),
                (outcome, Some(reason)),
                "{delivery}"
            );
            count += 1;
        }
    }
    count
}

/// How the lane of these deliveries stands on the server, as its tenant sees it.
async fn breaker(api: &Api, channel: &str) -> Vec<String> {
    let shown = api.get("/v1/breakers").await.expect(200);
    let lanes = shown["data"].as_array().expect("a list").clone();
    lanes
        .iter()
        .filter(|lane| lane["channel"] == channel)
        .map(|lane| text(&lane["state"]))
        .collect()
}
