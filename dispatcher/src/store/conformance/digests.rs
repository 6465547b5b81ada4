use std::{sync::Arc, time::Duration};

use carillon_domain::{NotificationId, Target};
use carillon_policy::{CategoryPolicy, TenantPolicy};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    fixture::{Fixture, LIMITS, plan_of},
    steps::{ACCEPTED, hand_out, kind, settle},
};
use crate::store::{
    digests::{Closing, DueDigest, MOST_MEMBERS},
    ladder::Climbing,
    outside::SuppressionRow,
    *,
};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// What is known of everybody at a look: the channels of a plan that the request does not bring, what the category and the
/// tenant say.
pub(super) struct Look {
    pub(super) channels: Vec<&'static str>,
    pub(super) category: Arc<CategoryPolicy>,
    pub(super) tenant: Arc<TenantPolicy>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            channels: vec!["push"],
            category: Arc::default(),
            tenant: Arc::default(),
        }
    }
}

impl Look {
    pub(super) fn see(&self, job: &mut PlanJob) {
        let own = &job.notification;
        if own.plan.is_none() {
            let channels: Vec<&str> = match &own.channels {
                Some(channels) => channels.iter().map(|kind| kind.as_str()).collect(),
                None => self.channels.clone(),
            };
            job.plan = Arc::new(plan_of(&channels));
        }
        job.policies = Policies {
            category: Arc::clone(&self.category),
            tenant: Arc::clone(&self.tenant),
        };
        let outside: Vec<Outgoing> = job
            .plan
            .plan
            .channels()
            .filter(|kind| !kind.is_in_app())
            .map(|kind| way(kind.as_str()))
            .collect();
        let in_app = job.plan.plan.channels().any(|kind| kind.is_in_app());
        for addressee in &mut job.users {
            addressee.in_app = in_app;
            addressee.outside = outside.clone();
        }
    }
}

fn way(channel: &str) -> Outgoing {
    Outgoing {
        channel: channel.parse().expect("a channel"),
        address: "a".parse().expect("an address"),
        device: None,
        lane: Arc::from("lane"),
        strand: Arc::from(""),
        skip: None,
        replaces: false,
        active_until: None,
    }
}

/// Plans what is due.
pub(super) async fn plan(f: &Fixture, look: &Look) {
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs.iter_mut().for_each(|job| look.see(job));
    f.store.plan(f.now(), &jobs).await.expect("plans");
}

