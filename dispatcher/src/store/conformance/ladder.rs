use std::{sync::Arc, time::Duration};

use carillon_domain::{AckKind, NotificationId, Timestamp};
use carillon_sql::Database;

use super::fixture::{Fixture, plan_of};
use crate::store::{
    ladder::{ClimbLease, Climbing},
    outside::*,
    *,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOLD: Duration = Duration::from_secs(30);

/// What is known of everybody at a look: the channels of the plan, the addresses over `push`, and until when a device is
/// active.
pub(super) struct Look<'a> {
    pub(super) channels: &'a [&'a str],
    /// With another channel before a colon.
    pub(super) addresses: &'a [&'a str],
    pub(super) active_until: Option<Timestamp>,
}

/// Who knows what decides about recipients.
pub(super) trait Sees {
    fn see(&self, job: &mut PlanJob);
}

impl Sees for Look<'_> {
    fn see(&self, job: &mut PlanJob) {
        if job.notification.plan.is_none() {
            job.plan = Arc::new(plan_of(self.channels));
        }
        let in_app = job.plan.plan.channels().any(|kind| kind.is_in_app());
        for addressee in &mut job.users {
            addressee.in_app = in_app;
            addressee.active_until = self.active_until;
            addressee.outside = self.addresses.iter().map(|address| way(address)).collect();
        }
    }
}

pub(super) fn way(address: &str) -> Outgoing {
    let (channel, address) = address.split_once(':').unwrap_or(("push", address));
    Outgoing {
        channel: channel.parse().expect("a channel"),
        address: address.parse().expect("an address"),
        device: None,
        lane: Arc::from(channel),
        strand: Arc::from(""),
        skip: None,
        replaces: false,
        active_until: None,
    }
}

/// Plans what is due.
pub(super) async fn plan(f: &Fixture, look: &impl Sees) {
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs.iter_mut().for_each(|job| look.see(job));
    f.store.plan(f.now(), &jobs).await.expect("plans");
}

async fn send(f: &Fixture, users: &[&str], look: &Look<'_>) -> NotificationId {
    let row = f.notification(users);
    f.accept(std::slice::from_ref(&row)).await;
    plan(f, look).await;
    row.id
}

pub(super) async fn lease(f: &Fixture) -> Vec<ClimbLease> {
    let until = f.now().after(MINUTE);
    f.store.lease_climbs(f.now(), 1_000, until).await.expect("leases")
}

/// Looks at leased recipients. Answers how many the store looked at.
pub(super) async fn climb(f: &Fixture, leases: &[ClimbLease], look: &impl Sees) -> u64 {
    let loaded = f.store.load_climbs(leases).await.expect("loads");
    f.store.drop_climbs(&loaded.gone).await.expect("drops");
    let mut held = Vec::new();
    let mut jobs = Vec::new();
    for Climbing {
        lease, notification, ..
    } in loaded.climbing
    {
        let mut job = PlanJob {
            lease: Lease {
                tenant: lease.key.0.clone(),
                notification: lease.key.1,
                token: 0,
            },
            plan: Arc::new(match &notification.plan {
                Some(text) => FixedPlan::parse(text).expect("a plan"),
                None => plan_of(&["in_app"]),
            }),
            critical: notification.critical,
            policies: Default::default(),
            users: vec![Addressee::in_app(lease.key.2)],
            topics: Vec::new(),
            part: PlanPart::Whole,
            broadcast: None,
            notification,
        };
        look.see(&mut job);
        jobs.push(job);
        held.push(lease);
    }
    f.store.climb(f.now(), &held, &jobs).await.expect("climbs").value
}

/// Leases what is due and looks at it.
pub(super) async fn tick(f: &Fixture, look: &impl Sees) -> u64 {
    let leases = lease(f).await;
    climb(f, &leases, look).await
}

/// A recipient's deliveries: step, channel and state.
pub(super) async fn deliveries(f: &Fixture, id: NotificationId, user: &str) -> Vec<(u32, String, String)> {
    let detail = f.recipient(id, user).await;
    let short = |delivery: DeliveryDetail| (delivery.step, delivery.channel, delivery.state);
    detail.deliveries.into_iter().map(short).collect()
}

