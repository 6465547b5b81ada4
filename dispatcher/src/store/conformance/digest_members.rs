//! What waits in digests, and what becomes of it where a digest ends otherwise than it was foreseen.

use std::{sync::Arc, time::Duration};

use carillon_domain::NotificationId;
use carillon_testkit::StoreChecker;
use serde_json::json;

use super::{
    digests::{Look, MINUTE, close, closing, due, every_minute, gathering, outside, plan, tick},
    fixture::Fixture,
    outside::run,
    steps::{ACCEPTED, hand_out, settle},
};
use crate::store::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One notification for ada with these steps that lives so long, planned.
async fn climbing(f: &Fixture, look: &Look, steps: serde_json::Value, life: Duration) -> NotificationId {
    let row = NewNotification {
        plan: Some(Arc::from(json!({"steps": steps}).to_string())),
        expires_at: f.now().after(life),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(f, look).await;
    row.id
}

async fn state(f: &Fixture, id: NotificationId) -> RecipientState {
    f.recipient(id, "ada").await.state
}

/// Closes all that are due, each over its channel, with a day to live; answers them by their channels' names.
async fn close_all(f: &Fixture) -> Vec<(String, NotificationId)> {
    let mut sent = Vec::new();
    for read in due(f).await {
        let channel = read.lease.key.channel.as_str().to_owned();
        let mut closing = closing(f, &read);
        let digest = closing.notification.as_mut().expect("not empty");
        digest.expires_at = f.now().after(DAY);
        digest.channels = Some(Arc::from(json!([channel]).to_string()));
        sent.push((channel, digest.id));
        assert!(close(f, &closing).await);
    }
    sent.sort();
    sent
}

pub(super) async fn a_member_of_two_digests_is_open_until_both_came_to_something(f: Fixture) {
    let look = every_minute();
    let steps = json!([{"channels": ["push", "sms"]}]);
    let id = climbing(&f, &look, steps, 2 * MINUTE).await;
    f.advance(MINUTE);
    let sent = close_all(&f).await;
    let [(push, failing), (sms, _)] = sent.as_slice() else {
        panic!("two digests: {sent:?}");
    };
    assert_eq!((push.as_str(), sms.as_str()), ("push", "sms"));
    plan(&f, &look).await;
    f.advance(2 * MINUTE);
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    let taken = f.store.cancel(f.now(), &f.tenant, *failing, &[]).await;
    taken.expect("cancels");
    tick(&f, &look).await;
    assert_eq!(
        state(&f, id).await,
        RecipientState::Open,
        "its time is over, and the other digest may arrive"
    );
    settle(&f, &hand_out(&f, "sms").await, ACCEPTED).await;
    f.advance(MINUTE);
    tick(&f, &look).await;
    assert_eq!(state(&f, id).await, RecipientState::Completed);
}

pub(super) async fn a_digest_that_is_planned_too_late_ends_its_members(f: Fixture) {
    let look = every_minute();
    let id = climbing(&f, &look, json!([{"channels": ["push"]}]), 2 * MINUTE).await;
    f.advance(MINUTE);
    let sent = close_all(&f).await;
    f.advance(2 * MINUTE);
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    tick(&f, &look).await;
    assert_eq!(state(&f, id).await, RecipientState::Open, "its digest may arrive");
    f.advance(DAY);
    plan(&f, &look).await;
    assert_eq!(state(&f, sent[0].1).await, RecipientState::Expired);
    tick(&f, &look).await;
    assert_eq!(state(&f, id).await, RecipientState::Expired);
}

pub(super) async fn a_step_whose_digest_closes_early_has_its_successor_in_time(f: Fixture) {
    let look = gathering(json!({"fixed": {"every": 60 * 60 * 60}}));
    let steps = json!([{"channels": ["push"], "deadline": 24 * 60 * 60}, {"channels": ["sms"]}]);
    // As foreseen its first step lasts longer than it lives.
    let id = climbing(&f, &look, steps, 3 * DAY).await;
    climbing(&f, &look, json!([{"channels": ["push"]}]), DAY).await;
    let closes = f.store.next_digest().await.expect("reads").expect("one is open");
    assert!(closes < f.now().after(DAY));
    f.advance(closes.since(f.now()));
    assert_eq!(close_all(&f).await.len(), 1, "both are in one");
    plan(&f, &look).await;
    tick(&f, &look).await;
    assert_eq!(outside(&f, id).await.len(), 1, "its first step has its time");
    f.advance(DAY);
    tick(&f, &look).await;
    assert_eq!(outside(&f, id).await.len(), 2, "the second one begins");
}

pub(super) async fn who_is_left_open_by_a_digest_that_ended_is_found(f: Fixture) {
    let look = every_minute();
    let id = climbing(&f, &look, json!([{"channels": ["push"]}]), 2 * MINUTE).await;
    f.advance(MINUTE);
    let digest = close_all(&f).await[0].1;
    plan(&f, &look).await;
    f.advance(2 * MINUTE);
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    run(&f, "DELETE FROM climbs".to_owned()).await;
    let mut checker = StoreChecker::open(f.database.clone());
    let mut found = async || checker.violations(f.now().as_micros()).await;
    assert_eq!(found().await, Vec::<String>::new(), "its digest may arrive");
    for (table, column, change) in [
        ("notifications", "id", "closed_at = expires_at"),
        ("recipients", "notification", "state = 'dead'"),
    ] {
        let statement = format!("UPDATE {table} SET {change} WHERE {column} = '{digest}'");
        run(&f, statement).await;
    }
    let found = found().await;
    let left = format!("open, its notification is closed, and nothing will end it: default {id} ");
    assert!(found.iter().any(|what| what.starts_with(&left)), "{found:?}");
}
