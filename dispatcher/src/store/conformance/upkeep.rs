use std::time::Duration;

use bytes::Bytes;
use carillon_domain::{Position, PublisherInfo, Timestamp, ports::Gap};
use carillon_sql::Database;
use sqlx::AssertSqlSafe;

use super::fixture::{Fixture, words};
use crate::store::{withdrawals::Recallable, *};

const TABLES: [&str; 13] = [
    "meta",
    "notifications",
    "outbox",
    "idempotency",
    "recipients",
    "deliveries",
    "receipts",
    "mailboxes",
    "mailbox_log",
    "entries",
    "confirmations",
    "topics",
    "topic_log",
];

/// All of a table as text.
async fn dump(f: &Fixture, table: &str) -> String {
    match &f.database {
        Database::Sqlite(sqlite) => {
            let mut read = sqlite
                .read_system("a test looks at everything")
                .await
                .expect("reads");
            let columns: Vec<(String,)> = sqlx::query_as("SELECT name FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(&mut *read)
                .await
                .expect("reads");
            let columns: Vec<_> = columns.into_iter().map(|(name,)| name).collect();
            let statement = format!(
                "SELECT COALESCE(group_concat(json_array({})), '') FROM {table}",
                columns.join(",")
            );
            let (text,): (String,) = sqlx::query_as(AssertSqlSafe(statement))
                .fetch_one(&mut *read)
                .await
                .expect("reads");
            text
        }
        Database::Postgres(postgres) => {
            let mut tx = postgres
                .begin_system("a test looks at everything")
                .await
                .expect("reads");
            let statement = format!("SELECT COALESCE(json_agg(t)::text, '') FROM {table} t");
            let (text,): (String,) = sqlx::query_as(AssertSqlSafe(statement))
                .fetch_one(&mut *tx)
                .await
                .expect("reads");
            text
        }
    }
}

async fn everything(f: &Fixture) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push((table, dump(f, table).await));
    }
    all
}

fn about(f: &Fixture, targets: &[&str], text: &str) -> NewNotification {
    NewNotification {
        content: format!(r#"{{"title":"{text}"}}"#).into(),
        collapse_key: Some(format!("key-{text}").parse().expect("a key")),
        ..f.notification(targets)
    }
}

pub(super) async fn erasing_leaves_nothing_that_names_the_user(f: Fixture) {
    let alone = f.send(&[about(&f, &["ada-lovelace"], "private")]).await[0];
    let shared = f.send(&[about(&f, &["ada-lovelace", "bob"], "shared")]).await[0];
    let send_at = f.now().after(Duration::from_secs(600));
    let scheduled = NewNotification {
        send_at,
        ..about(&f, &["ada-lovelace"], "scheduled")
    };
    let later = NewNotification {
        send_at,
        ..about(&f, &["ada-lovelace", "bob"], "later")
    };
    f.accept(&[scheduled.clone(), later.clone()]).await;
    let entry = f.inbox("ada-lovelace").await[0].id;
    let head = f.mailbox("ada-lovelace").await.0;
    let operations = vec![
        Operation::Entry(Which::Entry(entry), EntryAction::Read),
        Operation::Confirm(head.clone()),
    ];
    f.act_on("ada-lovelace", Some("adas-phone"), operations).await;
    let publication = TopicAppend {
        tenant: f.tenant.clone(),
        topic: "room".parse().expect("a topic"),
        data: Bytes::from_static(b"1"),
        publisher: Some(PublisherInfo {
            user: "ada-lovelace".parse().expect("a user"),
            client: "c".into(),
        }),
    };
    f.store.publish(f.now(), &[publication]).await.expect("commits");
    let ada = f.user("ada-lovelace");
    let before = everything(&f).await;
    assert!(before.iter().any(|(_, text)| text.contains("ada-lovelace")));

    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: ada,
        name: Some("ada-lovelace".parse().expect("a user")),
    };
    for _ in 0..2 {
        f.store.erase(f.now(), &erasure).await.expect("erases");
        f.advance(Duration::from_secs(1));
    }
    for (table, text) in everything(&f).await {
        for trace in ["ada-lovelace", "adas-phone", "private", "scheduled"] {
            assert!(!text.contains(trace), "{trace} is left in {table}: {text}");
        }
    }
    assert_eq!(
        f.recipient(alone, "ada-lovelace").await.state,
        RecipientState::Erased
    );
    assert_eq!(
        f.recipient(shared, "ada-lovelace").await.state,
        RecipientState::Erased
    );
    assert!(f.recipient(shared, "ada-lovelace").await.receipts.is_empty());
    assert_eq!(f.recipient(shared, "bob").await.state, RecipientState::Open);
    assert_eq!(f.inbox("bob").await.len(), 1);
    let since = f.store.since(&f.tenant, ada, &head, 10).await.expect("reads");
    assert_eq!(since.gap, Some(Gap::Future), "who still listens is told");
    // Somebody else takes the name: what was sent before is not for him.
    f.advance(Duration::from_secs(600));
    let jobs = f.jobs(&f.lease().await).await;
    assert!(
        jobs.iter()
            .all(|job| job.recipients().all(|(_, user)| user != ada))
    );
    f.store.plan(f.now(), &jobs).await.expect("plans");
    assert_eq!(f.inbox("bob").await.len(), 2);
    assert_eq!(f.state(scheduled.id).await, NotificationState::Planned);
}