/// What was decided about a recipient: kind and reason.
pub(super) async fn decided(f: &Fixture, id: NotificationId, user: &str) -> Vec<(String, String)> {
    let detail = f.recipient(id, user).await;
    let decisions = detail.decisions.into_iter();
    decisions
        .map(|decision| {
            let body: serde_json::Value = serde_json::from_str(&decision.body).expect("JSON");
            (
                decision.kind,
                body["reason"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

pub(super) fn words(decided: &[(String, String)]) -> Vec<(&str, &str)> {
    decided
        .iter()
        .map(|(kind, reason)| (&**kind, &**reason))
        .collect()
}

/// Everything that waits outside fails for good.
async fn fail(f: &Fixture) {
    let push = "push".parse().expect("a channel");
    let lanes = f.store.due_lanes(f.now(), &[push], 10).await.expect("reads");
    let picks: Vec<LanePick> = lanes
        .into_iter()
        .map(|lane| LanePick {
            key: lane.key,
            limit: 100,
        })
        .collect();
    let until = f.now().after(MINUTE);
    let handed = f.store.lease_deliveries(f.now(), &picks, until, until).await;
    let settlements: Vec<Settlement> = handed
        .expect("leases")
        .leased
        .into_iter()
        .map(|delivery| Settlement {
            ended_at: f.now(),
            outcome: "rejected",
            status: None,
            reason: Some("no".to_owned()),
            excerpt: None,
            provider_id: None,
            verdict: Verdict::Dead,
            delivery: Arc::new(delivery),
            is_sent: true,
            recalls: false,
        })
        .collect();
    assert!(!settlements.is_empty(), "something waits");
    f.store.settle(f.now(), &settlements).await.expect("settles");
}

const BOTH: [&str; 2] = ["in_app", "push"];

pub(super) async fn a_step_starts_once_its_deadline_passed_while_somebody_is_there(f: Fixture) {
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let start = f.now();
    let id = send(&f, &["ada"], &look).await;
    let ada = f.recipient(id, "ada").await;
    assert_eq!(
        (ada.state, ada.phase),
        (RecipientState::Open, Some(RecipientPhase::Held))
    );
    assert_eq!((ada.step, ada.step_at), (Some(0), Some(start)));
    assert_eq!(ada.next_at, Some(start.after(HOLD)));
    let waits = [(0, "in_app".to_owned(), "accepted".to_owned())];
    assert_eq!(deliveries(&f, id, "ada").await, waits);
    assert!(lease(&f).await.is_empty(), "nothing is due before the deadline");
    assert_eq!(
        f.store.next_climb().await.expect("reads"),
        Some(start.after(HOLD))
    );

    f.advance(HOLD);
    assert_eq!(tick(&f, &look).await, 1);
    let sent = deliveries(&f, id, "ada").await;
    assert_eq!(sent[1], (1, "push".to_owned(), "pending".to_owned()));
    let ada = f.recipient(id, "ada").await;
    assert_eq!((ada.step, ada.step_at), (Some(1), Some(f.now())));
    assert_eq!((ada.phase, ada.next_at), (Some(RecipientPhase::Climbing), None));
    let decided = decided(&f, id, "ada").await;
    assert_eq!(words(&decided), [("held", "active"), ("escalated", "deadline")]);
    assert_eq!(
        f.store.next_climb().await.expect("reads"),
        None,
        "nothing is due any more"
    );
    assert_eq!(f.inbox("ada").await.len(), 1, "the entry is written once");
}

pub(super) async fn nobody_is_waited_for_who_is_not_there(f: Fixture) {
    let away = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], &away).await;
    assert_eq!(deliveries(&f, id, "ada").await.len(), 2, "both at once");
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
    assert!(
        decided(&f, id, "ada").await.is_empty(),
        "plain sending needs no reason"
    );

    let leaves = f.now().after(Duration::from_secs(10));
    let there = Look {
        active_until: Some(leaves),
        ..away
    };
    let second = send(&f, &["bob"], &there).await;
    assert_eq!(f.store.next_climb().await.expect("reads"), Some(leaves));
    f.advance(Duration::from_secs(10));
    let away = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: None,
    };
    assert_eq!(tick(&f, &away).await, 1);
    assert_eq!(deliveries(&f, second, "bob").await.len(), 2);
    let decided = decided(&f, second, "bob").await;
    assert_eq!(words(&decided), [("held", "active"), ("escalated", "inactive")]);
}

pub(super) async fn who_stays_is_given_the_whole_deadline_and_no_more(f: Fixture) {
    let look = |until: Duration| Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(until)),
    };
    let start = f.now();
    let id = send(&f, &["ada"], &look(Duration::from_secs(10))).await;
    f.advance(Duration::from_secs(10));
    assert_eq!(tick(&f, &look(MINUTE)).await, 1, "she moved the mouse meanwhile");
    let ada = f.recipient(id, "ada").await;
    assert_eq!((ada.step, ada.next_at), (Some(0), Some(start.after(HOLD))));
    assert_eq!(
        words(&decided(&f, id, "ada").await),
        [("held", "active")],
        "said once"
    );
    f.advance(Duration::from_secs(20));
    assert_eq!(tick(&f, &look(MINUTE)).await, 1);
    assert_eq!(f.recipient(id, "ada").await.step, Some(1));
}

