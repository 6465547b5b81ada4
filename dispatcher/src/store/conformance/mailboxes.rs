use std::{sync::Arc, time::Duration};

use carillon_domain::{AckKind, Change, EntryId, Epoch, Position, ports::Gap};

use super::fixture::{Fixture, LIMITS, words};
use crate::store::*;

fn entry(id: EntryId, action: EntryAction) -> Operation {
    Operation::Entry(Which::Entry(id), action)
}

pub(super) async fn the_first_acknowledgement_wins(f: Fixture) {
    let id = f.send(&[f.notification(&["ada"])]).await[0];
    let shown = f.inbox("ada").await[0].id;
    f.act("ada", vec![entry(shown, EntryAction::Seen)]).await;
    f.advance(Duration::from_secs(1));
    let action = Some("retry".to_owned());
    let acted = Operation::Entry(
        Which::Notification(id),
        EntryAction::Acted {
            action: action.clone(),
        },
    );
    let at = f.now();
    let reply = f.act_on("ada", Some("phone"), vec![acted]).await;
    assert_eq!(reply.results, [OperationResult::Ok]);
    f.advance(Duration::from_secs(1));
    f.act_on(
        "ada",
        Some("laptop"),
        vec![
            entry(shown, EntryAction::Read),
            entry(shown, EntryAction::Archive),
        ],
    )
    .await;
    assert_eq!(
        words(&f.log("ada").await),
        ["added", "seen 1", "acted! 1", "archived 1"]
    );
    let detail = f.recipient(id, "ada").await;
    assert_eq!(detail.state, RecipientState::Acknowledged);
    let first = detail.acknowledgement.expect("acknowledged");
    assert_eq!((first.kind, first.at, first.action), (AckKind::Acted, at, action));
    assert_eq!(first.device.expect("a device").as_str(), "phone");
    let kinds: Vec<_> = detail
        .receipts
        .iter()
        .map(|receipt| receipt.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        ["seen", "acted", "dismissed", "read"],
        "each kind's first, by time"
    );
    assert_eq!(
        f.view("ada", View::Archived).await[0]
            .acknowledgement
            .as_ref()
            .map(|a| a.kind),
        Some(AckKind::Acted)
    );
}

pub(super) async fn unread_undoes_the_display_alone(f: Fixture) {
    let id = f.send(&[f.notification(&["ada"])]).await[0];
    let shown = f.inbox("ada").await[0].id;
    f.act("ada", vec![entry(shown, EntryAction::Read)]).await;
    assert_eq!(f.counts("ada").await, (1, 0, 0));
    f.act("ada", vec![entry(shown, EntryAction::Unread)]).await;
    assert_eq!(f.counts("ada").await, (1, 1, 0));
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Acknowledged);
    assert!(f.inbox("ada").await[0].acknowledgement.is_some());
    f.act("ada", vec![entry(shown, EntryAction::Read)]).await;
    assert_eq!(
        words(&f.log("ada").await),
        ["added", "read! 1", "unread 1", "read 1"]
    );
}

pub(super) async fn doing_it_twice_changes_and_writes_nothing(f: Fixture) {
    f.send(&[f.notification(&["ada"]), f.notification(&["ada"])])
        .await;
    let [one, two] = [f.inbox("ada").await[0].id, f.inbox("ada").await[1].id];
    let until = f.now().after(Duration::from_secs(60));
    for (id, action) in [
        (one, EntryAction::Seen),
        (one, EntryAction::Read),
        (one, EntryAction::Unread),
        (one, EntryAction::Snooze { until }),
        (one, EntryAction::Archive),
        (two, EntryAction::Acted { action: None }),
        (two, EntryAction::Delete),
    ] {
        assert_eq!(
            f.entry("ada", id, action.clone()).await,
            OperationResult::Ok,
            "{action:?}"
        );
        let before = f.mailbox("ada").await;
        f.advance(Duration::from_secs(1));
        assert_eq!(
            f.entry("ada", id, action.clone()).await,
            OperationResult::Unchanged,
            "{action:?}"
        );
        assert_eq!(f.mailbox("ada").await, before);
    }
    assert_eq!(
        f.entry("ada", one, EntryAction::Snooze { until }).await,
        OperationResult::Conflict
    );
    let unknown = EntryId::at(f.now());
    assert_eq!(
        f.entry("ada", unknown, EntryAction::Read).await,
        OperationResult::NotFound
    );
    assert_eq!(
        f.entry("bob", one, EntryAction::Read).await,
        OperationResult::NotFound,
        "another user's"
    );
    f.log("ada").await;
}

