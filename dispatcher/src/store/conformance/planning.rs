use std::{sync::Arc, time::Duration};

use carillon_domain::{Change, EnvelopeKind, NotificationState, Subject, TenantId};

use super::fixture::{Fixture, words};
use crate::store::*;

pub(super) async fn recipients_get_entries_with_numbers_and_counts(f: Fixture) {
    let sent = [f.notification(&["ada", "bob"]), f.notification(&["ada"])];
    f.accept(&sent).await;
    let committed = f.plan().await;
    assert_eq!(words(&f.log("ada").await), ["added", "added"]);
    assert_eq!(words(&f.log("bob").await), ["added"]);
    assert_eq!(
        (f.counts("ada").await, f.counts("bob").await),
        ((2, 2, 2), (1, 1, 1))
    );
    assert_eq!(committed.envelopes.len(), 3);
    let ada: Vec<_> = committed
        .envelopes
        .iter()
        .filter(|envelope| envelope.subject == Subject::Mailbox(f.user("ada")))
        .collect();
    let stored = f.since("ada", 0).await.items;
    for (envelope, logged) in ada.iter().zip(&stored) {
        assert_eq!(envelope.position.as_ref(), Some(&logged.position));
        assert_eq!(envelope.body, logged.body, "the bus carries what the log keeps");
        assert_eq!(envelope.kind, EnvelopeKind::Change(logged.kind));
    }
    let detail = f.recipient(sent[0].id, "ada").await;
    let entry = f
        .inbox("ada")
        .await
        .into_iter()
        .find(|entry| entry.notification == sent[0].id)
        .expect("an entry");
    assert_eq!(detail.state, RecipientState::Open);
    assert_eq!(detail.entry, Some(entry.id));
    assert_eq!(detail.position.expect("a position").seq, entry.seq);
    assert_eq!(detail.deliveries.len(), 1);
    assert_eq!(
        (
            detail.deliveries[0].channel.as_str(),
            detail.deliveries[0].state.as_str()
        ),
        ("in_app", "accepted")
    );
    let newest_first: Vec<u64> = f.inbox("ada").await.iter().map(|entry| entry.seq).collect();
    assert_eq!(newest_first, [2, 1]);
}

pub(super) async fn an_open_entry_with_the_collapse_key_is_replaced(f: Fixture) {
    let first = f.send(&[f.collapsing(&["ada", "bob"], "build")]).await[0];
    let entry = f.inbox("ada").await[0].id;
    assert_eq!(
        f.entry("ada", entry, EntryAction::Seen).await,
        OperationResult::Ok
    );
    let other = f.send(&[f.notification(&["ada"])]).await[0];
    f.advance(Duration::from_secs(1));
    let second = f.send(&[f.collapsing(&["ada"], "build")]).await[0];
    let log = f.log("ada").await;
    assert_eq!(words(&log), ["added", "seen 1", "added", "replaced"]);
    let Change::Replaced {
        entry: shown,
        superseded,
        ..
    } = &log[3]
    else {
        panic!("a replacement")
    };
    assert_eq!(
        (shown.id, shown.notification_id, *superseded),
        (entry, second, first)
    );
    assert!(shown.seen_at.is_none() && shown.read_at.is_none() && shown.created_at < shown.updated_at);
    let inbox = f.inbox("ada").await;
    assert_eq!(
        inbox.iter().map(|entry| entry.notification).collect::<Vec<_>>(),
        [second, other],
        "on top again"
    );
    assert_eq!(inbox[0].seq, 4);
    assert_eq!(f.counts("ada").await, (2, 2, 2));
    assert_eq!(f.recipient(first, "ada").await.state, RecipientState::Superseded);
    assert!(f.recipient(first, "ada").await.reason.is_some());
    assert_eq!(
        f.recipient(first, "bob").await.state,
        RecipientState::Open,
        "bob still has it"
    );
    assert_eq!(
        f.recipient(first, "ada").await.deliveries.len(),
        1,
        "both keep their records"
    );
    assert_eq!(f.recipient(second, "ada").await.state, RecipientState::Open);
    // What was answered stays answered, and the next one is open again.
    let read = Operation::Entry(Which::Entry(entry), EntryAction::Read);
    f.act("ada", vec![read]).await;
    let third = f.send(&[f.collapsing(&["ada"], "build")]).await[0];
    assert_eq!(
        f.recipient(second, "ada").await.state,
        RecipientState::Acknowledged
    );
    assert_eq!(f.recipient(third, "ada").await.state, RecipientState::Open);
    assert!(f.inbox("ada").await[0].acknowledgement.is_none());
}

