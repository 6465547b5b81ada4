//! Endpoints that move while they are told something: one strand at a time, in order.

use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::{ChannelKind, DeliveryId};

use super::{
    endpoints::{delivered, leased, made, told},
    fixture::Fixture,
    outside::balanced,
};
use crate::{
    events::EventFilter,
    store::{
        endpoints::*,
        outside::{LaneKey, LanePick, LeasedDelivery},
    },
};

/// How often an endpoint moves, and how often it is told something.
const TURNS: usize = 40;

fn to_host(host: &str) -> EndpointChange {
    let url = format!("https://{host}/").parse().expect("an address");
    EndpointChange {
        url: Some((url, Arc::from(format!("{host}:443")))),
        ..EndpointChange::default()
    }
}

/// Changes an endpoint; at most `page` of what waits go with it at once.
async fn change(f: &Fixture, row: &EndpointRow, change: &EndpointChange, page: usize) -> EndpointMoved {
    let moved = f
        .store
        .update_endpoint(f.now(), &f.tenant, row.id, change, page)
        .await;
    moved.expect("commits").expect("is there")
}

/// Everything that is handed out and arrives, one after the other, until `count` did.
async fn arriving(f: &Fixture, count: usize) -> Vec<Arc<LeasedDelivery>> {
    let mut arrived = Vec::new();
    for _ in 0..6 * count {
        let out = leased(f).await;
        assert!(out.len() <= 1, "one at a time: {out:?}");
        for one in out {
            assert!(leased(f).await.is_empty(), "nothing goes out beside it");
            delivered(f, &one).await;
            arrived.push(one);
        }
        if arrived.len() == count {
            break;
        }
        // Lanes that had more are looked at again.
        f.advance(Duration::from_secs(2));
    }
    balanced(f).await;
    arrived
}

fn ids(arrived: &[Arc<LeasedDelivery>]) -> Vec<DeliveryId> {
    arrived.iter().map(|one| one.id).collect()
}

fn lanes(arrived: &[Arc<LeasedDelivery>]) -> HashSet<&str> {
    arrived.iter().map(|one| &*one.key.lane).collect()
}

pub(super) async fn what_is_told_while_its_endpoint_moves_follows_it_in_order(f: Fixture) {
    let before = made(&f, "a.example", true).await;
    let first = told(&f, &before).await;
    let after = change(&f, &before, &to_host("b.example"), 9).await.row;
    // By somebody who had read where it was before.
    let second = told(&f, &before).await;
    let third = told(&f, &after).await;
    let arrived = arriving(&f, 3).await;
    assert_eq!(ids(&arrived), [first, second, third]);
    assert_eq!(lanes(&arrived), HashSet::from(["b.example:443"]));
}

pub(super) async fn what_is_told_while_order_is_asked_for_goes_out_one_at_a_time(f: Fixture) {
    let before = made(&f, "a.example", false).await;
    let ordered = EndpointChange {
        fifo: Some(true),
        ..EndpointChange::default()
    };
    let after = change(&f, &before, &ordered, 9).await.row;
    let first = told(&f, &before).await;
    let second = told(&f, &before).await;
    assert!(leased(&f).await.is_empty(), "it is put where it belongs first");
    f.advance(Duration::from_secs(2));
    let third = told(&f, &after).await;
    assert_eq!(ids(&arriving(&f, 3).await), [first, second, third]);
    let unordered = EndpointChange {
        fifo: Some(false),
        ..EndpointChange::default()
    };
    change(&f, &after, &unordered, 9).await;
    told(&f, &after).await;
    told(&f, &after).await;
    let mut out = Vec::new();
    for _ in 0..4 {
        out.extend(leased(&f).await);
        f.advance(Duration::from_secs(2));
    }
    assert_eq!(out.len(), 2, "nobody waits for order that nobody asks for");
}

pub(super) async fn a_move_that_was_broken_off_comes_to_its_end_in_order(f: Fixture) {
    let before = made(&f, "a.example", true).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(told(&f, &before).await);
    }
    let moved = change(&f, &before, &to_host("b.example"), 1).await;
    assert!(moved.from.is_some(), "two are left behind, and nobody goes on");
    sent.push(told(&f, &moved.row).await);
    let arrived = arriving(&f, 4).await;
    assert_eq!(ids(&arrived), sent);
    assert_eq!(lanes(&arrived), HashSet::from(["b.example:443"]));
}

