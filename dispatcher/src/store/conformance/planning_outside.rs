use std::{sync::Arc, time::Duration};

use carillon_domain::{Address, ChannelKind, NotificationId, PlainAddress, ports::Operation};

use super::fixture::{Fixture, plan_of};
use crate::store::{catalog::OptOut, outside::*, *};

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn push() -> ChannelKind {
    "push".parse().expect("a channel")
}

fn outgoing(address: &str) -> Outgoing {
    Outgoing {
        channel: push(),
        address: address.parse().expect("an address"),
        device: None,
        lane: Arc::from("push"),
        strand: Arc::from(""),
        skip: None,
        replaces: true,
        active_until: None,
    }
}

/// Plans what is due, each user with these addresses outside.
async fn plan(f: &Fixture, in_app: bool, addresses: &[&str]) {
    let mut jobs = f.jobs(&f.lease().await).await;
    for job in &mut jobs {
        let kinds: &[&str] = if in_app { &["in_app", "push"] } else { &["push"] };
        job.plan = Arc::new(plan_of(kinds));
    }
    for addressee in jobs.iter_mut().flat_map(|job| &mut job.users) {
        addressee.in_app = in_app;
        addressee.outside = addresses.iter().map(|address| outgoing(address)).collect();
    }
    f.store.plan(f.now(), &jobs).await.expect("plans");
}

/// Hands out everything that is due.
pub(super) async fn lease(f: &Fixture) -> Vec<LeasedDelivery> {
    let lanes = f.store.due_lanes(f.now(), &[push()], 10).await.expect("reads");
    let picks: Vec<LanePick> = lanes
        .into_iter()
        .map(|lane| LanePick {
            key: lane.key,
            limit: 100,
        })
        .collect();
    let until = f.now().after(Duration::from_secs(30));
    let handed = f.store.lease_deliveries(f.now(), &picks, until, until).await;
    handed.expect("leases").leased
}

/// The far end has them, under an id of its own.
pub(super) async fn deliver(f: &Fixture, leased: Vec<LeasedDelivery>) {
    let settlements: Vec<Settlement> = leased
        .into_iter()
        .map(|delivery| Settlement {
            ended_at: f.now(),
            outcome: "delivered",
            status: None,
            reason: None,
            excerpt: None,
            provider_id: Some(format!("far-{}", delivery.address)),
            verdict: Verdict::Done { accepted: false },
            delivery: Arc::new(delivery),
            is_sent: true,
            recalls: false,
        })
        .collect();
    let settled = f.store.settle(f.now(), &settlements).await.expect("settles");
    assert_eq!(settled.stale, 0);
}

/// State and reason of a user's deliveries outside, by address.
async fn states(f: &Fixture, id: NotificationId, user: &str) -> Vec<(String, String, Option<String>)> {
    f.recipient(id, user)
        .await
        .deliveries
        .into_iter()
        .filter(|delivery| delivery.channel == "push")
        .map(|delivery| (delivery.address, delivery.state, delivery.reason))
        .collect()
}

fn state(states: &[(String, String, Option<String>)]) -> Vec<(&str, &str)> {
    states
        .iter()
        .map(|(address, state, _)| (address.as_str(), state.as_str()))
        .collect()
}

pub(super) async fn a_newer_notification_overtakes_what_waits_and_replaces_what_arrived(f: Fixture) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let row = f.collapsing(&["ada"], "job");
        ids.push(row.id);
        f.accept(&[row]).await;
        plan(&f, true, &["a", "b"]).await;
    }
    let first = states(&f, ids[0], "ada").await;
    assert_eq!(state(&first), [("a", "superseded"), ("b", "superseded")]);
    let leased = lease(&f).await;
    assert_eq!(leased.len(), 2, "what was overtaken is not handed out");
    assert!(leased.iter().all(|one| one.operation == Operation::Deliver));
    deliver(&f, leased).await;
    let third = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&third)).await;
    plan(&f, true, &["b", "c"]).await;
    let mut leased = lease(&f).await;
    leased.sort_by(|a, b| a.address.cmp(&b.address));
    let work: Vec<_> = leased
        .iter()
        .map(|one| (one.address.as_str(), one.operation, one.provider_id.as_deref()))
        .collect();
    assert_eq!(
        work,
        [
            ("b", Operation::Replace, Some("far-b")),
            ("c", Operation::Deliver, None)
        ]
    );
    let second = states(&f, ids[1], "ada").await;
    assert_eq!(state(&second), [("a", "delivered"), ("b", "delivered")]);
    // In one batch as well, and without an inbox.
    let batch: Vec<_> = (0..2)
        .map(|_| {
            f.advance(Duration::from_millis(1));
            f.collapsing(&["bob"], "job")
        })
        .collect();
    f.accept(&batch).await;
    plan(&f, false, &["x"]).await;
    let older = states(&f, batch[0].id, "bob").await;
    assert_eq!(state(&older), [("x", "superseded")]);
    assert_eq!(lease(&f).await.len(), 1);
}