pub(super) async fn whoever_looks_twice_starts_a_step_once(f: Fixture) {
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let id = send(&f, &["ada"], &look).await;
    f.advance(HOLD);
    let lost = lease(&f).await;
    assert_eq!(lost.len(), 1);
    assert!(lease(&f).await.is_empty(), "it is out");
    // Whoever had it is gone; the clock has jumped far ahead.
    f.advance(Duration::from_secs(600));
    let second = lease(&f).await;
    assert_eq!(second[0].key, lost[0].key);
    let away = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: None,
    };
    assert_eq!(climb(&f, &lost, &away).await, 0, "the old lease is fenced");
    assert_eq!(climb(&f, &second, &away).await, 1);
    assert_eq!(climb(&f, &second, &away).await, 0, "it is done");
    assert_eq!(deliveries(&f, id, "ada").await.len(), 2);
}

pub(super) async fn a_step_of_which_nothing_arrives_is_over_at_once(f: Fixture) {
    let plan = r#"{"steps":[{"channels":["push"],"deadline":300},{"channels":["in_app"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a", "b"],
        active_until: None,
    };
    let row = NewNotification {
        plan: Some(Arc::from(plan)),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    self::plan(&f, &look).await;
    assert_eq!(deliveries(&f, row.id, "ada").await.len(), 2);
    assert!(f.inbox("ada").await.is_empty());
    fail(&f).await;
    assert_eq!(tick(&f, &look).await, 1, "it is due at once");
    assert_eq!(f.inbox("ada").await.len(), 1, "the inbox has its turn");
    let ada = f.recipient(row.id, "ada").await;
    assert_eq!((ada.state, ada.step), (RecipientState::Open, Some(1)));
    assert!(ada.entry.is_some() && ada.position.is_some());
    assert_eq!(
        words(&decided(&f, row.id, "ada").await),
        [("escalated", "failed")]
    );
    f.log("ada").await;
}

