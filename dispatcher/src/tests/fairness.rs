use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{
    Capabilities, ChannelKind, DeliveryId, Invalid, NotificationId, Outcome, TenantId,
    ports::{Channel, CheckedAddress, Lane, Operation, Report, Work},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::node::{Node, Setup, eventually};
use crate::store::{
    AcceptRequest, NewNotification,
    outside::{Brings, DeliveryState, OutsideRow, WorkRow},
};

/// What one tenant has waiting.
const WAITING: usize = 100_000;
/// What another one sends then.
const FEW: usize = 5;
/// Slots of the lane that both use.
const WIDTH: usize = 8;
/// What one tenant has of them at the most.
const SHARE: usize = 6;

/// A far end where one attempt after the other comes to its end, and that knows in which order they began.
struct Turnstile {
    began: Mutex<Vec<String>>,
    came: Notify,
    ends: Semaphore,
}

impl Turnstile {
    fn began(&self) -> Vec<String> {
        self.began.lock().clone()
    }

    /// Waits until so many began.
    async fn until(&self, count: usize) -> Vec<String> {
        loop {
            let came = self.came.notified();
            let began = self.began();
            if began.len() >= count {
                return began;
            }
            tokio::time::timeout(std::time::Duration::from_secs(20), came)
                .await
                .expect("more attempts begin");
        }
    }
}

#[async_trait]
impl Channel for Turnstile {
    fn kind(&self) -> ChannelKind {
        "email".parse().expect("a channel")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        Ok(CheckedAddress {
            lane: Lane::from("relay"),
            address: address.parse()?,
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        self.began.lock().push(work.address.to_string());
        self.came.notify_waiters();
        self.ends.acquire().await.expect("is open").forget();
        Report::new(Outcome::Delivered { provider_id: None })
    }

    fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(60)
    }

    fn width(&self) -> Option<usize> {
        Some(WIDTH)
    }
}

/// Adds so many deliveries of a tenant to the lane.
async fn wait_in_line(node: &Node, tenant: &TenantId, count: usize) {
    let now = node.now();
    let id = NotificationId::at(now);
    let later = now.after(std::time::Duration::from_secs(86_400));
    // What they say; it is planned for nobody.
    let says = NewNotification {
        id,
        category: Default::default(),
        priority: Default::default(),
        collapse_key: None,
        digest_key: None,
        content: Arc::from(r#"{"title":"hello"}"#),
        targets: Arc::from("[]"),
        channels: None,
        template: None,
        plan: None,
        critical: false,
        created_at: now,
        send_at: later,
        expires_at: later,
    };
    let request = AcceptRequest {
        tenant: tenant.clone(),
        notifications: vec![says],
        claim: None,
    };
    let store = &node.dispatcher.store;
    store.accept(now, &[request], None).await.expect("commits");
    let rows: Vec<OutsideRow> = (0..count)
        .map(|number| OutsideRow {
            tenant: tenant.clone(),
            id: DeliveryId::at(now),
            brings: Brings::Notification(id),
            user: None,
            name: None,
            channel: "email".parse().expect("a channel"),
            address: format!("{number}@{tenant}").parse().expect("an address"),
            device: None,
            lane: Arc::from("relay"),
            locale: None,
            step: 0,
            state: DeliveryState::Pending,
            reason: None,
            provider_id: None,
            collapse: None,
            created_at: now,
            expires_at: later,
        })
        .collect();
    for rows in rows.chunks(5_000) {
        let work: Vec<WorkRow> = rows
            .iter()
            .map(|row| WorkRow::of(row, Arc::from(""), Operation::Deliver))
            .collect();
        store.open_work(rows, &work).await.expect("commits");
    }
    node.dispatcher.deliverer.wake();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_later_has_his_turn_however_much_of_another_tenant_waits() {
    let far_end = Arc::new(Turnstile {
        began: Mutex::default(),
        came: Notify::new(),
        ends: Semaphore::new(0),
    });
    let node = Node::with(Setup {
        channels: vec![far_end.clone()],
        ..Setup::default()
    })
    .await;
    let (many, few): (TenantId, TenantId) = (
        "many".parse().expect("a tenant"),
        "few".parse().expect("a tenant"),
    );
    wait_in_line(&node, &many, WAITING).await;
    // Some end, so that it is under way; then the other one comes.
    far_end.until(1).await;
    far_end.ends.add_permits(50);
    // All that may end did: nothing else begins by itself.
    let before = far_end.until(50 + SHARE).await.len();
    wait_in_line(&node, &few, FEW).await;
    let began = far_end.until(before + 1).await;
    assert!(
        began[before].ends_with("@few"),
        "a slot is left for him: {began:?}"
    );
    // Now they share. Whoever looks finds that both have more, and notes that they wait.
    let line = "email".parse().expect("a channel");
    eventually(async || {
        let (store, now) = (&node.dispatcher.store, node.now());
        let due = store.due_lanes(now, std::slice::from_ref(&line), 10).await;
        due.expect("reads").is_empty()
    })
    .await;
    let comes = far_end.began().len();
    // One slot comes free at a time, so that the order is the schedule's.
    let mut began = far_end.began();
    while began.iter().filter(|address| address.ends_with("@few")).count() < FEW {
        let count = began.len();
        assert!(
            count < comes + 2 * WIDTH * FEW,
            "it never came to be: {:?}",
            &began[comes..]
        );
        far_end.ends.add_permits(1);
        began = far_end.until(count + 1).await;
    }
    let places: Vec<usize> = began[comes..]
        .iter()
        .enumerate()
        .filter(|(_, address)| address.ends_with("@few"))
        .map(|(place, _)| place)
        .collect();
    assert!(
        places[0] <= 1,
        "his first turn is one of the next two: {places:?}"
    );
    for pair in places.windows(2) {
        assert!(pair[1] - pair[0] <= 2, "every other turn is his: {places:?}");
    }
}