pub(super) async fn what_is_suppressed_or_turned_off_is_skipped(f: Fixture) {
    let suppression = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: push(),
        address: "bad".parse::<Address>().expect("an address"),
        reason: "manual".into(),
        detail: None,
        delivery: None,
        at: f.now(),
    };
    f.store.suppress(&suppression).await.expect("writes");
    let off = OptOut {
        tenant: f.tenant.clone(),
        user: f.user("bob"),
        category: Default::default(),
        channel: push(),
    };
    f.store.opt_out(f.now(), &off, true).await.expect("writes");
    let row = f.notification(&["ada", "bob"]);
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, true, &["bad", "good"]).await;
    let told = |of: Vec<(String, String, Option<String>)>| -> Vec<String> {
        of.into_iter()
            .map(|(address, state, reason)| format!("{address} {state} {}", reason.unwrap_or_default()))
            .collect()
    };
    assert_eq!(
        told(states(&f, row.id, "ada").await),
        ["bad skipped suppressed", "good pending "]
    );
    assert_eq!(
        told(states(&f, row.id, "bob").await),
        ["bad skipped suppressed", "good skipped unsubscribed"]
    );
    f.store.opt_out(f.now(), &off, false).await.expect("writes");
    assert!(!f.store.opted_out(&off).await.expect("reads"));
    let again = f.notification(&["bob"]);
    f.accept(std::slice::from_ref(&again)).await;
    plan(&f, true, &["good"]).await;
    assert_eq!(told(states(&f, again.id, "bob").await), ["good pending "]);
}

pub(super) async fn cancelling_stops_what_waits_and_takes_back_what_can_be(f: Fixture) {
    let row = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, true, &["a", "b"]).await;
    let (now, later): (Vec<_>, Vec<_>) = lease(&f)
        .await
        .into_iter()
        .partition(|one| one.address.as_str() == "a");
    deliver(&f, now).await;
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, row.id, &[push()])
        .await
        .expect("commits");
    assert_eq!(
        cancelled.value,
        Cancelled::Done {
            recalled: 1,
            in_flight: 1
        }
    );
    let after = states(&f, row.id, "ada").await;
    assert_eq!(state(&after), [("a", "delivered"), ("b", "cancelled")]);
    let recall = lease(&f).await;
    assert_eq!(recall.len(), 1);
    assert_eq!(
        (
            recall[0].operation,
            recall[0].provider_id.as_deref(),
            recall[0].number()
        ),
        (Operation::Recall, Some("far-a"), 2)
    );
    deliver(&f, recall).await;
    let ended = states(&f, row.id, "ada").await;
    assert_eq!(state(&ended), [("a", "recalled"), ("b", "cancelled")]);
    drop(later);
    // Where the channel cannot, the delivery says so.
    let other = f.notification(&["bob"]);
    f.accept(std::slice::from_ref(&other)).await;
    plan(&f, true, &["a"]).await;
    let leased = lease(&f).await;
    deliver(&f, leased).await;
    f.store
        .cancel(f.now(), &f.tenant, other.id, &[])
        .await
        .expect("commits");
    let stays = states(&f, other.id, "bob").await;
    assert_eq!(
        stays,
        [(
            "a".to_owned(),
            "delivered".to_owned(),
            Some("not_recallable".to_owned())
        )]
    );
    assert!(lease(&f).await.is_empty());
}

pub(super) async fn a_plain_address_is_a_recipient_without_an_inbox(f: Fixture) {
    let row = f.notification(&["#live.t"]);
    f.accept(std::slice::from_ref(&row)).await;
    let mut jobs = f.jobs(&f.lease().await).await;
    let plain = PlainAddress {
        channel: push(),
        to: "somebody".parse().expect("an address"),
    };
    jobs[0].users.push(Addressee {
        in_app: false,
        plain: Some(plain.clone()),
        outside: vec![outgoing("somebody")],
        ..Addressee::in_app(f.user("plain"))
    });
    f.store.plan(f.now(), &jobs).await.expect("plans");
    let detail = f.recipient(row.id, "plain").await;
    assert_eq!((detail.plain, detail.entry), (Some(plain), None));
    assert_eq!(detail.deliveries.len(), 1, "none to an inbox");
    assert_eq!(detail.deliveries[0].next_at, Some(f.now()));
    assert!(f.inbox("plain").await.is_empty());
    let leased = lease(&f).await;
    let shown = f.recipient(row.id, "plain").await;
    assert_eq!(shown.deliveries[0].next_at, None, "one runs");
    assert_eq!(shown.deliveries[0].attempts.len(), 1);
    deliver(&f, leased).await;
    let shown = f.recipient(row.id, "plain").await;
    assert_eq!(
        shown.deliveries[0].attempts[0].outcome.as_deref(),
        Some("delivered")
    );
}