pub(super) async fn equal_steps_become_one_change(f: Fixture) {
    let sent: Vec<_> = (0..5).map(|_| f.notification(&["ada"])).collect();
    f.send(&sent).await;
    let ids: Vec<_> = f.inbox("ada").await.iter().map(|entry| entry.id).collect();
    let mut operations: Vec<_> = ids.iter().map(|id| entry(*id, EntryAction::Seen)).collect();
    operations.extend(ids[..3].iter().map(|id| entry(*id, EntryAction::Read)));
    operations.push(entry(ids[0], EntryAction::Delete));
    operations.push(entry(ids[3], EntryAction::Delete));
    operations.push(entry(ids[4], EntryAction::Seen));
    let reply = f.act("ada", operations).await;
    assert_eq!(reply.results.last(), Some(&OperationResult::Unchanged));
    let log = f.log("ada").await;
    assert_eq!(words(&log)[5..], ["seen 5", "read! 3", "deleted 1", "deleted! 1"]);
    assert_eq!(reply.position, f.mailbox("ada").await.0);
}

pub(super) async fn read_all_goes_in_chunks(f: Fixture) {
    let store = f
        .reopen(StoreLimits {
            log_count: 10_000,
            ..LIMITS
        })
        .await;
    let sent: Vec<_> = (0..1_201)
        .map(|n| {
            let category = if n % 3 == 0 { "third" } else { "other" }
                .parse()
                .expect("a category");
            NewNotification {
                category,
                ..f.notification(&["ada"])
            }
        })
        .collect();
    f.accept(&sent).await;
    let jobs = f.jobs(&f.lease().await).await;
    store.plan(f.now(), &jobs).await.expect("plans");
    let before = f.mailbox("ada").await.0;
    f.send(&[f.notification(&["ada"])]).await;
    let read_all = async |category: Option<&str>, before: Option<Position>| {
        let operations = vec![Operation::ReadAll {
            category: category.map(|category| category.parse().expect("a category")),
            before,
        }];
        let command = MailboxCommand {
            tenant: f.tenant.clone(),
            user: f.user("ada"),
            device: None,
            operations,
        };
        store
            .mutate(f.now(), &[command])
            .await
            .expect("commits")
            .value
            .remove(0)
    };
    let reply = read_all(Some("third"), None).await;
    assert_eq!((reply.more, reply.counts.unread), (false, 1_202 - 401));
    let reply = read_all(None, Some(before.clone())).await;
    assert!(reply.more);
    assert_eq!(reply.counts.unread, 802 - 1 - 500);
    let reply = read_all(None, Some(before.clone())).await;
    assert_eq!(
        (reply.more, reply.counts.unread),
        (false, 1),
        "what came later stays"
    );
    assert_eq!(
        read_all(None, Some(before)).await.results,
        [OperationResult::Unchanged]
    );
    let foreign = Position {
        epoch: Epoch::random(),
        seq: 5,
    };
    assert_eq!(
        read_all(None, Some(foreign)).await.results,
        [OperationResult::NotFound]
    );
    let changes: Vec<Change> = store
        .since(
            &f.tenant,
            f.user("ada"),
            &Position {
                seq: 1_202,
                ..f.mailbox("ada").await.0
            },
            100,
        )
        .await
        .expect("reads")
        .items
        .iter()
        .map(|item| serde_json::from_slice(&item.body).expect("a change"))
        .collect();
    assert_eq!(words(&changes), ["read! 401", "read! 500", "read! 300"]);
}

pub(super) async fn snoozed_entries_come_back(f: Fixture) {
    f.send(&[
        f.notification(&["ada"]),
        f.notification(&["ada"]),
        f.notification(&["bob"]),
    ])
    .await;
    let [one, two] = [f.inbox("ada").await[0].id, f.inbox("ada").await[1].id];
    let until = f.now().after(Duration::from_secs(60));
    f.entry("ada", one, EntryAction::Snooze { until }).await;
    f.entry(
        "ada",
        two,
        EntryAction::Snooze {
            until: f.now().after(Duration::from_secs(90)),
        },
    )
    .await;
    f.entry("bob", f.inbox("bob").await[0].id, EntryAction::Snooze { until })
        .await;
    assert_eq!(f.counts("ada").await, (0, 0, 0));
    assert_eq!(f.view("ada", View::Snoozed).await.len(), 2);
    assert_eq!(f.store.next_snooze().await.expect("reads"), Some(until));
    assert!(f.store.due_snoozes(f.now(), 10).await.expect("reads").is_empty());
    f.advance(Duration::from_secs(60));
    let commands = f.store.due_snoozes(f.now(), 10).await.expect("reads");
    assert_eq!(commands.len(), 2);
    let committed = f.store.mutate(f.now(), &commands).await.expect("commits");
    assert_eq!(committed.envelopes.len(), 2);
    f.store.mutate(f.now(), &commands).await.expect("commits");
    assert_eq!(
        words(&f.log("ada").await)[2..],
        ["snoozed 1", "snoozed 1", "unsnoozed 1"]
    );
    assert_eq!(
        (f.counts("ada").await, f.counts("bob").await),
        ((1, 1, 1), (1, 1, 1))
    );
    let later = f.now().after(Duration::from_secs(30));
    assert_eq!(f.store.next_snooze().await.expect("reads"), Some(later));
    f.entry("ada", two, EntryAction::Delete).await;
    assert_eq!(f.store.next_snooze().await.expect("reads"), None);
}

