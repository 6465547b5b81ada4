use std::{sync::Arc, time::Duration};

use carillon_domain::{Capabilities, DeliveryId, NotificationId, TenantId};
use carillon_testkit::RecordingChannel;

use super::Engine;
use crate::{
    store::outside::{Brings, DeliveryState, OutsideRow, WorkRow},
    tests::node::{Node, Setup},
};

const BATCH: usize = 3;

/// A delivery that nobody planned, with so long to live.
fn delivery(node: &Node, lane: &str, ttl: Duration) -> OutsideRow {
    let now = node.now();
    OutsideRow {
        tenant: TenantId::default(),
        id: DeliveryId::at(now),
        brings: Brings::Notification(NotificationId::at(now)),
        user: None,
        name: None,
        channel: "email".parse().expect("a channel"),
        address: format!("ada@{lane}").parse().expect("an address"),
        device: None,
        lane: Arc::from(lane),
        locale: None,
        step: 0,
        state: DeliveryState::Pending,
        reason: None,
        provider_id: None,
        collapse: None,
        created_at: now,
        expires_at: now.after(ttl),
    }
}

#[tokio::test]
async fn one_turn_ends_a_batch_of_what_is_too_late_and_hands_out_what_is_due() {
    let node = Node::with(Setup {
        config: Some(|config| config.delivery.batch = BATCH),
        channels: vec![Arc::new(RecordingChannel::new("email", Capabilities::default()))],
        idle: true,
        ..Setup::default()
    })
    .await;
    let open = async |rows: &[OutsideRow]| {
        let work: Vec<_> = rows
            .iter()
            .map(|row| WorkRow::of(row, Arc::from(""), carillon_domain::ports::Operation::Deliver))
            .collect();
        node.dispatcher
            .store
            .open_work(rows, &work)
            .await
            .expect("commits");
    };
    let late: Vec<_> = (0..400)
        .map(|_| delivery(&node, "late.example", Duration::from_secs(1)))
        .collect();
    open(&late).await;
    node.advance(Duration::from_secs(2));
    open(&[delivery(&node, "due.example", Duration::from_secs(3_600))]).await;
    let deliverer = node.dispatcher.new_deliverer();
    let mut engine = Engine::new(&deliverer);
    let pause = engine.turn(false).await.expect("turns");
    assert_eq!(pause, Duration::ZERO, "there is more");
    let tally = node.dispatcher.store.tally_outside().await.expect("counts");
    assert!(
        (1..late.len() as u64).contains(&tally.dead),
        "some ended, and not all: {tally:?}"
    );
    let under_way = engine.out.len() + engine.heard.len();
    assert_eq!(under_way, 1, "what is due was handed out in the same turn");
}
