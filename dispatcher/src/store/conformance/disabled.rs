//! Endpoints that are told nothing any more, and who hears of it.

use std::{sync::Arc, time::Duration};

use carillon_domain::{EventId, NotificationId, ports};
use serde_json::{Value, json};

use super::{
    endpoints::{delivered, endpoint, leased, made, secret, told},
    fixture::Fixture,
};
use crate::{
    events::EventFilter,
    store::{endpoints::*, outside::*},
};

/// What an attempt to tell the first one that is due says.
async fn said(f: &Fixture, outcome: &'static str, verdict: Verdict) -> Settled {
    let out = leased(f).await;
    let settlement = Settlement {
        delivery: Arc::clone(&out[0]),
        ended_at: f.now(),
        outcome,
        status: Some(500),
        reason: Some("it is ill".to_owned()),
        excerpt: None,
        provider_id: None,
        verdict,
        is_sent: true,
        recalls: false,
    };
    f.store.settle(f.now(), &[settlement]).await.expect("commits")
}

async fn shown(f: &Fixture, row: &EndpointRow) -> EndpointRow {
    let found = f.store.endpoint(f.now(), &f.tenant, row.id).await.expect("reads");
    found.expect("is there").0
}

pub(super) async fn an_endpoint_that_only_fails_is_disabled_and_the_others_are_told(f: Fixture) {
    let day = Duration::from_secs(86_400);
    let row = made(&f, "a.example", true).await;
    told(&f, &row).await;
    let first = f.now();
    said(&f, "retry", Verdict::Again(first)).await;
    assert_eq!(shown(&f, &row).await.failing_since, Some(first));
    said(&f, "delivered", Verdict::Done { accepted: false }).await;
    assert_eq!(shown(&f, &row).await.failing_since, None);

    let other = EndpointRow {
        events: vec![EventFilter::of_tenant("endpoint.*").expect("a filter")],
        ..endpoint(&f, "b.example", false)
    };
    let created = f
        .store
        .create_endpoint(&other, &secret(&f, Some(other.id)), 100)
        .await;
    assert!(created.expect("commits"));
    // Failures far apart are none that go on.
    told(&f, &row).await;
    said(&f, "retry", Verdict::Again(f.now())).await;
    f.advance(6 * day);
    let mut again = told(&f, &row).await;
    f.store.expire_deliveries(f.now(), 9).await.expect("commits");
    let since = f.now();
    let mut settled = said(&f, "retry", Verdict::Again(f.now())).await;
    assert!(settled.disabled.is_empty());
    assert_eq!(shown(&f, &row).await.failing_since, Some(since));
    for _ in 0..5 {
        assert!(settled.disabled.is_empty());
        f.advance(day);
        // Its time to live is longer than the tests' events have.
        again = told(&f, &row).await;
        f.store.expire_deliveries(f.now(), 9).await.expect("commits");
        settled = said(&f, "retry", Verdict::Again(f.now())).await;
    }
    assert_eq!(shown(&f, &row).await.failing_since, Some(since));
    assert_eq!(settled.disabled.len(), 1);
    assert_eq!(settled.disabled[0].1, row.id);
    let (detail, _) = f
        .store
        .delivery(&f.tenant, again)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(shown(&f, &row).await.state, EndpointState::Disabled);
    assert_eq!(detail.state, DeliveryState::Pending, "until it is looked for");
    let ended = f
        .store
        .end_closed(f.now(), f.now().before(day), 9)
        .await
        .expect("commits");
    assert_eq!(ended.iter().map(|end| end.id).collect::<Vec<_>>(), [again]);
    let out = leased(&f).await;
    assert_eq!(out.len(), 1, "the other one is told");
    assert_eq!(out[0].address.as_str(), other.id.to_string());
    let sources = f.store.load_work(f.now(), &out).await.expect("reads");
    let Brings::Event(event) = out[0].brings else {
        panic!("an event");
    };
    assert_eq!(
        &*sources.events[&(f.tenant.clone(), event)].kind,
        "endpoint.disabled"
    );
    // A notification says so as well, for those who have no other endpoint.
    let notice = noticed(&f).await;
    assert_eq!(notice["targets"], json!([{"topic": "carillon.endpoints"}]));
    assert_eq!(notice["content"]["data"]["endpoint_id"], row.id.to_string());
}