pub(super) async fn one_batch_may_replace_what_it_added(f: Fixture) {
    let sent: Vec<_> = (0..4).map(|_| f.collapsing(&["ada"], "build")).collect();
    f.accept(&sent).await;
    f.plan().await;
    assert_eq!(
        words(&f.log("ada").await),
        ["added", "replaced", "replaced", "replaced"]
    );
    let inbox = f.inbox("ada").await;
    assert_eq!((inbox.len(), inbox[0].seq), (1, 4));
    let mut states = Vec::new();
    for notification in &sent {
        states.push(f.recipient(notification.id, "ada").await.state);
    }
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == RecipientState::Superseded)
            .count(),
        3
    );
    assert_eq!(
        f.recipient(inbox[0].notification, "ada").await.state,
        RecipientState::Open
    );
}

pub(super) async fn what_is_archived_or_of_another_category_is_not_replaced(f: Fixture) {
    f.send(&[f.collapsing(&["ada"], "build")]).await;
    let entry = f.inbox("ada").await[0].id;
    f.entry("ada", entry, EntryAction::Archive).await;
    f.send(&[f.collapsing(&["ada"], "build")]).await;
    let other = NewNotification {
        category: "ci".parse().expect("a category"),
        ..f.collapsing(&["ada"], "build")
    };
    f.send(&[other]).await;
    assert_eq!(
        words(&f.log("ada").await),
        ["added", "archived! 1", "added", "added"]
    );
    let snoozed = f.inbox("ada").await[1].id;
    let until = f.now().after(Duration::from_secs(60));
    f.entry("ada", snoozed, EntryAction::Snooze { until }).await;
    f.send(&[f.collapsing(&["ada"], "build")]).await;
    let log = f.log("ada").await;
    assert_eq!(
        words(&log)[4..],
        ["snoozed 1", "replaced"],
        "snoozed is open, and comes back"
    );
    assert!(f.inbox("ada").await[0].snoozed_until.is_none());
}

pub(super) async fn what_is_too_late_expires(f: Fixture) {
    let sent = f.notification(&["ada", "#room"]);
    f.accept(std::slice::from_ref(&sent)).await;
    f.advance(Duration::from_secs(3_600));
    let committed = f.plan().await;
    assert_eq!(committed.value, [PlanOutcome::Expired]);
    assert!(committed.envelopes.is_empty());
    assert_eq!(f.state(sent.id).await, NotificationState::Expired);
    let detail = f.recipient(sent.id, "ada").await;
    assert_eq!((detail.state, detail.entry), (RecipientState::Expired, None));
    assert!(detail.reason.is_some());
    assert!(f.log("ada").await.is_empty());
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, sent.id, &[])
        .await
        .expect("commits");
    assert_eq!(cancelled.value, Cancelled::Expired);
}

/// The first user and topic of a job, and the rest.
async fn halves(f: &Fixture) -> (PlanJob, PlanJob) {
    let whole = f.jobs(&f.lease().await).await.remove(0);
    let first = PlanJob {
        users: whole.users[..1].to_vec(),
        topics: whole.topics[..1].to_vec(),
        part: PlanPart::More,
        ..whole.clone()
    };
    let rest = PlanJob {
        users: whole.users[1..].to_vec(),
        topics: whole.topics[1..].to_vec(),
        part: PlanPart::Last,
        ..whole
    };
    (first, rest)
}

