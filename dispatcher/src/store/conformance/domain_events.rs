use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::{DomainEventId, NotificationId, RuleName, TenantId};

use super::fixture::Fixture;
use crate::store::{Erasure, domain_events::*};

fn event(f: &Fixture, tenant: &TenantId, source: &str, id: &str) -> NewDomainEvent {
    NewDomainEvent {
        tenant: tenant.clone(),
        id: DomainEventId::at(f.now()),
        source: source.into(),
        event_id: id.into(),
        kind: "order.shipped".into(),
        body: r#"{"data":{"user":"ada"}}"#.into(),
        received_at: f.now(),
    }
}

fn result(rule: &str, outcome: RuleOutcome, notification: Option<NotificationId>) -> RuleResult {
    RuleResult {
        rule: rule.parse().expect("a name"),
        version: 3,
        outcome,
        notification,
        reason: (outcome != RuleOutcome::Notified).then(|| format!("why {rule}")),
    }
}

async fn accept(f: &Fixture, events: &[NewDomainEvent]) -> Vec<EventReply> {
    f.store.accept_events(events).await.expect("commits")
}

async fn lease(f: &Fixture) -> Vec<EventLease> {
    let until = f.now().after(Duration::from_secs(30));
    f.store.lease_events(f.now(), 1_000, until).await.expect("leases")
}

async fn show(f: &Fixture, id: DomainEventId) -> DomainEventRow {
    f.store.event(&f.tenant, id).await.expect("reads").expect("there")
}

pub(super) async fn a_source_and_id_are_taken_once(f: Fixture) {
    let other: TenantId = "other".parse().expect("a tenant");
    let first = event(&f, &f.tenant, "s", "1");
    let replies = accept(
        &f,
        &[
            first.clone(),
            event(&f, &f.tenant, "s", "1"),
            event(&f, &f.tenant, "s", "2"),
            event(&f, &f.tenant, "t", "1"),
            event(&f, &other, "s", "1"),
        ],
    )
    .await;
    let known = EventReply::Known(first.id, DomainEventState::Waiting);
    use EventReply::Accepted;
    assert_eq!(replies, [Accepted, known, Accepted, Accepted, Accepted]);
    let leases = lease(&f).await;
    assert_eq!(leases.len(), 4);
    let ends: Vec<EventEnd> = leases
        .into_iter()
        .map(|lease| EventEnd {
            lease,
            results: Vec::new(),
        })
        .collect();
    let held = f.store.settle_events(f.now(), &ends).await.expect("commits");
    assert_eq!(held, [true; 4]);
    let replies = accept(&f, &[event(&f, &f.tenant, "s", "1")]).await;
    assert_eq!(replies, [EventReply::Known(first.id, DomainEventState::Done)]);
    assert!(lease(&f).await.is_empty(), "what was there is not shown again");
}

pub(super) async fn events_that_race_are_taken_once(f: Fixture) {
    let f = Arc::new(f);
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..8 {
        let f = Arc::clone(&f);
        tasks.spawn(async move {
            // Each in another order.
            let mut ids: Vec<usize> = (0..20).collect();
            ids.rotate_left(turn * 2);
            let events: Vec<_> = ids
                .iter()
                .map(|id| event(&f, &f.tenant, "s", &id.to_string()))
                .collect();
            accept(&f, &events).await
        });
    }
    let replies: Vec<EventReply> = tasks.join_all().await.into_iter().flatten().collect();
    let accepted = replies.iter().filter(|reply| **reply == EventReply::Accepted);
    assert_eq!(accepted.count(), 20);
    let leased: HashSet<DomainEventId> = lease(&f).await.into_iter().map(|lease| lease.event).collect();
    assert_eq!(leased.len(), 20);
}

pub(super) async fn a_lease_comes_back_and_the_old_one_is_fenced(f: Fixture) {
    let new = event(&f, &f.tenant, "s", "1");
    accept(&f, std::slice::from_ref(&new)).await;
    assert_eq!(f.store.next_event_due().await.expect("reads"), Some(f.now()));
    let first = lease(&f).await.remove(0);
    assert_eq!((first.event, first.token), (new.id, 1));
    assert!(lease(&f).await.is_empty());
    f.advance(Duration::from_secs(31));
    let second = lease(&f).await.remove(0);
    assert_eq!(second.token, 2);
    let done = vec![result("a", RuleOutcome::Unmatched, None)];
    let end = |lease: &EventLease, results: &[RuleResult]| EventEnd {
        lease: lease.clone(),
        results: results.to_vec(),
    };
    let settle = async |end: EventEnd| f.store.settle_events(f.now(), &[end]).await.expect("commits");
    assert_eq!(settle(end(&first, &[])).await, [false]);
    let later = f.now().after(Duration::from_secs(5));
    let put_off = async |lease: &EventLease| {
        let held = f.store.put_off_event(lease, &done, later).await;
        held.expect("commits")
    };
    assert!(!put_off(&first).await && put_off(&second).await);
    assert_eq!(f.store.next_event_due().await.expect("reads"), Some(later));
    let row = show(&f, new.id).await;
    assert_eq!((row.state, &row.results), (DomainEventState::Waiting, &done));
    assert_eq!(f.store.release_events(f.now()).await.expect("commits"), 1);
    let third = lease(&f).await.remove(0);
    let all = vec![
        result("a", RuleOutcome::Unmatched, None),
        result("b", RuleOutcome::Notified, Some(NotificationId::at(f.now()))),
    ];
    assert_eq!(settle(end(&third, &all)).await, [true]);
    let row = show(&f, new.id).await;
    assert_eq!(
        (row.state, row.results, row.done_at),
        (DomainEventState::Done, all, Some(f.now()))
    );
    assert_eq!(f.store.waiting_events().await.expect("reads"), (0, None));
}

