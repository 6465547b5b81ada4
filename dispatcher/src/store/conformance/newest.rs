//! Of notifications with one collapse key the newest goes on, however they are planned.

use std::time::Duration;

use carillon_domain::NotificationId;

use super::{
    fixture::Fixture,
    ladder::{Look, Sees, deliveries, plan, tick},
    steps::be_quiet,
};
use crate::store::*;

const SECOND: Duration = Duration::from_secs(1);

fn look<'a>(channels: &'a [&'a str]) -> Look<'a> {
    Look {
        channels,
        addresses: &["a"],
        active_until: None,
    }
}

/// Accepts two that name the same, a second apart.
async fn two(f: &Fixture) -> [NotificationId; 2] {
    let older = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&older)).await;
    f.advance(SECOND);
    let newer = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&newer)).await;
    [older.id, newer.id]
}

/// A recipient's deliveries outside: their states.
async fn outside(f: &Fixture, id: NotificationId) -> Vec<String> {
    let deliveries = deliveries(f, id, "ada").await.into_iter();
    let outside = deliveries.filter(|(_, channel, _)| channel != "in_app");
    outside.map(|(_, _, state)| state).collect()
}

async fn is_superseded(f: &Fixture, id: NotificationId) {
    let detail = f.recipient(id, "ada").await;
    assert_eq!(detail.state, RecipientState::Superseded);
    assert!(detail.reason.is_some_and(|reason| reason.contains("newer")));
    assert_eq!(detail.next_at, None);
}

pub(super) async fn who_stands_in_the_last_step_gives_way_to_a_newer_one(f: Fixture) {
    let look = look(&["push"]);
    let older = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&older)).await;
    plan(&f, &look).await;
    f.advance(SECOND);
    let newer = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&newer)).await;
    plan(&f, &look).await;
    is_superseded(&f, older.id).await;
    assert_eq!(outside(&f, older.id).await, ["superseded"]);
    assert_eq!(f.recipient(newer.id, "ada").await.state, RecipientState::Open);
    assert_eq!(outside(&f, newer.id).await, ["pending"]);
}

pub(super) async fn of_one_batch_the_newest_alone_goes_out(f: Fixture) {
    be_quiet(&f, "ada").await;
    let look = look(&["push"]);
    let [older, newer] = two(&f).await;
    plan(&f, &look).await;
    is_superseded(&f, older).await;
    let held = f.recipient(newer, "ada").await;
    assert_eq!(held.phase, Some(RecipientPhase::Held));
    f.advance(Duration::from_secs(3_400));
    assert_eq!(tick(&f, &look).await, 1, "the newest alone is held");
    assert_eq!(outside(&f, newer).await, ["pending"]);
    assert!(outside(&f, older).await.is_empty());
}

pub(super) async fn an_older_one_that_is_planned_late_takes_nobodys_place(f: Fixture) {
    for channels in [&["push"][..], &["in_app", "push"], &["in_app"]] {
        let look = look(channels);
        let [older, newer] = two(&f).await;
        let mut jobs = f.jobs(&f.lease().await).await;
        jobs.iter_mut().for_each(|job| look.see(job));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.notification.send_at));
        assert_eq!(jobs[0].notification.id, newer);
        for job in jobs {
            f.store.plan(f.now(), &[job]).await.expect("plans");
        }
        is_superseded(&f, older).await;
        assert!(deliveries(&f, older, "ada").await.is_empty());
        assert_eq!(f.recipient(newer, "ada").await.state, RecipientState::Open);
        let waits = usize::from(channels.contains(&"push"));
        assert_eq!(outside(&f, newer).await, vec!["pending"; waits]);
        let inbox = f.inbox("ada").await;
        let shown = inbox.first().map(|entry| entry.notification);
        let in_app = channels.contains(&"in_app");
        assert_eq!(shown, in_app.then_some(newer), "over {channels:?}");
        f.advance(SECOND);
    }
}

pub(super) async fn what_is_sent_later_is_newer_whenever_it_was_accepted(f: Fixture) {
    let look = look(&["in_app", "push"]);
    let planned = NewNotification {
        send_at: f.now().after(10 * SECOND),
        ..f.collapsing(&["ada"], "job")
    };
    f.accept(std::slice::from_ref(&planned)).await;
    f.advance(SECOND);
    let at_once = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&at_once)).await;
    plan(&f, &look).await;
    assert_eq!(outside(&f, at_once.id).await, ["pending"]);
    f.advance(10 * SECOND);
    plan(&f, &look).await;
    is_superseded(&f, at_once.id).await;
    assert_eq!(outside(&f, planned.id).await, ["pending"]);
    assert_eq!(f.inbox("ada").await[0].notification, planned.id);
}

pub(super) async fn a_clock_that_was_set_back_swallows_nothing(f: Fixture) {
    let look = look(&["in_app", "push"]);
    f.advance(3_600 * SECOND);
    let ahead = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&ahead)).await;
    plan(&f, &look).await;
    f.set_back(1_800 * SECOND);
    let now = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&now)).await;
    plan(&f, &look).await;
    assert_eq!(f.inbox("ada").await[0].notification, now.id);
    assert_eq!(f.recipient(now.id, "ada").await.state, RecipientState::Open);
    assert_eq!(outside(&f, now.id).await, ["pending"]);
}
