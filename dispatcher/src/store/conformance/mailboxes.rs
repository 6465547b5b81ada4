use std::{sync::Arc, time::Duration};

use carillon_domain::{Change, EntryId, Epoch, Position};

use super::fixture::{Fixture, LIMITS, words};
use crate::store::{withdrawals::Recallable, *};

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
            name: None,
            device: None,
            answering: Vec::new(),
            channel: None,
            operations,
        };
        store
            .mutate(f.now(), &[command], &Recallable::default())
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
    let committed = f
        .store
        .mutate(f.now(), &commands, &Recallable::default())
        .await
        .expect("commits");
    assert_eq!(committed.envelopes.len(), 2);
    f.store
        .mutate(f.now(), &commands, &Recallable::default())
        .await
        .expect("commits");
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

pub(super) async fn contents_are_those_of_the_user_alone(f: Fixture) {
    let offering = |title: &str| NewNotification {
        content: Arc::from(format!(r#"{{"title":"{title}"}}"#)),
        ..f.notification(&["ada"])
    };
    let first = f
        .send(&[NewNotification {
            collapse_key: Some("k".parse().expect("a key")),
            ..offering("first")
        }])
        .await[0];
    let second = f
        .send(&[NewNotification {
            collapse_key: Some("k".parse().expect("a key")),
            ..offering("second")
        }])
        .await[0];
    let shown = f.inbox("ada").await[0].id;
    let third = f.send(&[offering("third")]).await[0];
    let gone = f.inbox("ada").await[0].id;
    f.entry("ada", gone, EntryAction::Delete).await;
    let unknown = Which::Entry(EntryId::at(f.now()));
    let which = [
        Which::Entry(shown),
        Which::Entry(gone),
        Which::Notification(first),
        Which::Notification(second),
        Which::Notification(third),
        unknown,
    ];
    let contents = async |user: &str, which: &[Which]| {
        f.store
            .contents(&f.tenant, f.user(user), which)
            .await
            .expect("reads")
    };
    let ada = contents("ada", &which).await;
    let title = |which: Which| ada.get(&which).map(String::as_str);
    assert_eq!(
        title(Which::Entry(shown)),
        Some(r#"{"title":"second"}"#),
        "what it shows now"
    );
    assert_eq!(title(Which::Notification(first)), Some(r#"{"title":"first"}"#));
    assert_eq!(title(Which::Notification(third)), Some(r#"{"title":"third"}"#));
    assert_eq!((title(Which::Entry(gone)), title(unknown)), (None, None));
    assert!(contents("bob", &which).await.is_empty(), "another user's");
    assert!(contents("ada", &[]).await.is_empty());
}
