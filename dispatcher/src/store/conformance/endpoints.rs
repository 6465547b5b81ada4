use std::{sync::Arc, time::Duration};

use carillon_domain::{Address, DeliveryId, EndpointId, EventId, SecretId, ports, ports::SigningKind};

use super::fixture::Fixture;
use crate::{
    events::EventFilter,
    store::{endpoints::*, outside::*},
};

pub(super) fn endpoint(f: &Fixture, host: &str, fifo: bool) -> EndpointRow {
    let now = f.now();
    EndpointRow {
        tenant: f.tenant.clone(),
        id: EndpointId::at(now),
        user: None,
        url: address(&format!("https://{host}/")),
        lane: Arc::from(format!("{host}:443")),
        events: vec![EventFilter::of_tenant("delivery.*").expect("a filter")],
        fifo,
        description: Some("ours".to_owned()),
        state: EndpointState::Enabled,
        reason: None,
        failing_since: None,
        created_at: now,
        updated_at: now,
    }
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

pub(super) fn secret(f: &Fixture, endpoint: Option<EndpointId>) -> SecretRow {
    SecretRow {
        tenant: f.tenant.clone(),
        endpoint,
        id: SecretId::at(f.now()),
        kind: SigningKind::Ed25519,
        public: Some("whpk_1".to_owned()),
        sealed: "sealed".to_owned(),
        created_at: f.now(),
        expires_at: None,
    }
}

/// Registers an endpoint.
pub(super) async fn made(f: &Fixture, host: &str, fifo: bool) -> EndpointRow {
    let row = endpoint(f, host, fifo);
    let created = f.store.create_endpoint(&row, &secret(f, Some(row.id)), 100).await;
    assert!(created.expect("commits"));
    f.advance(Duration::from_millis(1));
    row
}

/// Tells an endpoint something.
pub(super) async fn told(f: &Fixture, row: &EndpointRow) -> DeliveryId {
    let now = f.now();
    let event = EventRow {
        tenant: f.tenant.clone(),
        id: EventId::at(now),
        kind: "webhook.test",
        body: "{}".to_owned(),
        at: now,
    };
    let outside = crate::endpoints::told(now, row, event.id, now.after(Duration::from_secs(3_600)));
    let work = WorkRow::of(&outside, strand(row.id, row.fifo), ports::Operation::Deliver);
    f.store
        .send_event(&event, &outside, &work)
        .await
        .expect("commits");
    f.advance(Duration::from_millis(1));
    outside.id
}

/// Leases everything that is due, with the lanes where it was.
pub(super) async fn leased(f: &Fixture) -> Vec<Arc<LeasedDelivery>> {
    let channels = [carillon_domain::ChannelKind::webhook()];
    let due = f.store.due_lanes(f.now(), &channels, 100).await.expect("reads");
    let picks: Vec<_> = due
        .into_iter()
        .map(|due| LanePick {
            key: due.key,
            limit: 9,
        })
        .collect();
    let (until, again) = (
        f.now().after(Duration::from_secs(60)),
        f.now().after(Duration::from_secs(2)),
    );
    let handed = f.store.lease_deliveries(f.now(), &picks, until, again).await;
    handed.expect("leases").leased.into_iter().map(Arc::new).collect()
}

pub(super) async fn delivered(f: &Fixture, delivery: &Arc<LeasedDelivery>) {
    let settlement = Settlement {
        delivery: Arc::clone(delivery),
        ended_at: f.now(),
        outcome: "delivered",
        status: Some(200),
        reason: None,
        excerpt: Some("thanks".to_owned()),
        provider_id: None,
        verdict: Verdict::Done { accepted: false },
        is_sent: true,
        recalls: false,
    };
    f.store.settle(f.now(), &[settlement]).await.expect("commits");
}

pub(super) async fn endpoints_are_made_listed_changed_and_deleted(f: Fixture) {
    let first = made(&f, "a.example", false).await;
    let second = made(&f, "b.example", true).await;
    let full = f
        .store
        .create_endpoint(&endpoint(&f, "c.example", false), &secret(&f, None), 2)
        .await;
    assert!(!full.expect("answers"), "there are two already");
    let query = EndpointQuery {
        limit: 9,
        ..EndpointQuery::default()
    };
    let listed = f.store.endpoints(&f.tenant, &query).await.expect("reads");
    assert_eq!(listed, [second.clone(), first.clone()]);
    let before = EndpointQuery {
        before: Some(second.id),
        ..query.clone()
    };
    assert_eq!(
        f.store.endpoints(&f.tenant, &before).await.expect("reads"),
        std::slice::from_ref(&first)
    );
    let other = "acme".parse().expect("a tenant");
    assert!(
        f.store
            .endpoint(f.now(), &other, first.id)
            .await
            .expect("reads")
            .is_none()
    );

    let change = EndpointChange {
        url: Some((address("https://d.example/"), Arc::from("d.example:443"))),
        fifo: Some(true),
        description: Some(None),
        state: Some(EndpointState::Disabled),
        ..EndpointChange::default()
    };
    let changed = f
        .store
        .update_endpoint(f.now(), &f.tenant, first.id, &change, 10)
        .await;
    let changed = changed.expect("commits").expect("is there").row;
    assert_eq!(changed.reason.as_deref(), Some("disabled by request"));
    let (shown, secrets) = f
        .store
        .endpoint(f.now(), &f.tenant, first.id)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!((shown, secrets.len()), (changed, 1));

    assert!(
        f.store
            .delete_endpoint(f.now(), &f.tenant, first.id)
            .await
            .expect("commits")
    );
    assert!(
        !f.store
            .delete_endpoint(f.now(), &f.tenant, first.id)
            .await
            .expect("commits")
    );
    assert!(
        f.store
            .endpoint(f.now(), &f.tenant, first.id)
            .await
            .expect("reads")
            .is_none()
    );
    assert_eq!(
        f.store.endpoints(&f.tenant, &query).await.expect("reads"),
        [second]
    );
}

pub(super) async fn secrets_rotate_and_the_last_one_stays(f: Fixture) {
    let row = made(&f, "a.example", false).await;
    let newest = secret(&f, Some(row.id));
    let until = f.now().after(Duration::from_secs(60));
    let add = |secret: SecretRow| {
        let store = f.store.clone();
        let now = f.now();
        async move { store.add_secret(now, &secret, until, 2).await.expect("answers") }
    };
    assert_eq!(add(newest.clone()).await, SecretAdded::Done);
    assert_eq!(add(secret(&f, Some(row.id))).await, SecretAdded::Full);
    assert_eq!(
        add(secret(&f, Some(EndpointId::at(f.now())))).await,
        SecretAdded::NotFound
    );
    let signing = |at| {
        let (store, tenant) = (f.store.clone(), f.tenant.clone());
        async move {
            store
                .endpoint(at, &tenant, row.id)
                .await
                .expect("reads")
                .expect("is there")
                .1
        }
    };
    let both = signing(f.now()).await;
    assert_eq!(both.len(), 2);
    assert_eq!((&both[0], both[1].expires_at), (&newest, Some(until)));
    assert_eq!(signing(until).await, std::slice::from_ref(&newest));
    let remove = |id| f.store.remove_secret(&f.tenant, row.id, id);
    assert_eq!(remove(newest.id).await.expect("answers"), SecretRemoved::Last);
    assert_eq!(remove(both[1].id).await.expect("answers"), SecretRemoved::Done);
    assert_eq!(
        remove(both[1].id).await.expect("answers"),
        SecretRemoved::NotFound
    );

    assert_eq!(f.store.known_tenant_secret(&f.tenant).await.expect("reads"), None);
    let own = secret(&f, None);
    assert_eq!(f.store.tenant_secret(&own).await.expect("commits"), own);
    assert_eq!(
        f.store.tenant_secret(&secret(&f, None)).await.expect("commits"),
        own
    );
    assert_eq!(
        f.store.known_tenant_secret(&f.tenant).await.expect("reads"),
        Some(own)
    );
}

pub(super) async fn what_waits_moves_with_its_endpoint_in_order(f: Fixture) {
    let row = made(&f, "a.example", true).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(told(&f, &row).await);
    }
    let change = EndpointChange {
        url: Some((address("https://b.example/"), Arc::from("b.example:443"))),
        ..EndpointChange::default()
    };
    let moved = f
        .store
        .update_endpoint(f.now(), &f.tenant, row.id, &change, 2)
        .await;
    let moved = moved.expect("commits").expect("is there");
    assert!(moved.from.is_some(), "one is left behind");
    assert!(!f.store.move_work(f.now(), &moved, 2).await.expect("commits"));
    for id in ids {
        let out = leased(&f).await;
        assert_eq!(out.len(), 1, "one at a time");
        assert_eq!((out[0].id, &*out[0].key.lane), (id, "b.example:443"));
        delivered(&f, &out[0]).await;
    }
}

