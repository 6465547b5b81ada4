use std::time::Instant;

use serde_json::{Value, json};

use super::{NEIGHBOURS, plain, send};
use crate::{
    e2e::outside::{Outside, text},
    harness::{Hooks, Reply, report},
};

/// Hosts of one tenant that never answer: several times as many as there are slots.
const HOSTS: usize = 300;
const SLOTS: usize = 64;

#[tokio::test]
async fn a_tenant_with_many_hosts_that_never_answer_holds_up_nobody_else() {
    let outside = Outside::start_with(|start| {
        start
            .env("CARILLON_OUTBOUND__TOTAL", "2s")
            .env("CARILLON_OUTBOUND__ALLOW_NETWORKS", "[\"127.0.0.0/8\"]")
            .env("CARILLON_DISPATCHER__DELIVERY__TOTAL_WIDTH", SLOTS)
    })
    .await;
    let bad = Hooks::start_at("0.0.0.0").await;
    bad.script("/bad", [Reply::Silence]);
    let other = outside.server.tenant("acme").await;
    // Two for each, so that something waits behind what hangs.
    let notifications: Vec<Value> = (0..2 * HOSTS)
        .map(|index| {
            let host = index % HOSTS;
            let host = format!("127.1.{}.{}", host / 250, 1 + host % 250);
            let targets = plain("webhook", &bad.url_at(&host, "/bad"));
            json!({"targets": targets, "ttl": 60, "content": {"title": "Hello"}})
        })
        .collect();
    let accepted = outside
        .api
        .post(
            "/v1/notifications/batch",
            &json!({"notifications": notifications}),
        )
        .await
        .expect(202);
    bad.wait("/bad", SLOTS / 2).await;
    let begun = Instant::now();
    let well = Hooks::start().await;
    let mut slowest = 0;
    for _ in 0..3 {
        let begun = Instant::now();
        let count = well.seen("/well").len() + NEIGHBOURS;
        send(&other, &plain("webhook", &well.url("/well")), NEIGHBOURS, 60).await;
        well.wait("/well", count).await;
        slowest = slowest.max(begun.elapsed().as_millis());
    }
    let took = begun.elapsed().as_millis();
    let last = text(&accepted["data"][2 * HOSTS - 1]["id"]);
    let shown = super::now(&outside.api, &[last], "webhook").await;
    assert_eq!(
        shown[0]["state"], "pending",
        "the other tenant waited for all of them: {took} ms"
    );
    report(&format!(
        "fault: a tenant with {HOSTS} hosts that never answer, {SLOTS} slots: another tenant's {} in {took} ms, the slowest \
         {NEIGHBOURS} in {slowest} ms",
        3 * NEIGHBOURS
    ));
}
