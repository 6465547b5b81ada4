//! What the far end tells of deliveries, and what endpoints are told of it.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    AckKind, Address, ChannelKind, DeliveryId, ExternalUserId, NotificationId, PlainAddress, TenantId,
};
use serde_json::{Value, json};

use super::{
    endpoints,
    fixture::{Fixture, plan_of},
    outside::{open, settle, *},
};
use crate::{
    events::EventFilter,
    store::{endpoints::EndpointRow, outside::*, *},
};

fn sms() -> ChannelKind {
    "sms".parse().expect("a channel")
}

fn bounced(hard: bool) -> Says {
    Says::Bounced {
        hard,
        detail: Some("5.1.1 no such user".to_owned()),
    }
}

const REASON: &str = "bounced: 5.1.1 no such user";

async fn tell_over(f: &Fixture, channel: &ChannelKind, id: DeliveryId, says: Says) -> NewsNoted {
    let news = News {
        tenant: f.tenant.clone(),
        about: About::Delivery(id),
        says,
    };
    f.store
        .receive_news(f.now(), channel, &[news])
        .await
        .expect("commits")
}

async fn tell(f: &Fixture, id: DeliveryId, says: Says) -> NewsNoted {
    tell_over(f, &webhook(), id, says).await
}

async fn suppressed(f: &Fixture) -> Vec<SuppressionRow> {
    let query = SuppressionQuery {
        channel: None,
        after: None,
        limit: 10,
    };
    f.store.suppressions(&f.tenant, &query).await.expect("reads")
}

/// State and reason.
async fn stands(f: &Fixture, id: DeliveryId) -> (DeliveryState, Option<String>) {
    let (detail, _) = shown(f, id).await;
    (detail.state, detail.reason)
}

fn dead() -> (DeliveryState, Option<String>) {
    (DeliveryState::Dead, Some(REASON.to_owned()))
}

async fn redrive(f: &Fixture) {
    let begun = f
        .store
        .begin_redrive(f.now(), &f.tenant, &DeadFilter::default())
        .await
        .expect("begins");
    while f
        .store
        .redrive_page(f.now(), &f.tenant, begun.id, 10)
        .await
        .expect("goes on")
    {}
}

pub(super) async fn a_bounce_ends_its_delivery_and_suppresses_a_dead_address(f: Fixture) {
    let rows: Vec<_> = ["full.example", "dead.example", "copy.example"]
        .iter()
        .map(|host| OutsideRow {
            state: DeliveryState::Accepted,
            ..delivery(&f, host)
        })
        .collect();
    open(&f, &rows).await;
    let noted = tell(&f, rows[0].id, bounced(false)).await;
    assert_eq!(
        noted.noted[0].as_ref().map(|noted| &noted.address),
        Some(&rows[0].address)
    );
    assert_eq!((noted.ended.len(), stands(&f, rows[0].id).await), (1, dead()));
    assert!(
        suppressed(&f).await.is_empty(),
        "a mailbox that is full is not dead"
    );
    for first in [true, false] {
        let noted = tell(&f, rows[1].id, bounced(true)).await;
        assert_eq!(
            noted.ended.len(),
            usize::from(first),
            "taken in twice, it is as once"
        );
        assert_eq!(stands(&f, rows[1].id).await, dead());
    }
    let list = suppressed(&f).await;
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0].address, &*list[0].reason, list[0].delivery),
        (&rows[1].address, "bounced", Some(rows[1].id))
    );
    let noted = tell(&f, rows[2].id, Says::CopyBounced { detail: None }).await;
    assert!(noted.ended.is_empty());
    assert_eq!(
        stands(&f, rows[2].id).await,
        (DeliveryState::Accepted, None),
        "of a copy that went on, the first one stands"
    );
    let other: TenantId = "other".parse().expect("a tenant");
    let foreign = News {
        tenant: other,
        about: About::Delivery(rows[2].id),
        says: bounced(true),
    };
    let noted = f.store.receive_news(f.now(), &webhook(), &[foreign]).await;
    assert_eq!(noted.expect("reads").noted, [None]);
    // Redriven, the suppressed one is skipped until its address is lifted, and then it is tried.
    redrive(&f).await;
    assert_eq!(lease(&f, 9).await.len(), 1);
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Skipped);
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Pending);
    balanced(&f).await;
}