/// The one notification that is accepted, of the category that tells of endpoints.
async fn noticed(f: &Fixture) -> Value {
    let jobs = f.jobs(&f.lease().await).await;
    assert_eq!(jobs.len(), 1);
    let notification = &jobs[0].notification;
    let content = serde_json::to_value(&notification.content).expect("JSON");
    assert_eq!(notification.category.as_str(), "carillon.endpoints");
    json!({
        "targets": serde_json::to_value(&notification.targets).expect("JSON"),
        "content": serde_json::from_str::<Value>(content.as_str().expect("text")).expect("JSON"),
    })
}

pub(super) async fn whose_endpoint_is_gone_hears_of_it_in_a_notification(f: Fixture) {
    let row = EndpointRow {
        user: Some(f.user("ada")),
        events: vec![EventFilter::created()],
        ..endpoint(&f, "a.example", false)
    };
    let created = f.store.create_endpoint(&row, &secret(&f, Some(row.id)), 9).await;
    assert!(created.expect("commits"));
    let delivery = OutsideRow {
        brings: Brings::Notification(NotificationId::at(f.now())),
        user: Some(f.user("ada")),
        name: Some("ada".parse().expect("a name")),
        ..crate::endpoints::told(
            f.now(),
            &row,
            EventId::at(f.now()),
            f.now().after(Duration::from_secs(60)),
        )
    };
    let work = WorkRow::of(&delivery, strand(row.id, false), ports::Operation::Deliver);
    f.store
        .open_work(std::slice::from_ref(&delivery), &[work])
        .await
        .expect("commits");
    assert_eq!(said(&f, "gone", Verdict::Gone).await.disabled.len(), 1);
    assert_eq!(noticed(&f).await["targets"], json!([{"user": "ada"}]));
}

pub(super) async fn who_disables_or_deletes_an_endpoint_tells_the_others(f: Fixture) {
    let (first, second) = (
        made(&f, "a.example", false).await,
        made(&f, "b.example", false).await,
    );
    let other = EndpointRow {
        events: vec![EventFilter::of_tenant("endpoint.*").expect("a filter")],
        ..endpoint(&f, "c.example", true)
    };
    let created = f
        .store
        .create_endpoint(&other, &secret(&f, Some(other.id)), 9)
        .await;
    assert!(created.expect("commits"));
    let disable = EndpointChange {
        state: Some(EndpointState::Disabled),
        ..EndpointChange::default()
    };
    for _ in 0..2 {
        let moved = f
            .store
            .update_endpoint(f.now(), &f.tenant, first.id, &disable, 9)
            .await;
        assert!(moved.expect("commits").is_some());
        f.advance(Duration::from_millis(1));
    }
    let delete = async |id| {
        let deleted = f.store.delete_endpoint(f.now(), &f.tenant, id).await;
        deleted.expect("commits")
    };
    assert!(delete(second.id).await && !delete(second.id).await);
    assert!(delete(first.id).await, "of which they know");
    for (id, reason) in [(first.id, "disabled by request"), (second.id, "deleted")] {
        let out = leased(&f).await;
        assert_eq!(out.len(), 1, "the other one is told once, in order");
        assert_eq!(out[0].address.as_str(), other.id.to_string());
        let sources = f.store.load_work(f.now(), &out).await.expect("reads");
        let body = &sources.events.values().next().expect("an event").body;
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["type"], "endpoint.disabled");
        assert_eq!(body["data"], json!({"endpoint_id": id, "reason": reason}));
        delivered(&f, &out[0]).await;
    }
    assert!(leased(&f).await.is_empty());
    assert!(f.lease().await.is_empty(), "whoever did it knows");
}