pub(super) async fn several_nodes_never_lease_the_same_event(f: Fixture) {
    let events: Vec<_> = (0..60)
        .map(|id| event(&f, &f.tenant, "s", &id.to_string()))
        .collect();
    accept(&f, &events).await;
    let f = Arc::new(f);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let f = Arc::clone(&f);
        tasks.spawn(async move {
            let until = f.now().after(Duration::from_secs(30));
            let mut own = Vec::new();
            loop {
                let leases = f.store.lease_events(f.now(), 7, until).await.expect("leases");
                if leases.is_empty() {
                    return own;
                }
                own.extend(leases);
            }
        });
    }
    let leases: Vec<EventLease> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(leases.iter().all(|lease| lease.token == 1));
    let leased: HashSet<_> = leases.iter().map(|lease| lease.event).collect();
    assert_eq!((leases.len(), leased.len()), (60, 60));
}

/// Accepts events and ends them with these results.
async fn ended(f: &Fixture, ids: std::ops::Range<usize>, results: &[RuleResult]) -> Vec<DomainEventId> {
    let events: Vec<_> = ids
        .map(|id| NewDomainEvent {
            id: DomainEventId::at(f.now().after(Duration::from_micros(id as u64))),
            ..event(f, &f.tenant, "s", &id.to_string())
        })
        .collect();
    accept(f, &events).await;
    let leases = lease(f).await;
    let end = |lease| EventEnd {
        lease,
        results: results.to_vec(),
    };
    let ends: Vec<EventEnd> = leases.into_iter().map(end).collect();
    f.store.settle_events(f.now(), &ends).await.expect("commits");
    events.into_iter().map(|event| event.id).collect()
}

pub(super) async fn a_rule_keeps_its_newest_errors(f: Fixture) {
    let results = [
        result("broken", RuleOutcome::Failed, None),
        result("well", RuleOutcome::Unmatched, None),
    ];
    let mut ids = ended(&f, 0..70, &results).await;
    f.advance(Duration::from_secs(1));
    ids.extend(ended(&f, 70..130, &results).await);
    let errors = async |rule: &str| {
        let rule: RuleName = rule.parse().expect("a name");
        let rows = f.store.rule_errors(&f.tenant, &rule, 1_000).await;
        rows.expect("reads")
    };
    let kept = errors("broken").await;
    let newest: Vec<DomainEventId> = ids.into_iter().rev().take(KEPT_ERRORS as usize).collect();
    assert_eq!(kept.iter().map(|error| error.event).collect::<Vec<_>>(), newest);
    assert_eq!(
        (kept[0].version, &*kept[0].reason, kept[0].at),
        (3, "why broken", f.now())
    );
    assert!(errors("well").await.is_empty());
}

pub(super) async fn what_is_done_and_old_is_swept(f: Fixture) {
    let old = ended(&f, 0..3, &[result("a", RuleOutcome::Failed, None)]).await;
    let waiting = event(&f, &f.tenant, "s", "waiting");
    accept(&f, std::slice::from_ref(&waiting)).await;
    f.advance(Duration::from_secs(10));
    let cutoff = f.now();
    let sweep = async |what| f.store.sweep_events(what, cutoff, 2).await.expect("commits");
    assert_eq!(sweep(DomainEventSweep::Events).await, 2);
    assert_eq!(sweep(DomainEventSweep::Events).await, 1);
    assert_eq!(sweep(DomainEventSweep::Events).await, 0);
    assert_eq!(sweep(DomainEventSweep::RuleErrors).await, 2);
    assert_eq!(sweep(DomainEventSweep::RuleErrors).await, 1);
    for id in old {
        assert_eq!(f.store.event(&f.tenant, id).await.expect("reads"), None);
    }
    assert_eq!(show(&f, waiting.id).await.state, DomainEventState::Waiting);
    let replies = accept(&f, &[event(&f, &f.tenant, "s", "0")]).await;
    assert_eq!(replies, [EventReply::Accepted], "its name is free again");
}

pub(super) async fn lists_go_from_the_newest_by_type(f: Fixture) {
    let mut ids = Vec::new();
    for (at, kind) in ["a", "b", "a"].into_iter().enumerate() {
        f.advance(Duration::from_secs(1));
        let new = NewDomainEvent {
            kind: kind.into(),
            ..event(&f, &f.tenant, "s", &at.to_string())
        };
        ids.push(new.id);
        accept(&f, &[new]).await;
    }
    let list = async |kind: Option<&str>, before, limit| {
        let query = DomainEventQuery {
            kind: kind.map(str::to_owned),
            before,
            limit,
        };
        let rows = f.store.events(&f.tenant, &query).await.expect("reads");
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 9).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(list(None, Some(ids[2]), 1).await, [ids[1]]);
    assert_eq!(list(Some("a"), None, 9).await, [ids[2], ids[0]]);
    assert_eq!(list(Some("a"), Some(ids[2]), 9).await, [ids[0]]);
    let other: TenantId = "other".parse().expect("a tenant");
    assert_eq!(f.store.event(&other, ids[0]).await.expect("reads"), None);
}

pub(super) async fn erasing_a_user_takes_what_events_said_that_told_him(f: Fixture) {
    let notification = f.notification(&["ada"]);
    let id = notification.id;
    f.send(&[notification]).await;
    let told = ended(&f, 0..1, &[result("a", RuleOutcome::Notified, Some(id))]).await[0];
    let not = ended(&f, 1..2, &[]).await[0];
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: Some("ada".parse().expect("a user")),
    };
    f.store.erase(f.now(), &erasure).await.expect("commits");
    assert_eq!(show(&f, told).await.body, None);
    assert!(show(&f, not).await.body.is_some());
}