pub(super) async fn suppressed_addresses_are_known_by_their_reasons(f: Fixture) {
    let to = |to: &str| PlainAddress {
        channel: sms(),
        to: to.parse().expect("an address"),
    };
    let row = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: sms(),
        address: to("+2").to,
        reason: "gone".into(),
        detail: None,
        delivery: None,
        at: f.now(),
    };
    f.store.suppress(&row).await.expect("writes");
    let asked = [to("+1"), to("+2"), to("+3")];
    let reasons = f.store.suppressed(&f.tenant, &asked).await.expect("reads");
    assert_eq!(reasons, [None, Some("gone".to_owned()), None]);
    let other: TenantId = "other".parse().expect("a tenant");
    let reasons = f.store.suppressed(&other, &asked).await.expect("reads");
    assert_eq!(reasons, [None, None, None]);
}

pub(super) async fn an_email_is_found_by_its_id_whose_ever_it_is(f: Fixture) {
    let acme: TenantId = "acme".parse().expect("a tenant");
    let email: ChannelKind = "email".parse().expect("a channel");
    let theirs = OutsideRow {
        tenant: acme.clone(),
        channel: email.clone(),
        ..delivery(&f, "a.example")
    };
    let hook = delivery(&f, "b.example");
    open(&f, &[theirs.clone(), hook.clone()]).await;
    let found = async |id| f.store.email_tenant(id).await.expect("reads");
    assert_eq!(found(theirs.id).await, Some(acme));
    assert_eq!(found(hook.id).await, None, "no email");
    assert_eq!(found(DeliveryId::at(f.now())).await, None);
}

pub(super) async fn a_bounce_before_the_settlement_counts_whatever_the_attempt_says(f: Fixture) {
    let hosts = ["a.example", "b.example", "c.example", "d.example", "e.example"];
    let rows = hosts.map(|host| delivery(&f, host));
    open(&f, &rows).await;
    let out = lease(&f, 1).await;
    let of = |index: usize| out.iter().find(|out| out.id == rows[index].id).expect("is out");
    run(
        &f,
        format!(
            "UPDATE deliveries SET state = 'cancelled', reason = 'cancelled' WHERE id = '{}'",
            rows[3].id
        ),
    )
    .await;
    for row in &rows {
        tell(&f, row.id, bounced(false)).await;
    }
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Pending);
    let settled = settle(
        &f,
        &[
            said(&f, of(0), Verdict::Done { accepted: true }),
            said(&f, of(1), Verdict::Again(f.now())),
            said(&f, of(2), Verdict::Dead),
            said(&f, of(3), Verdict::Done { accepted: true }),
        ],
    )
    .await;
    assert_eq!(settled.ended.len(), 3);
    assert!(settled.ended.iter().all(|end| end.bounced));
    for row in &rows[..3] {
        assert_eq!(stands(&f, row.id).await, dead());
    }
    assert_eq!(
        state(&f, rows[3].id).await,
        DeliveryState::Cancelled,
        "what came back did not arrive"
    );
    // The last one's process ended: what it sent came back, and is not sent again.
    f.advance(2 * LEASE);
    assert!(lease(&f, 9).await.is_empty());
    assert_eq!(stands(&f, rows[4].id).await, dead());
    // Nothing that comes later moves it back.
    let late = settle(&f, &[said(&f, of(4), DONE)]).await;
    assert_eq!(late.stale, 1);
    tell(&f, rows[4].id, Says::Delivered).await;
    assert_eq!(stands(&f, rows[4].id).await, dead());
    // A redrive begins anew.
    redrive(&f).await;
    let again = lease(&f, 9).await;
    assert_eq!(again.len(), 4);
    let again: Vec<_> = again.iter().map(|out| said(&f, out, DONE)).collect();
    settle(&f, &again).await;
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Delivered);
    balanced(&f).await;
}