pub(super) async fn what_ended_is_sent_again_last_in_its_strand(f: Fixture) {
    let row = made(&f, "a.example", true).await;
    let (first, second) = (told(&f, &row).await, told(&f, &row).await);
    let again = |id| f.store.resend(f.now(), &f.tenant, id);
    assert_eq!(
        again(first).await.expect("answers"),
        Resent::Conflict(NotResendable::State(DeliveryState::Pending))
    );
    let out = leased(&f).await;
    delivered(&f, &out[0]).await;
    assert_eq!(again(first).await.expect("answers"), Resent::Done);
    assert_eq!(
        again(DeliveryId::at(f.now())).await.expect("answers"),
        Resent::NotFound
    );
    for id in [second, first] {
        let out = leased(&f).await;
        assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [id]);
        delivered(&f, &out[0]).await;
    }
    let query = AttemptQuery {
        before: None,
        limit: 2,
    };
    let log = f
        .store
        .endpoint_attempts(&f.tenant, row.id, &query)
        .await
        .expect("reads");
    let seen: Vec<_> = log.iter().map(|row| (row.delivery, row.attempt.number)).collect();
    assert_eq!(seen, [(second, 1), (first, 2)]);
    assert_eq!(log[0].kind.as_deref(), Some("webhook.test"));
    let query = AttemptQuery {
        before: Some((first, 2)),
        limit: 2,
    };
    let rest = f
        .store
        .endpoint_attempts(&f.tenant, row.id, &query)
        .await
        .expect("reads");
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].attempt.excerpt.as_deref(), Some("thanks"));
}

