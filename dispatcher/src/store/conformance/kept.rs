//! What stays because something of it is still under way, and what is counted because nothing finds it.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Timestamp, ports};

use super::{
    fixture::Fixture,
    outside::{DONE, delivery, lease, open, run, said, settle, state},
};
use crate::store::{endpoints::EventRow, outside::*, *};

const LONG: Duration = Duration::from_secs(10 * 86_400);

/// Makes a dead letter of work that is due.
async fn dead(f: &Fixture) {
    for out in lease(f, 10).await {
        settle(f, &[said(f, &out, Verdict::Dead)]).await;
    }
}

pub(super) async fn what_was_revived_of_an_old_notification_stays_until_it_ends(f: Fixture) {
    let notification = f.send(&[f.notification(&["ada"])]).await[0];
    let outside = OutsideRow {
        brings: Brings::Notification(notification),
        ..delivery(&f, "a.example")
    };
    open(&f, std::slice::from_ref(&outside)).await;
    dead(&f).await;
    f.advance(LONG);
    let again = f.store.resend(f.now(), &f.tenant, outside.id).await;
    assert_eq!(again.expect("answers"), Resent::Done);
    let cutoff = f.now().before(Duration::from_secs(86_400));
    let sweep = async || {
        let removed = f.store.sweep(Sweep::Notifications, cutoff, 100).await;
        removed.expect("sweeps")
    };
    assert_eq!(sweep().await, 0, "it is under way");
    let out = lease(&f, 10).await;
    assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [outside.id]);
    let sources = f.store.load_work(f.now(), &out).await.expect("reads");
    assert!(
        sources
            .notifications
            .contains_key(&(f.tenant.clone(), notification))
    );
    settle(&f, &[said(&f, &out[0], DONE)]).await;
    assert_eq!(state(&f, outside.id).await, DeliveryState::Delivered);
    assert!(sweep().await > 0, "now it ended");
    let gone = f.store.notification(&f.tenant, notification).await;
    assert!(gone.expect("reads").is_none());
}

pub(super) async fn what_was_revived_of_an_old_event_stays_until_it_ends(f: Fixture) {
    let now = f.now();
    let event = EventRow {
        tenant: f.tenant.clone(),
        id: carillon_domain::EventId::at(now),
        kind: "webhook.test",
        body: "{}".to_owned(),
        at: now,
    };
    let outside = OutsideRow {
        brings: Brings::Event(event.id),
        user: None,
        ..delivery(&f, "a.example")
    };
    let work = WorkRow::of(&outside, Arc::from(""), ports::Operation::Deliver);
    f.store
        .send_event(&event, &outside, &work)
        .await
        .expect("commits");
    dead(&f).await;
    f.advance(LONG);
    let again = f.store.resend(f.now(), &f.tenant, outside.id).await;
    assert_eq!(again.expect("answers"), Resent::Done);
    let cutoff = f.now().before(Duration::from_secs(86_400));
    let sweep = async || {
        let removed = f.store.sweep_outside(OutsideSweep::Events, cutoff, 100).await;
        removed.expect("sweeps")
    };
    assert_eq!(sweep().await, 0, "it is under way");
    let out = lease(&f, 10).await;
    assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [outside.id]);
    settle(&f, &[said(&f, &out[0], DONE)]).await;
    assert_eq!(sweep().await, 1, "now it ended");
}

pub(super) async fn work_that_no_lane_leads_to_is_counted(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let stranded = async || {
        let tally = f.store.tally_outside().await;
        tally.expect("counts").stranded
    };
    assert_eq!(stranded().await, 0);
    run(&f, "DELETE FROM lanes WHERE lane = 'a.example:443'".to_owned()).await;
    assert_eq!(stranded().await, 1);
}

pub(super) async fn what_is_read_together_has_so_many_bytes(f: Fixture) {
    let of_size = |size: usize| NewNotification {
        content: Arc::from(format!("{{\"title\":\"{}\"}}", "x".repeat(size))),
        ..f.notification(&["ada"])
    };
    let sent = [of_size(1_000), of_size(1_000), of_size(1_000), of_size(5_000)];
    f.accept(&sent).await;
    let mut ids: Vec<_> = sent.iter().map(|sent| (f.tenant.clone(), sent.id)).collect();
    // One that is gone is no reason to come again.
    ids.push((f.tenant.clone(), NotificationId::at(Timestamp::from_micros(1))));
    let load = async |ids: &[_], most| f.store.load(ids, most).await.expect("loads");
    let all = load(&ids, usize::MAX).await;
    assert_eq!((all.rows.len(), all.more), (4, false));
    let one = load(&ids, 1).await;
    assert_eq!(
        one.rows.iter().map(|row| row.id).collect::<Vec<_>>(),
        [sent[0].id]
    );
    assert!(one.more);
    let mut rounds = Vec::new();
    loop {
        let loaded = load(&ids, 2_000).await;
        ids.retain(|(_, id)| loaded.rows.iter().all(|row| row.id != *id));
        rounds.push(loaded.rows.len());
        if !loaded.more {
            break;
        }
    }
    assert_eq!(rounds, [2, 2, 0], "as many as fit, and the one that fills it");
    assert_eq!(ids.len(), 1);
}