pub(super) async fn where_no_step_is_left_a_recipient_ends(f: Fixture) {
    let look = Look {
        channels: &["push"],
        addresses: &["a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], &look).await;
    fail(&f).await;
    assert_eq!(tick(&f, &look).await, 1);
    let ada = f.recipient(id, "ada").await;
    assert_eq!((ada.state, ada.phase), (RecipientState::Dead, None));
    let dead = DeadQuery {
        limit: 10,
        ..DeadQuery::default()
    };
    let letters = f.store.dead_letters(&f.tenant, &dead).await.expect("reads");
    f.store
        .resend(f.now(), &f.tenant, letters[0].id)
        .await
        .expect("resends");
    fail(&f).await;
    assert_eq!(tick(&f, &look).await, 0, "what is sent again reopens nobody");
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Dead);

    let nowhere = Look {
        addresses: &[],
        ..look
    };
    let id = send(&f, &["bob"], &nowhere).await;
    let bob = f.recipient(id, "bob").await;
    assert_eq!(bob.state, RecipientState::Skipped);
    let decided = decided(&f, id, "bob").await;
    assert_eq!(decided[0], ("skipped".to_owned(), "no_address".to_owned()));
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
}

pub(super) async fn an_answer_ends_the_ladder(f: Fixture) {
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let id = send(&f, &["ada", "bob"], &look).await;
    let entry = f.inbox("ada").await[0].id;
    f.entry("ada", entry, EntryAction::Read).await;
    f.advance(HOLD);
    let leases = lease(&f).await;
    assert_eq!(leases.len(), 1, "of the other alone something is due");
    // Read while it is out: whoever looks finds the answer.
    let entry = f.inbox("bob").await[0].id;
    f.entry("bob", entry, EntryAction::Read).await;
    assert_eq!(climb(&f, &leases, &look).await, 0);
    for user in ["ada", "bob"] {
        let detail = f.recipient(id, user).await;
        assert_eq!((detail.state, detail.phase), (RecipientState::Acknowledged, None));
        assert_eq!(detail.deliveries.len(), 1);
        let kind = detail.acknowledgement.map(|acknowledgement| acknowledgement.kind);
        assert_eq!(kind, Some(AckKind::Read));
    }
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
}

pub(super) async fn the_time_to_live_ends_everybody_page_by_page(f: Fixture) {
    let names: Vec<String> = (0..25).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let id = send(&f, &users, &look).await;
    let unsent = Look {
        channels: &["push"],
        addresses: &["a"],
        active_until: None,
    };
    let second = send(&f, &["eve"], &unsent).await;
    assert!(
        !f.store.close_late(f.now(), 10).await.expect("closes"),
        "too early"
    );
    let entry = f.inbox("u3").await[0].id;
    f.entry("u3", entry, EntryAction::Read).await;
    f.advance(Duration::from_secs(3_600));
    let mut pages = 0;
    while f.store.close_late(f.now(), 10).await.expect("closes") {
        pages += 1;
        assert!(pages < 10, "it comes to an end");
        let counts = f.store.recipient_counts(&f.tenant, id).await.expect("counts");
        assert_eq!(
            counts.iter().map(|count| count.count).sum::<u64>(),
            25,
            "nobody is lost"
        );
    }
    assert!(pages >= 2, "not all at once");
    let counts = f.store.recipient_counts(&f.tenant, id).await.expect("counts");
    let counts: Vec<_> = counts.iter().map(|count| (count.state, count.count)).collect();
    assert_eq!(
        counts,
        [(RecipientState::Acknowledged, 1), (RecipientState::Completed, 24)]
    );
    assert_eq!(f.recipient(second, "eve").await.state, RecipientState::Expired);
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
    let entry = f.inbox("u4").await[0].id;
    f.entry("u4", entry, EntryAction::Read).await;
    let late = f.recipient(id, "u4").await;
    assert_eq!(
        late.state,
        RecipientState::Acknowledged,
        "a late answer still counts"
    );
}

pub(super) async fn nodes_share_what_is_due_and_start_each_step_once(f: Fixture) {
    let names: Vec<String> = (0..60).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let id = send(&f, &users, &look).await;
    f.advance(HOLD);
    let node = async || {
        let mut looked = 0;
        loop {
            let until = f.now().after(MINUTE);
            let leases = f.store.lease_climbs(f.now(), 7, until).await.expect("leases");
            if leases.is_empty() {
                return looked;
            }
            looked += climb(&f, &leases, &look).await;
        }
    };
    let (one, two, three) = tokio::join!(node(), node(), node());
    assert_eq!(one + two + three, 60);
    for user in users {
        assert_eq!(deliveries(&f, id, user).await.len(), 2);
    }
}

pub(super) async fn what_cannot_be_read_stands_in_nobodys_way(f: Fixture) {
    let look = Look {
        channels: &BOTH,
        addresses: &["a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let broken = send(&f, &["ada"], &look).await;
    let whole = send(&f, &["bob"], &look).await;
    let statements = [
        format!("UPDATE notifications SET targets = 'nonsense' WHERE id = '{broken}'"),
        "INSERT INTO climbs (tenant, notification, user_id, due_at) VALUES ('default', 'nonsense', 'x', 1)"
            .to_owned(),
    ];
    for statement in statements {
        let statement = sqlx::AssertSqlSafe(statement);
        match &f.database {
            Database::Sqlite(sqlite) => {
                let mut tx = sqlite
                    .begin_system("a test breaks something")
                    .await
                    .expect("begins");
                sqlx::query(statement).execute(&mut *tx).await.expect("writes");
                tx.commit().await.expect("commits");
            }
            Database::Postgres(postgres) => {
                let mut tx = postgres
                    .begin_system("a test breaks something")
                    .await
                    .expect("begins");
                sqlx::query(statement).execute(&mut *tx).await.expect("writes");
                tx.commit().await.expect("commits");
            }
        }
    }
    f.advance(HOLD);
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(deliveries(&f, whole, "bob").await.len(), 2);
    assert!(
        lease(&f).await.is_empty(),
        "the broken one is out until its lease ends"
    );
    // Its time to live ends it without anybody reading it.
    f.advance(Duration::from_secs(3_600));
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
    let counts = f.store.recipient_counts(&f.tenant, broken).await.expect("counts");
    assert_eq!(counts[0].state, RecipientState::Completed);
}

pub(super) async fn what_still_climbs_gives_way_to_the_newest_of_its_collapse_key(f: Fixture) {
    let plan = r#"{"steps":[{"channels":["push"],"deadline":300},{"channels":["in_app"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a"],
        active_until: None,
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let row = NewNotification {
            plan: Some(Arc::from(plan)),
            ..f.collapsing(&["ada"], "job")
        };
        ids.push(row.id);
        f.accept(std::slice::from_ref(&row)).await;
        self::plan(&f, &look).await;
        f.advance(Duration::from_secs(1));
    }
    let older = f.recipient(ids[0], "ada").await;
    assert_eq!((older.state, older.next_at), (RecipientState::Superseded, None));
    assert_eq!(f.recipient(ids[1], "ada").await.state, RecipientState::Open);
    f.advance(Duration::from_secs(300));
    assert_eq!(tick(&f, &look).await, 1, "the newest alone goes on");
    assert_eq!(f.inbox("ada").await.len(), 1);
}
