use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::NotificationState;

use super::fixture::Fixture;
use crate::store::*;

pub(super) async fn what_is_accepted_is_due_until_it_is_planned(f: Fixture) {
    let sent = [f.notification(&["ada"]), f.notification(&["bob", "#room"])];
    f.accept(&sent).await;
    assert_eq!(f.store.next_due().await.expect("reads"), Some(f.now()));
    let tally = f.store.tally(f.now()).await.expect("counts");
    assert_eq!((tally.accepted, tally.outbox, tally.planned), (2, 2, 0));
    let row = f
        .store
        .notification(&f.tenant, sent[0].id)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(
        (row.state, row.content, row.targets.len()),
        (NotificationState::Accepted, sent[0].content.clone(), 1)
    );

    assert_eq!(f.plan().await.value, [PlanOutcome::Planned; 2]);
    assert_eq!(f.store.next_due().await.expect("reads"), None);
    let tally = f.store.tally(f.now()).await.expect("counts");
    assert_eq!((tally.accepted, tally.outbox, tally.planned), (0, 0, 2));
    assert_eq!(f.state(sent[0].id).await, NotificationState::Planned);
}

pub(super) async fn a_lease_that_is_lost_comes_back_and_the_old_one_is_fenced(f: Fixture) {
    let sent = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let first = f.lease().await;
    assert_eq!(first[0].token, 1);
    assert!(f.lease().await.is_empty(), "leased once");
    f.advance(Duration::from_secs(31));
    let second = f.lease().await;
    assert_eq!(second[0].token, 2);
    let late = f.jobs(&first).await;
    assert_eq!(
        f.store.plan(f.now(), &late).await.expect("plans").value,
        [PlanOutcome::Stale]
    );
    let jobs = f.jobs(&second).await;
    let twice = [jobs[0].clone(), jobs[0].clone()];
    let outcomes = f.store.plan(f.now(), &twice).await.expect("plans").value;
    assert_eq!(
        outcomes,
        [PlanOutcome::Planned, PlanOutcome::Stale],
        "a job that comes twice"
    );
    assert_eq!(
        f.store.plan(f.now(), &jobs).await.expect("plans").value,
        [PlanOutcome::Stale]
    );
    assert_eq!(f.log("ada").await.len(), 1);
}

pub(super) async fn leases_of_a_dead_process_are_released(f: Fixture) {
    let later = NewNotification {
        send_at: f.now().after(Duration::from_secs(600)),
        ..f.notification(&["ada"])
    };
    f.accept(&[f.notification(&["ada"]), later]).await;
    assert_eq!(f.lease().await.len(), 1);
    assert_eq!(f.store.release_leases(f.now()).await.expect("releases"), 1);
    assert_eq!(
        f.lease().await.len(),
        1,
        "what was leased, and not what is scheduled"
    );
}

pub(super) async fn what_is_leased_when_it_is_accepted_comes_back_like_any_lease(f: Fixture) {
    let sent = f.notification(&["ada"]);
    let later = NewNotification {
        send_at: f.now().after(Duration::from_secs(10)),
        ..f.notification(&["ada"])
    };
    let request = AcceptRequest {
        tenant: f.tenant.clone(),
        notifications: vec![sent.clone(), later.clone()],
        claim: None,
    };
    let until = f.now().after(Duration::from_secs(30));
    f.store
        .accept(f.now(), &[request], Some(until))
        .await
        .expect("commits");
    assert!(f.lease().await.is_empty(), "leased already");
    f.advance(Duration::from_secs(11));
    let scheduled = f.lease().await;
    assert_eq!((scheduled[0].notification, scheduled[0].token), (later.id, 1));
    let first = [Lease {
        tenant: f.tenant.clone(),
        notification: sent.id,
        token: 1,
    }];
    f.advance(Duration::from_secs(20));
    let again = f.lease().await;
    assert_eq!((again[0].notification, again[0].token), (sent.id, 2));
    let late = f.jobs(&first).await;
    let outcomes = f.store.plan(f.now(), &late).await.expect("plans").value;
    assert_eq!(outcomes, [PlanOutcome::Stale]);
    let jobs = f.jobs(&again).await;
    let outcomes = f.store.plan(f.now(), &jobs).await.expect("plans").value;
    assert_eq!(outcomes, [PlanOutcome::Planned]);
}

pub(super) async fn several_relays_never_lease_the_same_row(f: Fixture) {
    let sent: Vec<_> = (0..200).map(|_| f.notification(&["ada"])).collect();
    f.accept(&sent).await;
    let f = Arc::new(f);
    let relays: Vec<_> = (0..4)
        .map(|_| {
            let f = Arc::clone(&f);
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let until = f.now().after(Duration::from_secs(30));
                    let leases = f.store.lease_outbox(f.now(), 7, until).await.expect("leases");
                    if leases.is_empty() {
                        return all;
                    }
                    all.extend(leases);
                }
            })
        })
        .collect();
    let mut seen = HashSet::new();
    for relay in relays {
        for lease in relay.await.expect("no panic") {
            assert_eq!(lease.token, 1);
            assert!(seen.insert(lease.notification), "leased twice");
        }
    }
    // One that found only locked rows may have stopped early.
    let rest = f
        .lease()
        .await
        .into_iter()
        .filter(|lease| seen.insert(lease.notification))
        .count();
    assert!(rest == 0 || seen.len() == 200);
    assert_eq!(seen.len(), 200);
}