pub(super) async fn an_erased_user_cannot_be_brought_back(f: Fixture) {
    let sent = f.notification(&["ada", "bob"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let leases = f.lease().await;
    let jobs = f.jobs(&leases).await;
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: Some("ada".parse().expect("a user")),
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    // Whoever had looked before must look again.
    assert_eq!(
        f.store.plan(f.now(), &jobs).await.expect("plans").value,
        [PlanOutcome::Stale]
    );
    // A late mention of the old id, as a cache may still have it.
    let mut jobs = f.jobs(&f.lease().await).await;
    let users: Vec<_> = jobs[0].recipients().map(|(_, user)| user).collect();
    assert_eq!(users, [f.user("bob")]);
    jobs[0].users.push(Addressee::in_app(f.user("ada")));
    assert_eq!(
        f.store.plan(f.now(), &jobs).await.expect("plans").value,
        [PlanOutcome::Planned]
    );
    assert!(f.inbox("ada").await.is_empty());
    assert_eq!(f.recipient(sent.id, "ada").await.state, RecipientState::Erased);
    assert_eq!(f.inbox("bob").await.len(), 1);
    assert_eq!(f.mailbox("ada").await.0.seq, 0);
}

pub(super) async fn the_janitor_takes_what_is_too_old(f: Fixture) {
    let acme = "acme".parse().expect("a tenant");
    let old: Vec<_> = (0..5).map(|_| f.notification(&["ada"])).collect();
    f.send(&old).await;
    f.accept_for(&acme, &[f.notification(&["zoe"])]).await;
    f.plan().await;
    f.entry("ada", f.inbox("ada").await[0].id, EntryAction::Read)
        .await;
    let gone = f.inbox("ada").await[1].id;
    f.entry("ada", gone, EntryAction::Delete).await;
    let send_at = f.now().after(Duration::from_secs(90 * 86_400));
    let scheduled = NewNotification {
        send_at,
        expires_at: send_at,
        ..f.notification(&["ada"])
    };
    f.accept(&[scheduled]).await;
    let head = f.mailbox("ada").await.0;
    for seq in [1, 2] {
        let confirm = Operation::Confirm(Position { seq, ..head.clone() });
        f.act_on("ada", Some("phone"), vec![confirm]).await;
    }
    f.advance(Duration::from_secs(10 * 86_400));
    let young = f.send(&[f.notification(&["ada"])]).await[0];
    let cutoff = f.now().before(Duration::from_secs(86_400));
    assert_eq!(
        sweep(&f, Sweep::Notifications, Timestamp::from_micros(0)).await,
        0
    );
    sweep(&f, Sweep::Notifications, cutoff).await;
    let tally = f.store.tally(f.now()).await.expect("counts");
    assert_eq!(
        (tally.planned, tally.accepted, tally.outbox),
        (1, 1, 1),
        "what waits stays, however old"
    );
    assert_eq!(f.state(young).await, NotificationState::Planned);
    for table in ["recipients", "deliveries"] {
        assert_eq!(dump(&f, table).await.matches(&young.to_string()).count(), 1);
        assert!(!dump(&f, table).await.contains(&old[0].id.to_string()), "{table}");
    }
    assert!(dump(&f, "receipts").await.is_empty());
    assert_eq!(f.inbox("ada").await.len(), 5, "inboxes have their own retention");
    // The entry outlives its notification: it can still be answered.
    let outlived = f.inbox("ada").await[4].id;
    assert_eq!(
        f.entry("ada", outlived, EntryAction::Read).await,
        OperationResult::Ok
    );
    assert_eq!(sweep(&f, Sweep::GoneEntries, cutoff).await, 1);
    assert_eq!(
        f.entry("ada", gone, EntryAction::Read).await,
        OperationResult::NotFound
    );
    assert_eq!(sweep(&f, Sweep::Confirmations, cutoff).await, 1);
    let phone = "phone".parse().expect("a device");
    let confirmed = f
        .store
        .confirmed(&f.tenant, f.user("ada"), &phone)
        .await
        .expect("reads");
    assert_eq!(
        confirmed.map(|position| position.seq),
        Some(2),
        "the newest stays"
    );
    assert_eq!(sweep(&f, Sweep::Devices, cutoff).await, 1);
    let confirmed = f
        .store
        .confirmed(&f.tenant, f.user("ada"), &phone)
        .await
        .expect("reads");
    assert_eq!(confirmed, None);
}

async fn sweep(f: &Fixture, kind: Sweep, cutoff: Timestamp) -> u64 {
    let mut removed = 0;
    loop {
        match f.store.sweep(kind, cutoff, 2).await.expect("sweeps") {
            0 => return removed,
            count => removed += count,
        }
    }
}

pub(super) async fn logs_that_are_cut_by_age_announce_the_gap(f: Fixture) {
    let topic = "room".parse().expect("a topic");
    let append = |data: &'static [u8]| TopicAppend {
        tenant: f.tenant.clone(),
        topic: "room".parse().expect("a topic"),
        data: Bytes::from_static(data),
        publisher: None,
    };
    for _ in 0..6 {
        f.send(&[f.notification(&["ada", "bob"])]).await;
        f.store.publish(f.now(), &[append(b"1")]).await.expect("commits");
    }
    f.advance(Duration::from_secs(100));
    f.send(&[f.notification(&["ada"])]).await;
    let head = f
        .store
        .publish(f.now(), &[append(b"2")])
        .await
        .expect("commits")
        .value
        .remove(0);
    let cutoff = f.now().before(Duration::from_secs(50));
    sweep(&f, Sweep::Log, cutoff).await;
    sweep(&f, Sweep::TopicLog, cutoff).await;
    assert_eq!(f.since("ada", 5).await.gap, Some(Gap::Trimmed));
    assert_eq!(f.since("ada", 6).await.items.len(), 1);
    assert_eq!(
        f.since("bob", 5).await.gap,
        Some(Gap::Trimmed),
        "also where nothing is left"
    );
    let rest = f.since("bob", 6).await;
    assert_eq!((rest.gap, rest.items.len()), (None, 0));
    let since = async |seq| {
        f.store
            .topic_since(&f.tenant, &topic, &Position { seq, ..head.clone() }, 9)
            .await
            .expect("reads")
    };
    assert_eq!(
        (since(5).await.gap, since(6).await.items.len()),
        (Some(Gap::Trimmed), 1)
    );
    // The next change goes on with the numbers.
    f.send(&[f.notification(&["bob"])]).await;
    assert_eq!(f.since("bob", 6).await.items[0].position.seq, 7);
    assert_eq!(
        sweep(&f, Sweep::Topics, f.now().after(Duration::from_secs(1))).await,
        0,
        "it has a history"
    );
    f.advance(Duration::from_secs(100));
    sweep(&f, Sweep::TopicLog, f.now()).await;
    assert_eq!(sweep(&f, Sweep::Topics, f.now()).await, 1);
    let new = f
        .store
        .topic_head(f.now(), &f.tenant, &topic)
        .await
        .expect("reads");
    assert_ne!(
        new.epoch, head.epoch,
        "a topic that comes back begins anew, and says so"
    );
}

pub(super) async fn forgotten_entries_leave_the_inbox_by_a_change(f: Fixture) {
    let old = f
        .send(&[f.notification(&["ada"]), f.notification(&["ada"])])
        .await;
    let read = f
        .inbox("ada")
        .await
        .iter()
        .find(|entry| entry.notification == old[0])
        .expect("an entry")
        .id;
    f.entry("ada", read, EntryAction::Read).await;
    f.advance(Duration::from_secs(100));
    f.send(&[f.notification(&["ada"])]).await;
    let cutoff = f.now().before(Duration::from_secs(50));
    let commands = f.store.outdated_entries(cutoff, 10).await.expect("reads");
    assert_eq!(commands.len(), 1);
    f.store
        .mutate(f.now(), &commands, &Recallable::default())
        .await
        .expect("commits");
    assert!(
        f.store
            .outdated_entries(cutoff, 10)
            .await
            .expect("reads")
            .is_empty()
    );
    assert_eq!(words(&f.log("ada").await)[2..], ["read! 1", "added", "deleted 2"]);
    assert_eq!(
        f.recipient(old[0], "ada").await.state,
        RecipientState::Acknowledged
    );
    assert_eq!(f.recipient(old[1], "ada").await.state, RecipientState::Expired);
    assert_eq!(f.inbox("ada").await.len(), 1);
}