pub(super) async fn a_notification_is_planned_in_parts_once(f: Fixture) {
    let sent = f.notification(&["ada", "bob", "#one", "#two"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let (first, rest) = halves(&f).await;
    let plan = async |job: PlanJob| f.store.plan(f.now(), &[job]).await.expect("plans");
    let done = plan(first.clone()).await;
    assert_eq!((done.value, done.envelopes.len()), (vec![PlanOutcome::Partly], 2));
    assert_eq!(
        f.state(sent.id).await,
        NotificationState::Accepted,
        "more follows"
    );
    let again = plan(first).await;
    assert_eq!(
        (again.value, again.envelopes.len()),
        (vec![PlanOutcome::Partly], 0)
    );

    // The process dies; the next one begins from the start.
    f.advance(Duration::from_secs(31));
    let whole = f.jobs(&f.lease().await).await.remove(0);
    assert_eq!(
        plan(rest).await.value,
        [PlanOutcome::Stale],
        "the old lease is over"
    );
    let done = plan(whole).await;
    assert_eq!(
        (done.value, done.envelopes.len()),
        (vec![PlanOutcome::Planned], 2)
    );
    assert_eq!(f.state(sent.id).await, NotificationState::Planned);
    for user in ["ada", "bob"] {
        assert_eq!(f.log(user).await.len(), 1, "{user}");
        assert_eq!(f.recipient(sent.id, user).await.state, RecipientState::Open);
    }
    let row = f
        .store
        .notification(&f.tenant, sent.id)
        .await
        .expect("reads")
        .expect("is there");
    let topics: Vec<PublishedTo> = serde_json::from_str(&row.topics.expect("published")).expect("JSON");
    let published: Vec<_> = topics
        .iter()
        .map(|to| {
            (
                to.topic.as_str(),
                to.position.as_ref().map(|position| position.seq),
            )
        })
        .collect();
    assert_eq!(published, [("one", Some(1)), ("two", Some(1))]);
    assert_eq!(f.store.next_due().await.expect("reads"), None);
}

pub(super) async fn a_part_that_is_too_late_leaves_what_was_sent(f: Fixture) {
    let sent = f.notification(&["ada", "bob", "#one", "#two"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let (first, rest) = halves(&f).await;
    f.store.plan(f.now(), &[first]).await.expect("plans");
    f.advance(Duration::from_secs(3_601));
    let done = f.store.plan(f.now(), &[rest]).await.expect("plans");
    assert_eq!(
        (done.value, done.envelopes.len()),
        (vec![PlanOutcome::Planned], 0)
    );
    assert_eq!(f.recipient(sent.id, "ada").await.state, RecipientState::Open);
    assert_eq!(f.recipient(sent.id, "bob").await.state, RecipientState::Expired);
    let row = f
        .store
        .notification(&f.tenant, sent.id)
        .await
        .expect("reads")
        .expect("is there");
    assert!(
        row.topics
            .is_some_and(|topics| topics.contains("one") && !topics.contains("two"))
    );
}

pub(super) async fn cancelling_between_parts_recalls_what_was_sent(f: Fixture) {
    let sent = f.notification(&["ada", "bob", "#one", "#two"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let (first, rest) = halves(&f).await;
    f.store.plan(f.now(), &[first]).await.expect("plans");
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, sent.id, &[])
        .await
        .expect("cancels");
    assert_eq!(
        cancelled.value,
        Cancelled::Done {
            recalled: 1,
            in_flight: 0
        }
    );
    let done = f.store.plan(f.now(), &[rest]).await.expect("plans");
    assert_eq!(done.value, [PlanOutcome::Stale]);
    assert!(f.inbox("ada").await.is_empty() && f.inbox("bob").await.is_empty());
}

pub(super) async fn cancelling_recalls_open_entries_once(f: Fixture) {
    let id = f.send(&[f.notification(&["ada", "bob", "eve", "dan"])]).await[0];
    f.entry("bob", f.inbox("bob").await[0].id, EntryAction::Archive)
        .await;
    f.entry("eve", f.inbox("eve").await[0].id, EntryAction::Read)
        .await;
    f.entry("dan", f.inbox("dan").await[0].id, EntryAction::Delete)
        .await;
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, id, &[])
        .await
        .expect("commits");
    assert_eq!(
        cancelled.value,
        Cancelled::Done {
            recalled: 2,
            in_flight: 0
        }
    );
    assert_eq!(cancelled.envelopes.len(), 2);
    assert_eq!(words(&f.log("ada").await), ["added", "recalled"]);
    assert_eq!(words(&f.log("bob").await), ["added", "archived! 1"]);
    assert_eq!(words(&f.log("eve").await), ["added", "read! 1", "recalled"]);
    assert_eq!(words(&f.log("dan").await), ["added", "deleted! 1"]);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Cancelled);
    assert_eq!(f.recipient(id, "eve").await.state, RecipientState::Acknowledged);
    assert_eq!(f.state(id).await, NotificationState::Cancelled);
    let again = f
        .store
        .cancel(f.now(), &f.tenant, id, &[])
        .await
        .expect("commits");
    assert_eq!(
        again.value,
        Cancelled::Done {
            recalled: 0,
            in_flight: 0
        }
    );
    assert!(again.envelopes.is_empty());
    let foreign: TenantId = "acme".parse().expect("a tenant");
    let other = f.store.cancel(f.now(), &foreign, id, &[]).await.expect("commits");
    assert_eq!(other.value, Cancelled::NotFound);
}

pub(super) async fn cancelling_before_planning_sends_nothing(f: Fixture) {
    let sent = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let jobs = f.jobs(&f.lease().await).await;
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, sent.id, &[])
        .await
        .expect("commits");
    assert_eq!(
        cancelled.value,
        Cancelled::Done {
            recalled: 0,
            in_flight: 0
        }
    );
    assert_eq!(
        f.store.plan(f.now(), &jobs).await.expect("plans").value,
        [PlanOutcome::Stale]
    );
    assert!(f.log("ada").await.is_empty());
    let tally = f.store.tally(f.now()).await.expect("counts");
    assert_eq!((tally.cancelled, tally.outbox), (1, 0));
}

pub(super) async fn cancelling_and_planning_never_leave_an_entry_behind(f: Fixture) {
    let f = Arc::new(f);
    for _ in 0..20 {
        let sent = f.notification(&["ada", "bob"]);
        f.accept(std::slice::from_ref(&sent)).await;
        let jobs = f.jobs(&f.lease().await).await;
        let planner = tokio::spawn({
            let f = Arc::clone(&f);
            async move { f.store.plan(f.now(), &jobs).await.expect("plans").value[0] }
        });
        let canceller = tokio::spawn({
            let f = Arc::clone(&f);
            async move {
                f.store
                    .cancel(f.now(), &f.tenant, sent.id, &[])
                    .await
                    .expect("commits")
                    .value
            }
        });
        let (planned, cancelled) = (
            planner.await.expect("no panic"),
            canceller.await.expect("no panic"),
        );
        match planned {
            PlanOutcome::Stale => assert_eq!(
                cancelled,
                Cancelled::Done {
                    recalled: 0,
                    in_flight: 0
                }
            ),
            _ => assert_eq!(
                cancelled,
                Cancelled::Done {
                    recalled: 2,
                    in_flight: 0
                }
            ),
        }
        assert!(f.inbox("ada").await.is_empty() && f.inbox("bob").await.is_empty());
        assert_eq!(f.state(sent.id).await, NotificationState::Cancelled);
    }
    assert_eq!(f.store.next_due().await.expect("reads"), None);
}

pub(super) async fn the_same_ids_under_two_tenants_are_strangers(f: Fixture) {
    let other: TenantId = "acme".parse().expect("a tenant");
    let sent = f.collapsing(&["ada", "#room"], "k");
    f.accept(std::slice::from_ref(&sent)).await;
    f.accept_for(&other, std::slice::from_ref(&sent)).await;
    // Even the users' internal ids are the same.
    let mut jobs = f.jobs(&f.lease().await).await;
    for job in &mut jobs {
        job.users = vec![Addressee::in_app(f.user("ada"))];
    }
    assert_eq!(
        f.store.plan(f.now(), &jobs).await.expect("plans").value,
        [PlanOutcome::Planned; 2]
    );
    let entry = f.inbox("ada").await[0].id;
    let ada = f.user("ada");
    assert!(f.store.entry(&other, ada, entry).await.expect("reads").is_none());
    let (own, foreign) = (
        f.store.mailbox(&f.tenant, ada).await.expect("reads").0,
        f.store.mailbox(&other, ada).await.expect("reads").0,
    );
    assert_ne!(own.epoch, foreign.epoch);
    assert_eq!((own.seq, foreign.seq), (1, 1), "neither replaced the other's");
    assert_eq!(
        f.entry("ada", entry, EntryAction::Delete).await,
        OperationResult::Ok
    );
    assert_eq!(f.store.mailbox(&other, ada).await.expect("reads").1.total, 1);
    f.store
        .cancel(f.now(), &other, sent.id, &[])
        .await
        .expect("commits");
    assert_eq!(f.state(sent.id).await, NotificationState::Planned);
    let erasure = Erasure {
        tenant: other.clone(),
        user: ada,
        name: Some("ada".parse().expect("a user")),
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    assert_eq!(
        f.recipient(sent.id, "ada").await.state,
        RecipientState::Acknowledged
    );
    let topic = "room".parse().expect("a topic");
    let heads = (
        f.store
            .topic_head(f.now(), &f.tenant, &topic)
            .await
            .expect("reads"),
        f.store.topic_head(f.now(), &other, &topic).await.expect("reads"),
    );
    assert_ne!(heads.0.epoch, heads.1.epoch);
}

pub(super) async fn lists_filter_and_page(f: Fixture) {
    let mut ids = Vec::new();
    for n in 0..6 {
        f.advance(Duration::from_secs(1));
        let category = if n % 2 == 0 { "even" } else { "odd" }
            .parse()
            .expect("a category");
        let user = if n < 3 { "ada" } else { "bob" };
        ids.extend(
            f.send(&[NewNotification {
                category,
                ..f.notification(&[user])
            }])
            .await,
        );
    }
    f.store
        .cancel(f.now(), &f.tenant, ids[0], &[])
        .await
        .expect("commits");
    f.advance(Duration::from_secs(1));
    let waiting = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&waiting)).await;
    let list = async |query: NotificationQuery| {
        let rows = f.store.notifications(&f.tenant, &query).await.expect("reads");
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = NotificationQuery {
        limit: 100,
        ..NotificationQuery::default()
    };
    let newest_first: Vec<_> = std::iter::once(waiting.id)
        .chain(ids.iter().rev().copied())
        .collect();
    assert_eq!(list(all.clone()).await, newest_first);
    assert_eq!(
        list(NotificationQuery {
            limit: 2,
            ..all.clone()
        })
        .await,
        newest_first[..2]
    );
    let before = Some(newest_first[1]);
    assert_eq!(
        list(NotificationQuery {
            before,
            ..all.clone()
        })
        .await,
        newest_first[2..]
    );
    let category = Some("odd".parse().expect("a category"));
    assert_eq!(
        list(NotificationQuery {
            category,
            ..all.clone()
        })
        .await,
        [ids[5], ids[3], ids[1]]
    );
    for (state, expected) in [
        (NotificationState::Accepted, vec![waiting.id]),
        (NotificationState::Cancelled, vec![ids[0]]),
        (NotificationState::Planned, newest_first[1..6].to_vec()),
        (NotificationState::Expired, Vec::new()),
    ] {
        assert_eq!(
            list(NotificationQuery {
                state: Some(state),
                ..all.clone()
            })
            .await,
            expected
        );
    }
    let user = Some(f.user("ada"));
    let of_ada = list(NotificationQuery {
        user,
        state: Some(NotificationState::Planned),
        ..all.clone()
    })
    .await;
    assert_eq!(of_ada, [ids[2], ids[1]]);
    assert_eq!(
        list(NotificationQuery {
            user,
            before: Some(ids[2]),
            ..all
        })
        .await,
        [ids[1], ids[0]]
    );
    let many = f.send(&[f.notification(&["u1", "u2", "u3", "u4", "u5"])]).await[0];
    let first = f.store.recipients(&f.tenant, many, None, 3).await.expect("reads");
    let rest = f
        .store
        .recipients(&f.tenant, many, Some(first[2].user), 3)
        .await
        .expect("reads");
    assert_eq!((first.len(), rest.len()), (3, 2));
    assert!(first[2].user < rest[0].user && rest.iter().all(|detail| detail.deliveries.len() == 1));
}

pub(super) async fn what_is_put_off_between_parts_until_it_is_too_late_was_planned_as_far_as_it_went(
    f: Fixture,
) {
    let sent = f.notification(&["ada", "bob", "#one", "#two"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let (first, rest) = halves(&f).await;
    f.store.plan(f.now(), &[first]).await.expect("plans");
    let off = f.now().after(Duration::from_secs(1));
    let end = f.store.postpone(f.now(), &rest.lease, off).await;
    assert_eq!(end.expect("commits"), None);
    f.advance(Duration::from_secs(3_601));
    let lease = f.lease().await.remove(0);
    let end = f.store.postpone(f.now(), &lease, f.now()).await;
    assert_eq!(end.expect("commits"), Some(NotificationState::Planned));
    assert_eq!(f.state(sent.id).await, NotificationState::Planned);
    assert_eq!(f.recipient(sent.id, "ada").await.state, RecipientState::Open);
    let tally = f.store.tally(f.now()).await.expect("counts");
    assert_eq!((tally.planned, tally.accepted, tally.outbox), (1, 0, 0));
}