pub(super) async fn what_waits_for_a_closed_endpoint_ends_page_by_page(f: Fixture) {
    let (row, open) = (
        made(&f, "a.example", false).await,
        made(&f, "a.example", false).await,
    );
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(told(&f, &row).await);
    }
    let kept = told(&f, &open).await;
    assert!(
        f.store
            .delete_endpoint(f.now(), &f.tenant, row.id)
            .await
            .expect("commits")
    );
    let before = f.now().before(Duration::from_secs(60));
    let mut ended = Vec::new();
    for count in [2, 1, 0] {
        let page = f.store.end_closed(f.now(), before, 2).await.expect("commits");
        assert_eq!(page.len(), count);
        ended.extend(page.into_iter().map(|end| (end.id, end.state)));
    }
    ended.sort_unstable_by_key(|(id, _)| *id);
    let dead: Vec<_> = ids.into_iter().map(|id| (id, DeliveryState::Dead)).collect();
    assert_eq!(ended, dead);
    let out = leased(&f).await;
    assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [kept]);
}

pub(super) async fn a_user_s_open_endpoints_are_found_and_go_with_her(f: Fixture) {
    let ada = f.user("ada");
    let mut hers = Vec::new();
    for (host, fifo, state) in [
        ("a.example", true, EndpointState::Enabled),
        ("b.example", false, EndpointState::Disabled),
    ] {
        let row = EndpointRow {
            user: Some(ada),
            state,
            ..endpoint(&f, host, fifo)
        };
        let created = f.store.create_endpoint(&row, &secret(&f, Some(row.id)), 9).await;
        assert!(created.expect("commits"));
        f.advance(Duration::from_millis(1));
        hers.push(row);
    }
    let of_the_tenant = made(&f, "c.example", false).await;
    let found = f
        .store
        .user_endpoints(&f.tenant, &[ada, f.user("bob")])
        .await
        .expect("reads");
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.user, one.id, &*one.lane, one.fifo))
        .collect();
    assert_eq!(found, [(ada, hers[0].id, "a.example:443", true)]);
    let test = told(&f, &hers[0]).await;
    let running = leased(&f).await;
    assert_eq!(running.len(), 1);
    let kept = told(&f, &of_the_tenant).await;
    let erasure = crate::store::Erasure {
        tenant: f.tenant.clone(),
        user: ada,
        name: None,
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    for row in &hers {
        let found = f.store.endpoint(f.now(), &f.tenant, row.id).await.expect("reads");
        assert!(found.is_none());
    }
    assert!(f.store.delivery(&f.tenant, test).await.expect("reads").is_none());
    // What was under way says something to nobody.
    delivered(&f, &running[0]).await;
    let waits = leased(&f).await;
    assert_eq!(waits.iter().map(|one| one.id).collect::<Vec<_>>(), [kept]);
}

