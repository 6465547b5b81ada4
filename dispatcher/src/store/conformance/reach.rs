//! How well addresses have proved to be within reach.

use std::time::Duration;

use carillon_domain::{ChannelKind, DeliveryId};

use super::{
    fixture::Fixture,
    outside::{delivery, open},
};
use crate::{
    reach::FADING,
    store::{
        outside::{About, DeliveryState, News, OutsideRow, Says},
        reach::{Probes, ReachRow},
    },
};

fn fcm() -> ChannelKind {
    "fcm".parse().expect("a channel")
}

/// Pushes that a provider took, one after the other.
async fn pushed(f: &Fixture, token: &str, count: usize) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        f.advance(Duration::from_millis(1));
        let row = OutsideRow {
            user: Some(f.user("ada")),
            channel: fcm(),
            address: token.parse().expect("an address"),
            state: DeliveryState::Accepted,
            ..delivery(f, "push")
        };
        ids.push(row.id);
        open(f, &[row]).await;
    }
    ids
}

async fn arrived(f: &Fixture, id: DeliveryId) {
    let news = News {
        tenant: f.tenant.clone(),
        about: About::Delivery(id),
        says: Says::Delivered,
    };
    f.store
        .receive_news(f.now(), &fcm(), &[news])
        .await
        .expect("commits");
}

async fn count(f: &Fixture, limit: usize) -> usize {
    let channels = [fcm()];
    let probes = Probes {
        channels: &channels,
        until: f.now().before(Duration::from_secs(600)),
        fading: FADING,
        limit,
    };
    f.store
        .count_probes(f.now(), &f.tenant, &probes)
        .await
        .expect("counts")
}

async fn reach(f: &Fixture, token: &str) -> Option<ReachRow> {
    let rows = f.store.reach_of(&f.tenant, f.user("ada")).await.expect("reads");
    rows.into_iter().find(|row| row.address.as_str() == token)
}

async fn score(f: &Fixture, token: &str) -> Option<u8> {
    reach(f, token).await.and_then(|row| row.score(f.now()))
}

pub(super) async fn each_probe_counts_once_and_only_when_it_is_old_enough(f: Fixture) {
    let ids = pushed(&f, "good", 4).await;
    for id in &ids[..3] {
        arrived(&f, *id).await;
    }
    pushed(&f, "silent", 4).await;
    assert_eq!(
        f.store.next_probed(None).await.expect("reads"),
        Some(f.tenant.clone())
    );
    assert_eq!(f.store.next_probed(Some(&f.tenant)).await.expect("reads"), None);
    assert_eq!(count(&f, 100).await, 0, "a receipt may still come");
    f.advance(Duration::from_secs(601));
    assert_eq!(count(&f, 5).await, 5);
    assert_eq!(count(&f, 5).await, 3);
    assert_eq!(count(&f, 5).await, 0, "each once");
    assert_eq!(score(&f, "good").await, Some(75));
    assert_eq!(score(&f, "silent").await, Some(0));
}

pub(super) async fn a_late_receipt_counts_once_its_delivery_is_counted(f: Fixture) {
    let silent = pushed(&f, "silent", 4).await;
    let key = [(f.tenant.clone(), silent[3])];
    f.store.came_back(f.now(), &key, FADING).await.expect("writes");
    assert_eq!(reach(&f, "silent").await, None, "the count will see it");
    f.advance(Duration::from_secs(601));
    count(&f, 100).await;
    assert_eq!(
        score(&f, "silent").await,
        None,
        "the channel never told anything of anybody"
    );
    f.store.came_back(f.now(), &key, FADING).await.expect("writes");
    assert_eq!(score(&f, "silent").await, Some(25));
}

pub(super) async fn what_is_not_used_is_forgotten_and_so_is_who_is_erased(f: Fixture) {
    pushed(&f, "one", 3).await;
    f.advance(Duration::from_secs(601));
    count(&f, 100).await;
    assert!(reach(&f, "one").await.is_some());
    assert_eq!(f.store.forget_reach(f.now(), 10).await.expect("forgets"), 0);
    f.advance(Duration::from_secs(1));
    assert_eq!(f.store.forget_reach(f.now(), 10).await.expect("forgets"), 1);
    assert_eq!(reach(&f, "one").await, None);
}

pub(super) async fn counting_side_by_side_counts_each_once(f: Fixture) {
    let ids = pushed(&f, "good", 30).await;
    for id in &ids {
        arrived(&f, *id).await;
    }
    f.advance(Duration::from_secs(601));
    let (one, other) = tokio::join!(
        async {
            let mut looked = 0;
            for _ in 0..10 {
                looked += count(&f, 3).await;
            }
            looked
        },
        async {
            let mut looked = 0;
            for _ in 0..10 {
                looked += count(&f, 3).await;
            }
            looked
        },
    );
    assert_eq!(one + other, 30);
    let row = reach(&f, "good").await.expect("counted");
    assert_eq!((row.reach.sent, row.reach.came), (30_000_000, 30_000_000));
}
