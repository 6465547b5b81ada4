use std::{sync::Arc, time::Duration};

use carillon_domain::{Epoch, Position, ports::Gap};

use super::fixture::{Fixture, LIMITS, entry};
use crate::store::{withdrawals::Recallable, *};

pub(super) async fn numbers_have_no_holes_however_many_write(f: Fixture) {
    let store = f
        .reopen(StoreLimits {
            log_count: 10_000,
            ..LIMITS
        })
        .await;
    let users = ["ada", "bob", "eve"];
    let f = Arc::new(f);
    let mut tasks = Vec::new();
    for task in 0..4_usize {
        let (f, store) = (Arc::clone(&f), Arc::clone(&store));
        tasks.push(tokio::spawn(async move {
            for round in 0..12 {
                let mut targets = users.to_vec();
                targets.rotate_left(task % 3);
                let sent: Vec<_> = (0..3)
                    .map(|n| {
                        if n == 0 {
                            f.collapsing(&targets, "k")
                        } else {
                            f.notification(&targets[n % 3..])
                        }
                    })
                    .collect();
                f.accept(&sent).await;
                let until = f.now().after(Duration::from_secs(30));
                let leases = store.lease_outbox(f.now(), 5, until).await.expect("leases");
                let jobs = f.jobs(&leases).await;
                store.plan(f.now(), &jobs).await.expect("plans");
                let user = f.user(users[(task + round) % 3]);
                let query = EntryQuery {
                    limit: 4,
                    ..EntryQuery::default()
                };
                let shown = store.entries(&f.tenant, user, &query).await.expect("reads");
                let actions = [
                    EntryAction::Seen,
                    EntryAction::Read,
                    EntryAction::Archive,
                    EntryAction::Delete,
                ];
                let operations = shown
                    .iter()
                    .zip(actions)
                    .map(|(row, action)| entry(row.id, action))
                    .collect();
                let command = MailboxCommand {
                    tenant: f.tenant.clone(),
                    user,
                    name: None,
                    device: None,
                    answering: Vec::new(),
                    channel: None,
                    operations,
                };
                store
                    .mutate(f.now(), &[command], &Recallable::default())
                    .await
                    .expect("commits");
                if round % 4 == 0 {
                    store
                        .cancel(f.now(), &f.tenant, sent[1].id, &[])
                        .await
                        .expect("commits");
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    while !f.plan().await.value.is_empty() {}
    for user in users {
        let since = store
            .since(
                &f.tenant,
                f.user(user),
                &Position {
                    seq: 0,
                    ..f.mailbox(user).await.0
                },
                10_000,
            )
            .await
            .expect("reads");
        assert_eq!(since.gap, None);
        assert!(since.items.len() > 30);
        // `log` checks numbers and counts, and the open entries below.
        f.log(user).await;
        let open = f
            .inbox(user)
            .await
            .iter()
            .filter(|entry| entry.collapse_key.is_some())
            .count();
        assert!(open <= 1, "one open entry per collapse key");
    }
}

pub(super) async fn readers_behind_the_log_are_told_of_the_gap(f: Fixture) {
    let ada = f.user("ada");
    let since = async |position: &Position, limit| {
        f.store
            .since(&f.tenant, ada, position, limit)
            .await
            .expect("reads")
    };
    let head = f.mailbox("ada").await.0;
    assert_eq!(head.seq, 0);
    let nothing = since(&head, 10).await;
    assert_eq!(
        (nothing.gap, nothing.items.len(), &nothing.position),
        (None, 0, &head)
    );
    let at = |seq| Position { seq, ..head.clone() };
    assert_eq!(since(&at(1), 10).await.gap, Some(Gap::Future));
    f.send(&[f.notification(&["ada"])]).await;
    assert_eq!(
        f.mailbox("ada").await.0,
        at(1),
        "the epoch told before the first change stays"
    );
    let foreign = Position {
        epoch: Epoch::random(),
        seq: 0,
    };
    let gap = since(&foreign, 10).await;
    assert_eq!((gap.gap, gap.position), (Some(Gap::Epoch), at(1)));
    for _ in 0..44 {
        f.send(&[f.notification(&["ada"])]).await;
    }
    assert_eq!(
        since(&at(0), 100).await.gap,
        None,
        "an eighth more than the bound is kept"
    );
    f.send(&[f.notification(&["ada"])]).await;
    let gap = since(&at(0), 100).await;
    assert_eq!(
        (gap.gap, gap.position, gap.items.len()),
        (Some(Gap::Trimmed), at(46), 0)
    );
    assert_eq!(since(&at(5), 100).await.gap, Some(Gap::Trimmed));
    let rest = since(&at(6), 100).await;
    assert_eq!((rest.gap, rest.items.len(), rest.more), (None, 40, false));
    let page = since(&at(6), 15).await;
    assert_eq!((page.items.len(), page.more, &page.position), (15, true, &at(21)));
    assert_eq!(page.items[0].position, at(7));
    assert_eq!(since(&at(46), 15).await.items.len(), 0);
    assert_eq!(since(&at(47), 15).await.gap, Some(Gap::Future));
}

pub(super) async fn devices_confirm_cumulatively_and_are_bounded(f: Fixture) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(f.send(&[f.notification(&["ada"])]).await);
    }
    let head = f.mailbox("ada").await.0;
    let confirm = async |device: &str, seq| {
        let operation = Operation::Confirm(Position { seq, ..head.clone() });
        f.act_on("ada", Some(device), vec![operation]).await.results[0]
    };
    assert_eq!(confirm("phone", 1).await, OperationResult::Ok);
    let first = f.now();
    f.advance(Duration::from_secs(5));
    assert_eq!(confirm("phone", 3).await, OperationResult::Ok);
    assert_eq!(confirm("phone", 2).await, OperationResult::Unchanged);
    assert_eq!(
        confirm("phone", 4).await,
        OperationResult::NotFound,
        "not written yet"
    );
    let foreign = Operation::Confirm(Position {
        epoch: Epoch::random(),
        seq: 1,
    });
    assert_eq!(
        f.act_on("ada", Some("phone"), vec![foreign]).await.results,
        [OperationResult::NotFound]
    );
    assert_eq!(f.mailbox("ada").await.0, head, "it is no change of the mailbox");
    let phone = "phone".parse().expect("a device");
    let confirmed = f
        .store
        .confirmed(&f.tenant, f.user("ada"), &phone)
        .await
        .expect("reads");
    assert_eq!(confirmed, Some(head.clone()));
    let detail = f.recipient(ids[0], "ada").await;
    assert_eq!(
        detail.confirmed,
        [(phone.clone(), first)],
        "when it first had arrived"
    );
    let detail = f.recipient(ids[2], "ada").await;
    assert_eq!(detail.confirmed, [(phone.clone(), f.now())]);
    assert_eq!(detail.state, RecipientState::Open, "it stops nothing");
    for device in ["a", "b", "c"] {
        f.advance(Duration::from_secs(1));
        confirm(device, 1).await;
    }
    assert_eq!(
        f.store
            .confirmed(&f.tenant, f.user("ada"), &phone)
            .await
            .expect("reads"),
        None,
        "the oldest went"
    );
    let last = "a".parse().expect("a device");
    assert!(
        f.store
            .confirmed(&f.tenant, f.user("ada"), &last)
            .await
            .expect("reads")
            .is_some()
    );
}