/// The kinds of the events that an endpoint was told, in order.
async fn kinds(f: &Fixture) -> Vec<String> {
    let leased = leased(f).await;
    let sources = f.store.load_work(f.now(), &leased).await.expect("reads");
    let mut kinds: Vec<String> = sources
        .events
        .values()
        .map(|event| event.kind.to_string())
        .collect();
    kinds.sort();
    for delivery in &leased {
        delivered(f, delivery).await;
    }
    kinds
}

pub(super) async fn late_notifications_and_bounces_are_told_once(f: Fixture) {
    let row = EndpointRow {
        events: vec![EventFilter::of_tenant("*").expect("a filter")],
        ..endpoint(&f, "a.example", false)
    };
    let created = f.store.create_endpoint(&row, &secret(&f, Some(row.id)), 9).await;
    assert!(created.expect("commits"));
    let sent = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&sent)).await;
    f.advance(Duration::from_secs(3_601));
    let lease = f.lease().await.remove(0);
    for _ in 0..2 {
        f.store.postpone(f.now(), &lease, f.now()).await.expect("commits");
    }
    assert_eq!(kinds(&f).await, ["notification.expired"]);

    let mail = OutsideRow {
        channel: "email".parse().expect("a channel"),
        brings: Brings::Notification(sent.id),
        user: Some(f.user("ada")),
        step: 0,
        address: address("ada@example.org"),
        state: DeliveryState::Accepted,
        provider_id: Some("far".to_owned()),
        ..crate::endpoints::told(f.now(), &row, EventId::at(f.now()), f.now())
    };
    let text = OutsideRow {
        id: DeliveryId::at(f.now()),
        channel: "sms".parse().expect("a channel"),
        ..mail.clone()
    };
    f.store
        .open_work(&[mail.clone(), text.clone()], &[])
        .await
        .expect("commits");
    let bounce = News {
        tenant: f.tenant.clone(),
        about: About::Delivery(mail.id),
        says: Says::Bounced {
            hard: true,
            detail: Some("no such user".to_owned()),
        },
    };
    for _ in 0..2 {
        f.store
            .receive_news(f.now(), &mail.channel, std::slice::from_ref(&bounce))
            .await
            .expect("commits");
    }
    assert_eq!(kinds(&f).await, ["delivery.bounced", "delivery.dead"]);
    let news = News {
        tenant: f.tenant.clone(),
        about: About::Provider("far".to_owned()),
        says: Says::Failed("no such number".to_owned()),
    };
    f.store
        .receive_news(f.now(), &text.channel, &[news.clone(), news])
        .await
        .expect("commits");
    assert_eq!(kinds(&f).await, ["delivery.bounced", "delivery.dead"]);
}