/// An endpoint that is told everything.
async fn listening(f: &Fixture) {
    let row = EndpointRow {
        events: vec![EventFilter::of_tenant("*").expect("a filter")],
        ..endpoints::endpoint(f, "ours.example", false)
    };
    let secret = endpoints::secret(f, Some(row.id));
    let created = f.store.create_endpoint(&row, &secret, 9).await;
    assert!(created.expect("commits"));
}

/// What it was told since, by kind: `data` without what has an id of its own.
async fn told(f: &Fixture) -> Vec<(String, Value)> {
    let leased = endpoints::leased(f).await;
    let sources = f.store.load_work(f.now(), &leased).await.expect("reads");
    let mut told: Vec<_> = sources
        .events
        .values()
        .map(|event| {
            let body: Value = serde_json::from_str(&event.body).expect("JSON");
            (event.kind.to_string(), body["data"].clone())
        })
        .collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    for delivery in &leased {
        endpoints::delivered(f, delivery).await;
    }
    told
}

/// Plans a notification that goes out over a channel alone: to a user of this name, and to a plain address.
async fn planned(
    f: &Fixture,
    name: &ExternalUserId,
    plain: &PlainAddress,
) -> (NotificationId, [DeliveryId; 2]) {
    let row = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&row)).await;
    let outgoing = |address: &Address| Outgoing {
        channel: sms(),
        address: address.clone(),
        device: None,
        lane: Arc::from("sms"),
        strand: Arc::from(""),
        skip: None,
        active_until: None,
        replaces: false,
    };
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs[0].plan = Arc::new(plan_of(&["sms"]));
    let users = &mut jobs[0].users;
    users[0].name = Some(name.clone());
    users[0].in_app = false;
    users[0].outside = vec![outgoing(&"+1".parse().expect("an address"))];
    users.push(Addressee {
        in_app: false,
        plain: Some(plain.clone()),
        outside: vec![outgoing(&plain.to)],
        ..Addressee::in_app(f.user("plain"))
    });
    f.store.plan(f.now(), &jobs).await.expect("plans");
    let mut ids = Vec::new();
    for user in ["ada", "plain"] {
        ids.push(f.recipient(row.id, user).await.deliveries[0].id);
    }
    (row.id, [ids[0], ids[1]])
}

fn plain() -> PlainAddress {
    PlainAddress {
        channel: sms(),
        to: "+2".parse().expect("an address"),
    }
}

fn answered(id: NotificationId, action: EntryAction) -> Vec<Operation> {
    vec![Operation::Entry(Which::Notification(id), action)]
}

pub(super) async fn what_is_answered_without_an_inbox_is_kept_once(f: Fixture) {
    let (id, [hers, theirs]) = planned(&f, &"ada".parse().expect("a name"), &plain()).await;
    for says in [Says::Seen, Says::Read, Says::Read] {
        tell_over(&f, &sms(), hers, says).await;
        f.advance(Duration::from_secs(1));
    }
    let detail = f.recipient(id, "ada").await;
    let kinds: Vec<_> = detail.deliveries[0]
        .receipts
        .iter()
        .map(|receipt| &*receipt.kind)
        .collect();
    assert_eq!(kinds, ["seen", "read"], "each once");
    assert!(detail.receipts.is_empty(), "an answer is the mailboxes' matter");

    let at = f.now();
    for (action, result) in [
        (EntryAction::Seen, OperationResult::Ok),
        (EntryAction::Seen, OperationResult::Unchanged),
        (EntryAction::Read, OperationResult::Ok),
        (EntryAction::Read, OperationResult::Unchanged),
        (EntryAction::Archive, OperationResult::Ok),
        (
            EntryAction::Snooze {
                until: f.now().after(Duration::from_secs(60)),
            },
            OperationResult::Unchanged,
        ),
    ] {
        let reply = f.act_on("ada", Some("phone"), answered(id, action)).await;
        assert_eq!(reply.results, [result]);
        f.advance(Duration::from_secs(1));
    }
    let detail = f.recipient(id, "ada").await;
    assert_eq!(detail.state, RecipientState::Acknowledged);
    let first = detail.acknowledgement.expect("acknowledged");
    assert_eq!(
        (first.kind, first.at),
        (AckKind::Read, at.after(Duration::from_secs(2))),
        "the first answer stands"
    );
    let kinds: Vec<_> = detail.receipts.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["seen", "read", "dismissed"]);
    assert!(f.log("ada").await.is_empty(), "no mailbox changed");

    let detail = f.recipient(id, "plain").await;
    assert_eq!(detail.state, RecipientState::Open, "what one answers is his own");
    tell_over(&f, &sms(), theirs, Says::Failed("no such number".to_owned())).await;
    let detail = f.recipient(id, "plain").await;
    assert_eq!(detail.receipts[0].kind, "failed");
    assert_eq!(
        detail.deliveries[0].receipts[0].reason.as_deref(),
        Some("no such number")
    );
}