/// Looks at all whose time has come. Answers how many.
pub(super) async fn tick(f: &Fixture, look: &Look) -> u64 {
    let until = f.now().after(MINUTE);
    let leases = f.store.lease_climbs(f.now(), 1_000, until).await.expect("leases");
    let loaded = f.store.load_climbs(&leases).await.expect("loads");
    let (mut held, mut jobs) = (Vec::new(), Vec::new());
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

/// What was decided about a recipient: kind and reason.
pub(super) async fn decided(f: &Fixture, id: NotificationId, user: &str) -> Vec<(String, String)> {
    let decisions = f.recipient(id, user).await.decisions.into_iter();
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

/// Alerts wait for a digest.
pub(super) fn gathering(window: serde_json::Value) -> Look {
    let policy = json!({"digests": [{"name": "often", "window": window}], "digest": "often"});
    Look {
        category: Arc::new(serde_json::from_value(policy).expect("a policy")),
        ..Look::default()
    }
}

pub(super) fn every_minute() -> Look {
    gathering(json!({"fixed": {"every": 60}}))
}

/// Accepts and plans so many notifications for ada; answers them in the order in which they are planned.
pub(super) async fn send(f: &Fixture, look: &Look, count: usize) -> Vec<NotificationId> {
    let rows: Vec<NewNotification> = (0..count).map(|_| f.notification(&["ada"])).collect();
    f.accept(&rows).await;
    plan(f, look).await;
    let mut ids: Vec<NotificationId> = rows.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn due(f: &Fixture) -> Vec<DueDigest> {
    // They may be handed out again at once.
    let leased = f
        .store
        .lease_digests(f.now(), 100, f.now(), None)
        .await
        .expect("leases");
    let mut due = Vec::new();
    for lease in leased.leases {
        due.push(f.store.due_digest(f.now(), &lease).await.expect("reads"));
    }
    due
}

/// How what was read would close, with a notification of that id.
pub(super) fn closing(f: &Fixture, digest: &DueDigest) -> Closing {
    let now = f.now();
    let notification = NewNotification {
        targets: Arc::from(
            serde_json::to_string(&[Target::User("ada".parse().expect("a name"))]).expect("JSON"),
        ),
        channels: Some(Arc::from(r#"["push"]"#)),
        expires_at: digest.expires_at,
        ..f.notification(&[])
    };
    Closing {
        lease: digest.lease.clone(),
        members: digest.members.clone(),
        notification: (!digest.members.is_empty()).then_some(NewNotification {
            id: NotificationId::at(now),
            ..notification
        }),
    }
}

pub(super) async fn close(f: &Fixture, closing: &Closing) -> bool {
    f.store.close_digest(f.now(), closing).await.expect("closes")
}

/// Closes the one digest that is due; answers its notification.
pub(super) async fn close_one(f: &Fixture) -> NotificationId {
    let due = due(f).await;
    assert_eq!(due.len(), 1);
    let closing = closing(f, &due[0]);
    assert!(close(f, &closing).await);
    closing.notification.expect("not empty").id
}

/// The states of a recipient's deliveries outside, and the digests that they went out with.
pub(super) async fn outside(f: &Fixture, id: NotificationId) -> Vec<(String, Option<NotificationId>)> {
    let deliveries = f.recipient(id, "ada").await.deliveries.into_iter();
    deliveries
        .filter(|delivery| delivery.channel != "in_app")
        .map(|delivery| (delivery.state, delivery.digest))
        .collect()
}

pub(super) async fn alerts_that_wait_together_go_out_as_one(f: Fixture) {
    let look = every_minute();
    let mut ids = send(&f, &look, 2).await;
    f.advance(Duration::from_secs(30));
    ids.extend(send(&f, &look, 1).await);
    for id in &ids {
        assert_eq!(outside(&f, *id).await, [("gathered".to_owned(), None)]);
        let recipient = f.recipient(*id, "ada").await;
        assert_eq!(recipient.state, RecipientState::Open);
        assert_eq!(decided(&f, *id, "ada").await[0].0, "gathered");
    }
    assert!(due(&f).await.is_empty());
    f.advance(Duration::from_secs(30));
    let read = due(&f).await.remove(0);
    assert_eq!(read.members, ids);
    assert_eq!(read.first.len(), 3);
    assert_eq!(&*read.lease.key.name, "often");
    let once = closing(&f, &read);
    let digest = once.notification.as_ref().expect("not empty").id;
    assert!(close(&f, &once).await);
    assert!(!close(&f, &closing(&f, &read)).await, "it is open no longer");
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
    for id in &ids {
        assert_eq!(outside(&f, *id).await, [("digested".to_owned(), Some(digest))]);
        assert_eq!(decided(&f, *id, "ada").await[1].0, "digested");
    }
    // It is planned like any other, and joins no digest itself.
    plan(&f, &look).await;
    let row = f.store.notification(&f.tenant, digest).await.expect("reads");
    assert_eq!(row.and_then(|row| row.digest).as_deref(), Some("often"));
    assert_eq!(outside(&f, digest).await, [("pending".to_owned(), None)]);
    // What comes next waits for the next one.
    let next = send(&f, &look, 1).await;
    assert_eq!(outside(&f, next[0]).await[0].0, "gathered");
    let tally = f.store.tally_outside().await.expect("tallies");
    assert_eq!((tally.pending, tally.stranded), (1, 0));
}

pub(super) async fn what_is_over_before_it_closes_drops_out(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 4).await;
    let short = NewNotification {
        expires_at: f.now().after(Duration::from_secs(70)),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&short)).await;
    plan(&f, &look).await;
    f.store
        .cancel(f.now(), &f.tenant, ids[1], &[])
        .await
        .expect("cancels");
    // Whoever closes it is late.
    f.advance(Duration::from_secs(70));
    let read = due(&f).await.remove(0);
    assert_eq!(read.members, [ids[0], ids[2], ids[3]]);
    // One more answers after it was read: it is read anew.
    let answer = Operation::Entry(Which::Notification(ids[0]), EntryAction::Read);
    f.act("ada", vec![answer]).await;
    assert!(!close(&f, &closing(&f, &read)).await);
    assert_eq!(due(&f).await[0].members, [ids[2], ids[3]]);
    let digest = close_one(&f).await;
    for (id, state, of) in [
        (ids[0], "cancelled", None),
        (ids[1], "cancelled", None),
        (ids[2], "digested", Some(digest)),
        (short.id, "cancelled", None),
    ] {
        assert_eq!(outside(&f, id).await, [(state.to_owned(), of)]);
    }
    assert_eq!(
        f.recipient(ids[0], "ada").await.state,
        RecipientState::Acknowledged
    );
}

pub(super) async fn an_empty_digest_sends_nothing(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 1).await;
    f.store
        .cancel(f.now(), &f.tenant, ids[0], &[])
        .await
        .expect("cancels");
    f.advance(MINUTE);
    let read = due(&f).await.remove(0);
    assert!(read.members.is_empty());
    assert!(close(&f, &closing(&f, &read)).await);
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
    assert!(f.lease().await.is_empty(), "nothing is sent");
}

pub(super) async fn answering_a_digest_answers_its_members(f: Fixture) {
    let look = Look {
        channels: vec!["in_app", "push"],
        ..every_minute()
    };
    let ids = send(&f, &look, 2).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    let answer = Operation::Entry(Which::Notification(digest), EntryAction::Read);
    let reply = f.act("ada", vec![answer]).await;
    assert_eq!(reply.results, [OperationResult::Ok], "one answer to one question");
    for id in ids.iter().chain([&digest]) {
        assert_eq!(f.recipient(*id, "ada").await.state, RecipientState::Acknowledged);
    }
    assert_eq!(f.counts("ada").await, (2, 0, 0), "their entries are read");
    assert_eq!(
        outside(&f, digest).await[0].0,
        "cancelled",
        "and nothing is sent any more"
    );
    f.log("ada").await;
}

pub(super) async fn where_a_digest_comes_to_nothing_its_members_go_on(f: Fixture) {
    let look = every_minute();
    let row = NewNotification {
        plan: Some(Arc::from(
            r#"{"steps":[{"channels":["push"],"deadline":600},{"channels":["in_app"]}]}"#,
        )),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    assert_eq!(
        tick(&f, &look).await,
        0,
        "it counts as under way until the digest came to something"
    );
    f.store
        .cancel(f.now(), &f.tenant, digest, &[])
        .await
        .expect("cancels");
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(f.inbox("ada").await.len(), 1, "the next step starts at once");
}

pub(super) async fn what_a_digest_brings_late_completes_its_members(f: Fixture) {
    let look = every_minute();
    let suppression = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: kind("sms"),
        address: "a".parse().expect("an address"),
        reason: "manual".into(),
        detail: None,
        delivery: None,
        at: f.now(),
    };
    f.store.suppress(&suppression).await.expect("writes");
    let row = NewNotification {
        plan: Some(Arc::from(
            r#"{"steps":[{"channels":["push"],"deadline":30},{"channels":["sms"]}]}"#,
        )),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    close_one(&f).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    assert_eq!(
        tick(&f, &look).await,
        1,
        "its deadline passed, and no other step is left"
    );
    assert_eq!(f.recipient(row.id, "ada").await.state, RecipientState::Open);
    settle(&f, &hand_out(&f, "push").await, ACCEPTED).await;
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(f.recipient(row.id, "ada").await.state, RecipientState::Completed);
}

pub(super) async fn a_sliding_window_moves_on_and_no_further_than_its_maximum(f: Fixture) {
    let look = gathering(json!({"sliding": {"idle": 60, "max": 150}}));
    let opened = f.now();
    let closes = async || f.store.next_digest().await.expect("reads").expect("one is open");
    for after in [60, 100, 140, 150] {
        send(&f, &look, 1).await;
        assert_eq!(closes().await, opened.after(Duration::from_secs(after)));
        f.advance(Duration::from_secs(40));
    }
    // It is due: what comes before somebody closed it goes along.
    send(&f, &look, 1).await;
    assert_eq!(closes().await, opened.after(Duration::from_secs(150)));
    assert_eq!(due(&f).await[0].members.len(), 5);
}

pub(super) async fn a_digest_closes_once_however_many_try(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 5).await;
    f.advance(MINUTE);
    let read = due(&f).await.remove(0);
    let mut racing = JoinSet::new();
    for _ in 0..8 {
        let store = f.reopen(LIMITS).await;
        let (closing, now) = (closing(&f, &read), f.now());
        racing.spawn(async move { store.close_digest(now, &closing).await.expect("closes") });
    }
    let closed = racing.join_all().await;
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1);
    assert_eq!(f.lease().await.len(), 1, "one notification");
    for id in ids {
        assert_eq!(outside(&f, id).await[0].0, "digested");
    }
}

pub(super) async fn whoever_joins_while_it_closes_is_in_one_digest(f: Fixture) {
    let look = every_minute();
    let mut ids = send(&f, &look, 1).await;
    f.advance(MINUTE);
    let rows: Vec<NewNotification> = (0..12).map(|_| f.notification(&["ada"])).collect();
    ids.extend(rows.iter().map(|row| row.id));
    f.accept(&rows).await;
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs.iter_mut().for_each(|job| look.see(job));
    let mut joining = JoinSet::new();
    for jobs in jobs.chunks(3) {
        let store = f.reopen(StoreLimits { anew: 100, ..LIMITS }).await;
        let (jobs, now) = (jobs.to_vec(), f.now());
        joining.spawn(async move { store.plan(now, &jobs).await.expect("plans") });
    }
    let mut sent = Vec::new();
    while !joining.is_empty() {
        for read in due(&f).await {
            let closing = closing(&f, &read);
            if close(&f, &closing).await {
                sent.push(closing.notification.expect("not empty").id);
            }
        }
        if let Some(joined) = joining.try_join_next() {
            joined.expect("no panic");
        }
    }
    f.advance(MINUTE);
    for read in due(&f).await {
        let closing = closing(&f, &read);
        assert!(close(&f, &closing).await);
        sent.push(closing.notification.expect("not empty").id);
    }
    for id in ids {
        let outside = outside(&f, id).await;
        assert_eq!(outside.len(), 1);
        let digest = outside[0].1.expect("it went out");
        assert!(sent.contains(&digest));
    }
}

pub(super) async fn more_than_a_digest_holds_goes_out_with_another(f: Fixture) {
    let look = every_minute();
    send(&f, &look, MOST_MEMBERS + 3).await;
    f.advance(MINUTE);
    let read = due(&f).await.remove(0);
    assert_eq!(read.members.len(), MOST_MEMBERS);
    assert!(close(&f, &closing(&f, &read)).await);
    let rest = due(&f).await.remove(0);
    assert_eq!(rest.members.len(), 3);
    assert!(close(&f, &closing(&f, &rest)).await);
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
}

pub(super) async fn an_erased_user_waits_in_none(f: Fixture) {
    let look = every_minute();
    send(&f, &look, 2).await;
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: Some("ada".parse().expect("a name")),
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
}
