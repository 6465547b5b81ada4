use std::time::Instant;

use super::{all_in, now, plain, send};
use crate::{
    e2e::outside::Outside,
    harness::{Hooks, Reply, report},
};

/// What one tenant sends to what hangs: more than the host's lane has slots.
const HANGING: usize = 60;
/// What another tenant sends to the same host.
const OTHERS: usize = 150;
/// What a tenant has of a lane of 32 slots at the most.
const SHARE: usize = 24;

#[tokio::test]
async fn a_tenant_whose_urls_hang_leaves_slots_of_the_same_host_to_another() {
    // Nothing that hangs ends while the other tenant's go out.
    let outside = Outside::start_with(|start| start.env("CARILLON_OUTBOUND__TOTAL", "120s")).await;
    let other = outside.server.tenant("acme").await;
    let shared = Hooks::start().await;
    shared.script("/hangs", [Reply::Hold]);
    let hanging = send(
        &outside.api,
        &plain("webhook", &shared.url("/hangs")),
        HANGING,
        600,
    )
    .await;
    shared.wait("/hangs", SHARE).await;
    let begun = Instant::now();
    let well = send(&other, &plain("webhook", &shared.url("/well")), OTHERS, 600).await;
    shared.wait("/well", OTHERS).await;
    let took = begun.elapsed().as_millis();
    assert_eq!(shared.seen("/hangs").len(), SHARE, "his share, and no more");
    for delivery in now(&outside.api, &hanging, "webhook").await {
        assert_eq!(delivery["state"], "pending", "{delivery}");
    }
    all_in(&other, &well, "webhook", "delivered").await;
    // What waits goes on as soon as something of it ends.
    shared.release();
    all_in(&outside.api, &hanging, "webhook", "delivered").await;
    report(&format!(
        "fault: a tenant's URLs on a shared host never answer: {SHARE} of its {HANGING} deliveries hold slots, another tenant's \
         {OTHERS} at the same host `delivered` in {took} ms meanwhile, then all of both"
    ));
}