pub(super) async fn views_and_filters(f: Fixture) {
    let sent: Vec<_> = ["a", "a", "b", "b", "b"]
        .iter()
        .map(|category| NewNotification {
            category: category.parse().expect("a category"),
            ..f.notification(&["ada"])
        })
        .collect();
    f.send(&sent).await;
    let ids: Vec<_> = f.inbox("ada").await.iter().map(|entry| entry.id).collect();
    f.entry("ada", ids[0], EntryAction::Archive).await;
    f.entry(
        "ada",
        ids[1],
        EntryAction::Snooze {
            until: f.now().after(Duration::from_secs(9)),
        },
    )
    .await;
    f.entry("ada", ids[2], EntryAction::Read).await;
    f.entry("ada", ids[3], EntryAction::Delete).await;
    let list = async |query: EntryQuery| {
        let rows = f
            .store
            .entries(&f.tenant, f.user("ada"), &query)
            .await
            .expect("reads");
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = EntryQuery {
        limit: 10,
        ..EntryQuery::default()
    };
    assert_eq!(list(all.clone()).await, [ids[2], ids[4]]);
    assert_eq!(
        list(EntryQuery {
            view: View::Archived,
            ..all.clone()
        })
        .await,
        [ids[0]]
    );
    assert_eq!(
        list(EntryQuery {
            view: View::Snoozed,
            ..all.clone()
        })
        .await,
        [ids[1]]
    );
    assert_eq!(
        list(EntryQuery {
            view: View::All,
            ..all.clone()
        })
        .await,
        [ids[0], ids[1], ids[2], ids[4]]
    );
    assert_eq!(
        list(EntryQuery {
            unread: true,
            ..all.clone()
        })
        .await,
        [ids[4]]
    );
    let kind = f.inbox("ada").await[0].category.clone();
    let of_kind = list(EntryQuery {
        view: View::All,
        category: Some(kind.clone()),
        ..all.clone()
    })
    .await;
    assert_eq!(
        of_kind.len(),
        f.view("ada", View::All)
            .await
            .iter()
            .filter(|e| e.category == kind)
            .count()
    );
    let before = Some(f.view("ada", View::All).await[1].seq);
    assert_eq!(
        list(EntryQuery {
            view: View::All,
            before,
            ..all.clone()
        })
        .await,
        [ids[2], ids[4]]
    );
    assert_eq!(
        list(EntryQuery {
            view: View::All,
            limit: 2,
            ..all
        })
        .await,
        [ids[0], ids[1]]
    );
    assert!(
        f.store
            .entry(&f.tenant, f.user("ada"), ids[3])
            .await
            .expect("reads")
            .is_none()
    );
    assert!(
        f.store
            .entry(&f.tenant, f.user("ada"), ids[0])
            .await
            .expect("reads")
            .is_some()
    );
}

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
                    device: None,
                    operations,
                };
                store.mutate(f.now(), &[command]).await.expect("commits");
                if round % 4 == 0 {
                    store
                        .cancel(f.now(), &f.tenant, sent[1].id)
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

pub(super) async fn late_acknowledgements_of_what_is_gone_change_nothing(f: Fixture) {
    let first = f.send(&[f.collapsing(&["ada"], "k")]).await[0];
    let second = f.send(&[f.collapsing(&["ada"], "k")]).await[0];
    let read = |id| Operation::Entry(Which::Notification(id), EntryAction::Read);
    let unknown = NotificationId::at(f.now());
    let results = f.act("ada", vec![read(first), read(unknown)]).await.results;
    assert_eq!(results, [OperationResult::Unchanged, OperationResult::NotFound]);
    assert_eq!(
        f.counts("ada").await,
        (1, 1, 1),
        "superseded: the newer one is not answered"
    );
    f.store.cancel(f.now(), &f.tenant, second).await.expect("commits");
    assert_eq!(
        f.act("ada", vec![read(second)]).await.results,
        [OperationResult::Unchanged]
    );
    assert_eq!(f.recipient(second, "ada").await.state, RecipientState::Cancelled);
    assert_eq!(words(&f.log("ada").await), ["added", "replaced", "recalled"]);
}