/// As somebody leases who has nothing to do with the host where the endpoint was before.
async fn leased_of(f: &Fixture, lane: &str, strand: &EndpointRow) -> Vec<Arc<LeasedDelivery>> {
    let key = LaneKey {
        tenant: f.tenant.clone(),
        channel: ChannelKind::webhook(),
        lane: Arc::from(lane),
        strand: Arc::from(strand.id.to_string()),
    };
    let (until, again) = (
        f.now().after(Duration::from_secs(60)),
        f.now().after(Duration::from_secs(2)),
    );
    let picks = [LanePick { key, limit: 1 }];
    let handed = f.store.lease_deliveries(f.now(), &picks, until, again).await;
    handed.expect("leases").leased.into_iter().map(Arc::new).collect()
}

pub(super) async fn what_is_left_where_nobody_looks_is_fetched(f: Fixture) {
    let before = made(&f, "a.example", true).await;
    let after = change(&f, &before, &to_host("b.example"), 9).await.row;
    // By somebody who had read where it was before.
    let left = [told(&f, &before).await, told(&f, &before).await];
    let last = told(&f, &after).await;
    for earlier in left {
        let out = leased_of(&f, "b.example:443", &after).await;
        assert!(out.is_empty(), "what was left is fetched first: {out:?}");
        let out = leased_of(&f, "b.example:443", &after).await;
        assert_eq!(ids(&out), [earlier]);
        delivered(&f, &out[0]).await;
    }
    assert_eq!(ids(&leased_of(&f, "b.example:443", &after).await), [last]);
    balanced(&f).await;
}

pub(super) async fn a_move_goes_on_to_where_its_endpoint_went_since(f: Fixture) {
    let row = made(&f, "a.example", true).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(told(&f, &row).await);
    }
    let slow = change(&f, &row, &to_host("b.example"), 1).await;
    change(&f, &row, &to_host("c.example"), 9).await;
    while f.store.move_work(f.now(), &slow, 1).await.expect("moves") {}
    let open = f.store.open_lanes(&f.tenant, 9).await.expect("reads");
    let places: Vec<_> = open.iter().map(|lane| &*lane.key.lane).collect();
    assert_eq!(
        places,
        ["c.example:443"],
        "nothing is left where it was in between"
    );
    // And back again: there is nothing to move then.
    change(&f, &row, &to_host("a.example"), 9).await;
    assert!(!f.store.move_work(f.now(), &slow, 1).await.expect("answers"));
    assert_eq!(ids(&arriving(&f, 3).await), sent);
}

pub(super) async fn what_was_under_way_while_its_endpoint_moved_holds_up_nobody_behind_it(f: Fixture) {
    let row = made(&f, "a.example", true).await;
    let (first, second) = (told(&f, &row).await, told(&f, &row).await);
    let out = leased(&f).await;
    assert_eq!(ids(&out), [first]);
    // It is not told of deliveries, so that nobody looks at its lane for another reason.
    let quiet = EndpointChange {
        events: Some(vec![
            EventFilter::of_tenant("notification.planned").expect("a filter"),
        ]),
        ..to_host("b.example")
    };
    change(&f, &row, &quiet, 9).await;
    assert!(leased(&f).await.is_empty(), "it waits for the first one");
    delivered(&f, &out[0]).await;
    assert_eq!(
        ids(&leased(&f).await),
        [second],
        "at once, not when a lease would end"
    );
}

pub(super) async fn an_endpoint_may_move_while_it_is_told(f: Fixture) {
    let f = Arc::new(f);
    let row = made(&f, "z.example", true).await;
    let moves = {
        let (f, row) = (Arc::clone(&f), row.clone());
        tokio::spawn(async move {
            for turn in 0..TURNS {
                let host = ["a.example", "m.example", "z.example"][turn % 3];
                let moved = change(&f, &row, &to_host(host), 1).await;
                if turn % 2 == 0 {
                    f.store.move_work(f.now(), &moved, 1).await.expect("moves");
                }
            }
        })
    };
    let tells = {
        let (f, row) = (Arc::clone(&f), row.clone());
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for turn in 0..TURNS {
                // Where it was when somebody looked, which may be a while ago.
                let found = f.store.endpoint(f.now(), &f.tenant, row.id).await;
                let (seen, _) = found.expect("reads").expect("is there");
                let seen = if turn % 3 == 0 { row.clone() } else { seen };
                sent.push(told(&f, &seen).await);
            }
            sent
        })
    };
    let mut arrived = Vec::new();
    while arrived.len() < TURNS {
        let out = leased(&f).await;
        assert!(out.len() <= 1, "one at a time: {out:?}");
        for one in out {
            delivered(&f, &one).await;
            arrived.push(one.id);
        }
        f.advance(Duration::from_millis(500));
        tokio::task::yield_now().await;
    }
    moves.await.expect("moves");
    assert_eq!(arrived, tells.await.expect("tells"), "in the order of telling");
    balanced(&f).await;
}
