use std::time::Duration;

use carillon_domain::{AckKind, EntryId, NotificationId};

use super::fixture::{Fixture, entry, words};
use crate::store::*;

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
    f.store
        .cancel(f.now(), &f.tenant, second, &[])
        .await
        .expect("commits");
    assert_eq!(
        f.act("ada", vec![read(second)]).await.results,
        [OperationResult::Unchanged]
    );
    assert_eq!(f.recipient(second, "ada").await.state, RecipientState::Cancelled);
    assert_eq!(words(&f.log("ada").await), ["added", "replaced", "recalled"]);
}