pub(super) async fn a_suppressed_address_stays_so_when_its_owner_is_erased(f: Fixture) {
    let row = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, false, &["ada@example.org"]).await;
    let suppression = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: push(),
        address: address("ada@example.org"),
        reason: "bounced".into(),
        detail: Some("ada@example.org is unknown".to_owned()),
        delivery: None,
        at: f.now(),
    };
    // Planned before anything stands against it.
    f.accept(&[f.notification(&["bob"])]).await;
    plan(&f, false, &["ada@example.org"]).await;
    f.store.suppress(&suppression).await.expect("commits");
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: None,
    };
    for _ in 0..2 {
        f.store.erase(f.now(), &erasure).await.expect("erases");
    }
    let query = SuppressionQuery {
        channel: None,
        after: None,
        limit: 10,
    };
    let left = f.store.suppressions(&f.tenant, &query).await.expect("reads");
    assert_eq!(left.len(), 1);
    assert!(left[0].address.as_str().starts_with("erased:"), "{:?}", left[0]);
    assert_eq!((&*left[0].reason, &left[0].detail), ("bounced", &None));
    assert!(lease(&f).await.is_empty(), "neither what waits is tried");
    let next = f.notification(&["bob"]);
    f.accept(std::slice::from_ref(&next)).await;
    plan(&f, false, &["ada@example.org", "bob@example.org"]).await;
    let found = states(&f, next.id, "bob").await;
    assert_eq!(
        state(&found),
        [("ada@example.org", "skipped"), ("bob@example.org", "pending")],
        "nor is anything new"
    );
    let lifted = f
        .store
        .lift_suppression(&f.tenant, &push(), &address("ada@example.org"))
        .await;
    assert!(lifted.expect("commits"), "whoever knows the address lifts it");
}

/// What the far end tells of the message that it calls so; the deliveries that it was about.
async fn tell(f: &Fixture, provider_id: &str, says: Says) -> Option<NotificationId> {
    let news = News {
        tenant: f.tenant.clone(),
        about: About::Provider(provider_id.to_owned()),
        says,
    };
    let noted = f.store.receive_news(f.now(), &push(), &[news]).await;
    noted.expect("commits").noted.remove(0)?.notification
}

pub(super) async fn news_of_a_message_is_not_that_of_what_waits_to_replace_it(f: Fixture) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        f.advance(Duration::from_secs(1));
        let row = f.collapsing(&["ada"], "job");
        ids.push(row.id);
        f.accept(&[row]).await;
        plan(&f, false, &["a"]).await;
        if ids.len() == 1 {
            let first = lease(&f).await;
            deliver(&f, first).await;
        }
    }
    let waits = async || {
        let second = states(&f, ids[1], "ada").await;
        assert_eq!(state(&second), [("a", "pending")]);
    };
    for says in [Says::Delivered, Says::Read, Says::Failed("late".to_owned())] {
        assert_eq!(tell(&f, "far-a", says).await, Some(ids[0]), "what was sent");
        waits().await;
    }
    let out = lease(&f).await;
    assert_eq!(out.len(), 1, "the replacement still goes out");
    assert_eq!(out[0].operation, Operation::Replace);
    // It is tried, and did not arrive: the old one is what is there.
    assert_eq!(tell(&f, "far-a", Says::Seen).await, Some(ids[0]));
    deliver(&f, out).await;
    assert_eq!(
        tell(&f, "far-a", Says::Seen).await,
        Some(ids[1]),
        "the newest one"
    );
    // News of a delivery by our own id that nobody tried yet is no end of it.
    f.advance(Duration::from_secs(1));
    let row = f.collapsing(&["bob"], "job");
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, false, &["b"]).await;
    let id = f.recipient(row.id, "bob").await.deliveries[0].id;
    for says in [Says::Failed("early".to_owned()), Says::Delivered] {
        let news = News {
            tenant: f.tenant.clone(),
            about: About::Delivery(id),
            says,
        };
        f.store
            .receive_news(f.now(), &push(), &[news])
            .await
            .expect("commits");
    }
    assert_eq!(lease(&f).await.len(), 1, "it is sent");
}