fn keyed(f: &Fixture, route: &'static str, key: &str, body: &str) -> AcceptRequest {
    AcceptRequest {
        tenant: f.tenant.clone(),
        notifications: vec![f.notification(&["ada"])],
        claim: Some(Claim {
            route,
            key: Arc::from(key),
            fingerprint: format!("sha of {body}"),
            status: 202,
            body: Arc::from(body),
            expires_at: f.now().after(Duration::from_secs(86_400)),
        }),
    }
}

pub(super) async fn a_key_answers_again_and_refuses_another_body(f: Fixture) {
    let requests = [
        keyed(&f, "r", "k", "one"),
        keyed(&f, "other", "k", "two"),
        keyed(&f, "r", "l", "three"),
    ];
    let replies = f.store.accept(f.now(), &requests, None).await.expect("commits");
    assert_eq!(
        replies,
        [
            AcceptReply::Accepted,
            AcceptReply::Accepted,
            AcceptReply::Accepted
        ]
    );
    let mut foreign = keyed(&f, "r", "k", "else");
    foreign.tenant = "acme".parse().expect("a tenant");
    let again = [
        keyed(&f, "r", "k", "one"),
        keyed(&f, "r", "l", "else"),
        foreign,
        keyed(&f, "r", "new", "four"),
    ];
    let replies = f.store.accept(f.now(), &again, None).await.expect("commits");
    let before = AcceptReply::Replayed {
        status: 202,
        body: "one".into(),
    };
    assert_eq!(
        replies,
        [
            before,
            AcceptReply::Mismatch,
            AcceptReply::Accepted,
            AcceptReply::Accepted
        ]
    );
    assert_eq!(f.store.tally(f.now()).await.expect("counts").accepted, 5);
    f.advance(Duration::from_secs(86_400));
    let replies = f
        .store
        .accept(f.now(), &[keyed(&f, "r", "k", "new day")], None)
        .await
        .expect("commits");
    assert_eq!(replies, [AcceptReply::Accepted], "keys are kept for a day");
    let replies = f
        .store
        .accept(f.now(), &[keyed(&f, "r", "k", "new day")], None)
        .await
        .expect("commits");
    assert_eq!(
        replies,
        [AcceptReply::Replayed {
            status: 202,
            body: "new day".into()
        }]
    );
}

pub(super) async fn requests_that_race_with_one_key_are_accepted_once(f: Fixture) {
    let f = Arc::new(f);
    for round in 0..10 {
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let f = Arc::clone(&f);
                tokio::spawn(async move {
                    // Each brings other keys too, in another order.
                    let mut keys: Vec<_> = (0..3).map(|n| format!("{round}/{n}")).collect();
                    keys.rotate_left(racer % 3);
                    let requests: Vec<_> = keys.iter().map(|key| keyed(&f, "r", key, "same")).collect();
                    f.store.accept(f.now(), &requests, None).await.expect("commits")
                })
            })
            .collect();
        let mut accepted = 0;
        for racer in racers {
            accepted += racer
                .await
                .expect("no panic")
                .iter()
                .filter(|reply| **reply == AcceptReply::Accepted)
                .count();
        }
        assert_eq!(accepted, 3);
    }
    assert_eq!(f.store.tally(f.now()).await.expect("counts").accepted, 30);
}

pub(super) async fn what_cannot_be_planned_is_put_off_until_it_expires(f: Fixture) {
    let sent = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let lease = f.lease().await.remove(0);
    f.store
        .postpone(f.now(), &lease, f.now().after(Duration::from_secs(300)))
        .await
        .expect("commits");
    f.advance(Duration::from_secs(299));
    assert!(f.lease().await.is_empty());
    f.advance(Duration::from_secs(1));
    let lease = f.lease().await.remove(0);
    f.advance(Duration::from_secs(3_600));
    let stale = Lease {
        token: 1,
        ..lease.clone()
    };
    f.store.postpone(f.now(), &stale, f.now()).await.expect("commits");
    assert_eq!(
        f.state(sent.id).await,
        NotificationState::Accepted,
        "a stale lease decides nothing"
    );
    f.store.postpone(f.now(), &lease, f.now()).await.expect("commits");
    assert_eq!(f.state(sent.id).await, NotificationState::Expired);
    assert_eq!(f.store.next_due().await.expect("reads"), None);
}

pub(super) async fn scheduled_notifications_wait_for_their_time(f: Fixture) {
    let send_at = f.now().after(Duration::from_secs(600));
    let later = NewNotification {
        send_at,
        expires_at: send_at.after(Duration::from_secs(60)),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&later)).await;
    assert_eq!(f.store.next_due().await.expect("reads"), Some(send_at));
    assert!(f.plan().await.value.is_empty());
    // Another process opens the store meanwhile.
    let _ = f.reopen(super::fixture::LIMITS).await;
    f.advance(Duration::from_secs(600));
    assert_eq!(f.plan().await.value, [PlanOutcome::Planned]);
    assert_eq!(f.inbox("ada").await[0].notification, later.id);
}