pub(super) async fn events_name_the_user_as_the_tenant_does(f: Fixture) {
    listening(&f).await;
    let name: ExternalUserId = "ada".parse().expect("a name");
    let (id, [hers, theirs]) = planned(&f, &name, &plain()).await;
    told(&f).await;
    run(
        &f,
        "UPDATE deliveries SET state = 'accepted' WHERE channel = 'sms'".to_owned(),
    )
    .await;
    tell_over(&f, &sms(), hers, Says::Delivered).await;
    f.act("ada", answered(id, EntryAction::Read)).await;
    let at = json!(f.now());
    let expected = [
        (
            "delivery.delivered".to_owned(),
            json!({"delivery_id": hers, "notification_id": id, "user": "ada", "channel": "sms", "address": "+1",
                "state": "delivered", "reason": null}),
        ),
        (
            "notification.acknowledged".to_owned(),
            json!({"notification_id": id, "user": "ada", "acknowledgement": {"kind": "read", "at": at}}),
        ),
    ];
    assert_eq!(told(&f).await, expected);

    tell_over(&f, &sms(), theirs, Says::Failed("no such number".to_owned())).await;
    f.act("plain", answered(id, EntryAction::Read)).await;
    let lost = json!({"delivery_id": theirs, "notification_id": id, "channel": "sms", "address": "+2",
        "state": "dead", "reason": "no such number"});
    let expected = [
        ("delivery.bounced".to_owned(), lost.clone()),
        ("delivery.dead".to_owned(), lost),
        (
            "notification.acknowledged".to_owned(),
            json!({"notification_id": id, "address": {"channel": "sms", "to": "+2"},
                "acknowledgement": {"kind": "read", "at": at}}),
        ),
    ];
    assert_eq!(told(&f).await, expected);

    // In the inbox it is the same.
    let row = f.notification(&["ada"]);
    let id = f.send(std::slice::from_ref(&row)).await[0];
    f.act("ada", answered(id, EntryAction::Read)).await;
    let all = told(&f).await;
    assert_eq!(all[0].0, "notification.acknowledged");
    assert_eq!(all[0].1["user"], "ada");
}

pub(super) async fn events_forget_who_is_erased(f: Fixture) {
    listening(&f).await;
    let name: ExternalUserId = "ada".parse().expect("a name");
    let (id, [hers, _]) = planned(&f, &name, &plain()).await;
    told(&f).await;
    run(
        &f,
        "UPDATE deliveries SET state = 'accepted' WHERE channel = 'sms'".to_owned(),
    )
    .await;
    tell_over(&f, &sms(), hers, Says::Delivered).await;
    f.act("ada", answered(id, EntryAction::Read)).await;
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: Some(name),
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    let told = told(&f).await;
    assert_eq!(told.len(), 2);
    for (kind, data) in told {
        assert_eq!(data.get("user"), Some(&Value::Null), "{kind}: {data}");
        assert!(!data.to_string().contains("ada"), "{kind}: {data}");
    }
}
