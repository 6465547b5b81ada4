//! Redrives and resends: what ended is tried again.

use std::{sync::Arc, time::Duration};

use carillon_domain::{DeliveryId, NotificationId, TenantId, ports::Operation};

use super::outside::settle;
use super::{fixture::Fixture, outside::*};
use crate::store::outside::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Redrives all dead letters; answers how many are pending again.
async fn redrive(f: &Fixture) -> u64 {
    let begun = f
        .store
        .begin_redrive(f.now(), &f.tenant, &DeadFilter::default())
        .await
        .expect("begins");
    while f
        .store
        .redrive_page(f.now(), &f.tenant, begun.id, 10)
        .await
        .expect("redrives")
    {}
    let row = f.store.redrive(&f.tenant, begun.id).await.expect("reads");
    row.expect("is there").done
}

async fn resend(f: &Fixture, id: DeliveryId) -> Resent {
    f.store.resend(f.now(), &f.tenant, id).await.expect("commits")
}

/// A notification's row, in a state.
async fn notification(f: &Fixture, id: NotificationId, state: &str) {
    run(
        f,
        format!(
            "INSERT INTO notifications (tenant, id, state, category, priority, content, targets, created_at, send_at, \
             expires_at) VALUES ('default', '{id}', '{state}', 'news', 'normal', '{{}}', '[]', 0, 0, 0)"
        ),
    )
    .await;
}

fn notification_of(row: &OutsideRow) -> NotificationId {
    match row.brings {
        Brings::Notification(id) => id,
        Brings::Event(_) => panic!("a notification"),
    }
}

/// A provider took it, and calls it so.
fn accepted(f: &Fixture, out: &Arc<LeasedDelivery>, provider_id: &str) -> Settlement {
    Settlement {
        provider_id: Some(provider_id.to_owned()),
        ..said(f, out, Verdict::Done { accepted: true })
    }
}

async fn fail_late(f: &Fixture, id: DeliveryId) {
    let news = News {
        tenant: f.tenant.clone(),
        about: About::Delivery(id),
        says: Says::Failed("it never arrived".to_owned()),
    };
    f.store
        .receive_news(f.now(), &webhook(), &[news])
        .await
        .expect("commits");
}

pub(super) async fn attempts_are_numbered_on_after_one_was_lost(f: Fixture) {
    let row = delivery(&f, "a.example");
    open(&f, std::slice::from_ref(&row)).await;
    assert_eq!(lease(&f, 1).await.len(), 1);
    // Its process dies, and its time to live ends before anybody tries again.
    f.advance(2 * HOUR);
    assert_eq!(
        f.store.expire_deliveries(f.now(), 10).await.expect("ends").len(),
        1
    );
    let (detail, attempts) = shown(&f, row.id).await;
    assert_eq!((detail.state, detail.attempts), (DeliveryState::Dead, 1));
    assert_eq!(outcomes(&attempts), ["lost"]);
    assert_eq!(redrive(&f).await, 1);
    let neighbour = OutsideRow {
        tenant: "acme".parse::<TenantId>().expect("a tenant"),
        ..delivery(&f, "b.example")
    };
    open(&f, std::slice::from_ref(&neighbour)).await;
    let out = lease(&f, 9).await;
    assert_eq!(out.len(), 2, "it and its neighbour");
    let own = out.iter().find(|out| out.id == row.id).expect("is out");
    assert_eq!((own.number(), own.token), (2, 1), "waits begin anew");
    settle(&f, &[said(&f, own, Verdict::Dead)]).await;
    assert_eq!(resend(&f, row.id).await, Resent::Done);
    let again = lease(&f, 9).await;
    assert_eq!(again[0].number(), 3);
    let (detail, attempts) = shown(&f, row.id).await;
    assert_eq!(
        (detail.attempts, outcomes(&attempts)),
        (3, vec!["lost", "rejected", "runs"])
    );
}

pub(super) async fn a_late_answer_of_before_a_redrive_is_refused(f: Fixture) {
    let row = delivery(&f, "a.example");
    open(&f, std::slice::from_ref(&row)).await;
    let hangs = lease(&f, 1).await.remove(0);
    f.advance(2 * HOUR);
    f.store.expire_deliveries(f.now(), 10).await.expect("ends");
    redrive(&f).await;
    let again = lease(&f, 1).await.remove(0);
    assert_eq!(hangs.token, again.token);
    let settled = settle(&f, &[said(&f, &hangs, DONE)]).await;
    assert_eq!(settled.refused, [(f.tenant.clone(), row.id)]);
    let key = |out: &LeasedDelivery| (f.tenant.clone(), row.id, out.number());
    let held = f
        .store
        .held(&webhook(), &[key(&hangs), key(&again)])
        .await
        .expect("reads");
    assert_eq!(
        held.iter().map(LeasedDelivery::number).collect::<Vec<_>>(),
        [again.number()]
    );
    let until = f.now().after(LEASE);
    let extended = f
        .store
        .extend_leases(&[hangs], f.now(), until)
        .await
        .expect("commits");
    assert!(extended.is_empty());
    let settled = settle(&f, &[said(&f, &again, Verdict::Dead)]).await;
    assert_eq!(settled.stale, 0);
    assert_eq!(state(&f, row.id).await, DeliveryState::Dead);
}

pub(super) async fn a_recall_gives_way_to_a_redrive_of_what_never_arrived(f: Fixture) {
    let row = delivery(&f, "a.example");
    open(&f, std::slice::from_ref(&row)).await;
    let out = lease(&f, 1).await.remove(0);
    settle(&f, &[accepted(&f, &out, "p-1")]).await;
    let work = WorkRow {
        earlier: 1,
        zone: None,
        ..WorkRow::of(&row, Arc::from(""), Operation::Recall)
    };
    f.store.open_work(&[], &[work]).await.expect("commits");
    assert_eq!(
        resend(&f, row.id).await,
        Resent::Conflict(NotResendable::Recalled)
    );
    let recalls = lease(&f, 1).await.remove(0);
    assert_eq!(recalls.operation, Operation::Recall);
    fail_late(&f, row.id).await;
    assert_eq!(state(&f, row.id).await, DeliveryState::Dead);
    assert_eq!(redrive(&f).await, 1);
    balanced(&f).await;
    let again = lease(&f, 1).await.remove(0);
    assert_eq!((again.operation, again.number()), (Operation::Deliver, 3));
    assert_eq!(settle(&f, &[said(&f, &recalls, DONE)]).await.stale, 1);
    settle(&f, &[said(&f, &again, DONE)]).await;
    assert_eq!(state(&f, row.id).await, DeliveryState::Delivered);
    let (_, attempts) = shown(&f, row.id).await;
    assert_eq!(outcomes(&attempts), ["accepted", "lost", "delivered"]);
}

pub(super) async fn what_is_sent_again_in_vain_stays_what_it_was(f: Fixture) {
    let rows = [
        delivery(&f, "a.example"),
        delivery(&f, "b.example"),
        delivery(&f, "c.example"),
    ];
    open(&f, &rows).await;
    let settlements: Vec<_> = lease(&f, 1).await.iter().map(|out| said(&f, out, DONE)).collect();
    settle(&f, &settlements).await;
    for row in &rows {
        assert_eq!(resend(&f, row.id).await, Resent::Done);
        assert_eq!(
            resend(&f, row.id).await,
            Resent::Conflict(NotResendable::State(DeliveryState::Pending))
        );
    }
    let out = lease(&f, 1).await;
    let of = |row: &OutsideRow| Arc::clone(out.iter().find(|out| out.id == row.id).expect("is out"));
    let settled = settle(
        &f,
        &[
            said(&f, &of(&rows[0]), Verdict::Dead),
            said(&f, &of(&rows[1]), Verdict::Done { accepted: true }),
        ],
    )
    .await;
    assert_eq!(
        settled.ended.len(),
        1,
        "nobody is told of the one that changed nothing"
    );
    f.advance(2 * HOUR);
    f.store.expire_deliveries(f.now(), 10).await.expect("ends");
    for row in &rows {
        assert_eq!(state(&f, row.id).await, DeliveryState::Delivered);
    }
    let (detail, attempts) = shown(&f, rows[0].id).await;
    assert_eq!(detail.reason.as_deref(), Some("not sent again: it said rejected"));
    assert_eq!(outcomes(&attempts), ["delivered", "rejected"]);
    assert_eq!(balanced(&f).await.dead, 0);
}

pub(super) async fn what_was_to_replace_still_does_and_nothing_else(f: Fixture) {
    let own = delivery(&f, "a.example");
    let replaces = OutsideRow {
        provider_id: Some("older".to_owned()),
        ..delivery(&f, "b.example")
    };
    let work = [
        WorkRow::of(&own, Arc::from(""), Operation::Deliver),
        WorkRow::of(&replaces, Arc::from(""), Operation::Replace),
    ];
    f.store
        .open_work(&[own.clone(), replaces.clone()], &work)
        .await
        .expect("commits");
    for out in lease(&f, 1).await {
        let settlement = if out.id == own.id {
            accepted(&f, &out, "p-1")
        } else {
            said(&f, &out, Verdict::Dead)
        };
        settle(&f, &[settlement]).await;
    }
    fail_late(&f, own.id).await;
    assert_eq!(redrive(&f).await, 2);
    for out in lease(&f, 1).await {
        let expected = if out.id == own.id {
            Operation::Deliver
        } else {
            Operation::Replace
        };
        assert_eq!(out.operation, expected);
    }
}

pub(super) async fn a_redrive_gives_the_first_time_to_live_again(f: Fixture) {
    let row = OutsideRow {
        expires_at: f.now().after(2 * HOUR),
        ..delivery(&f, "a.example")
    };
    open(&f, std::slice::from_ref(&row)).await;
    for _ in 0..3 {
        f.advance(200 * HOUR);
        f.store.expire_deliveries(f.now(), 10).await.expect("ends");
        assert_eq!(redrive(&f).await, 1);
        let (detail, _) = shown(&f, row.id).await;
        assert_eq!(detail.expires_at, Some(f.now().after(2 * HOUR)));
    }
}

pub(super) async fn what_its_sender_took_back_is_not_sent_again(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let settlements: Vec<_> = lease(&f, 1)
        .await
        .iter()
        .map(|out| said(&f, out, Verdict::Dead))
        .collect();
    settle(&f, &settlements).await;
    notification(&f, notification_of(&rows[0]), "cancelled").await;
    notification(&f, notification_of(&rows[1]), "planned").await;
    assert_eq!(
        resend(&f, rows[0].id).await,
        Resent::Conflict(NotResendable::Cancelled)
    );
    assert_eq!(redrive(&f).await, 1);
    let out = lease(&f, 9).await;
    assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [rows[1].id]);
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Dead);
}

pub(super) async fn work_that_cannot_be_read_is_a_dead_letter_and_in_nobodys_way(f: Fixture) {
    for late in [false, true] {
        let rows: Vec<_> = ["a.example", "a.example", "b.example"]
            .iter()
            .map(|host| delivery(&f, host))
            .collect();
        open(&f, &rows).await;
        run(
            &f,
            format!("UPDATE deliveries SET state = 'x' WHERE id = '{}'", rows[0].id),
        )
        .await;
        run(
            &f,
            "INSERT INTO lanes (tenant, channel, lane, strand, due_at) VALUES ('default', '?!', '', '', 0)"
                .to_owned(),
        )
        .await;
        if late {
            f.advance(2 * HOUR);
            let ended = f.store.expire_deliveries(f.now(), 10).await.expect("ends");
            assert_eq!(ended.len(), 2);
        } else {
            let out = lease(&f, 9).await;
            assert_eq!(out.len(), 2);
            let settlements: Vec<_> = out.iter().map(|out| said(&f, out, DONE)).collect();
            settle(&f, &settlements).await;
        }
        let (detail, _) = shown(&f, rows[0].id).await;
        assert_eq!(
            (detail.state, detail.reason.as_deref()),
            (DeliveryState::Dead, Some("the stored delivery cannot be read"))
        );
        assert_eq!(next_due(&f).await, None);
        run(&f, "DELETE FROM lanes WHERE channel = '?!'".to_owned()).await;
    }
}

pub(super) async fn what_was_turned_off_since_is_not_tried_any_more(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    for row in &rows {
        notification(&f, notification_of(row), "planned").await;
    }
    let out = lease(&f, 1).await;
    let of = |row: &OutsideRow| Arc::clone(out.iter().find(|out| out.id == row.id).expect("is out"));
    settle(
        &f,
        &[
            said(&f, &of(&rows[0]), Verdict::Again(f.now())),
            said(&f, &of(&rows[1]), Verdict::Dead),
        ],
    )
    .await;
    run(
        &f,
        format!(
            "INSERT INTO preferences (tenant, user_id, category, channel, enabled, at) \
             VALUES ('default', '{}', 'news', 'webhook', 0, 0)",
            f.user("ada")
        ),
    )
    .await;
    assert_eq!(redrive(&f).await, 1);
    assert!(lease(&f, 9).await.is_empty());
    for row in &rows {
        let (detail, attempts) = shown(&f, row.id).await;
        assert_eq!(
            (detail.state, detail.reason.as_deref(), attempts.len()),
            (DeliveryState::Skipped, Some("unsubscribed"), 1)
        );
    }
    // Another category's goes out.
    let other = delivery(&f, "c.example");
    open(&f, std::slice::from_ref(&other)).await;
    assert_eq!(lease(&f, 9).await.len(), 1);
    balanced(&f).await;
}

pub(super) async fn tenants_are_looked_at_in_turn_whatever_lanes_they_have(f: Fixture) {
    let tenants = ["acme", "many", "zeta"].map(|name| name.parse::<TenantId>().expect("a tenant"));
    for (tenant, lanes) in tenants.iter().zip([1, 30, 1]) {
        let rows: Vec<_> = (0..lanes)
            .map(|n| OutsideRow {
                tenant: tenant.clone(),
                ..delivery(&f, &format!("{n}.example"))
            })
            .collect();
        open(&f, &rows).await;
    }
    let look = async |after: Option<&TenantId>, most| {
        f.store
            .due_lanes_in_turn(f.now(), &[webhook()], after, most)
            .await
            .expect("reads")
    };
    let counts = |due: &[DueLane]| {
        tenants
            .clone()
            .map(|tenant| due.iter().filter(|lane| lane.key.tenant == tenant).count())
    };
    let (due, last) = look(None, (2, 5)).await;
    assert_eq!((counts(&due), last.as_ref()), ([1, 5, 0], Some(&tenants[1])));
    let (due, last) = look(last.as_ref(), (2, 5)).await;
    assert_eq!((counts(&due), last), ([0, 0, 1], None), "and then it begins anew");
}

pub(super) async fn news_that_overtakes_the_outcome_is_kept(f: Fixture) {
    let rows: Vec<_> = ["a.example", "b.example", "c.example"]
        .iter()
        .map(|host| delivery(&f, host))
        .collect();
    open(&f, &rows).await;
    let out = lease(&f, 1).await;
    let of = |row: &OutsideRow| Arc::clone(out.iter().find(|out| out.id == row.id).expect("is out"));
    fail_late(&f, rows[0].id).await;
    for row in &rows[1..] {
        let news = News {
            tenant: f.tenant.clone(),
            about: About::Delivery(row.id),
            says: Says::Delivered,
        };
        f.store
            .receive_news(f.now(), &webhook(), &[news])
            .await
            .expect("commits");
        assert_eq!(state(&f, row.id).await, DeliveryState::Pending);
    }
    settle(
        &f,
        &[
            accepted(&f, &of(&rows[0]), "p-1"),
            said(&f, &of(&rows[1]), Verdict::Again(f.now())),
        ],
    )
    .await;
    let (detail, _) = shown(&f, rows[0].id).await;
    assert_eq!(
        (detail.state, detail.reason.as_deref()),
        (DeliveryState::Dead, Some("it never arrived"))
    );
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Delivered);
    // The third one's process ended: what it sent arrived nevertheless, and is not sent twice.
    f.advance(2 * LEASE);
    assert!(lease(&f, 9).await.is_empty());
    let (detail, attempts) = shown(&f, rows[2].id).await;
    assert_eq!(
        (detail.state, outcomes(&attempts)),
        (DeliveryState::Delivered, vec!["lost"])
    );
    // News of an attempt counts for no later one.
    assert_eq!(redrive(&f).await, 1);
    let again = lease(&f, 1).await.remove(0);
    settle(&f, &[said(&f, &again, DONE)]).await;
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Delivered);
    balanced(&f).await;
}

pub(super) async fn what_arrives_while_it_is_withdrawn_is_taken_back_or_stands(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let out = lease(&f, 1).await;
    run(
        &f,
        "UPDATE deliveries SET state = 'cancelled', reason = 'cancelled' WHERE state = 'pending'".to_owned(),
    )
    .await;
    for (row, recalls) in rows.iter().zip([true, false]) {
        let out = out.iter().find(|out| out.id == row.id).expect("is out");
        let settlement = Settlement {
            recalls,
            ..accepted(&f, out, "p-1")
        };
        assert_eq!(settle(&f, &[settlement]).await.ended.len(), 1);
        assert_eq!(state(&f, row.id).await, DeliveryState::Accepted);
    }
    let (detail, _) = shown(&f, rows[1].id).await;
    assert_eq!(detail.reason.as_deref(), Some("not_recallable"));
    let recall = lease(&f, 9).await;
    assert_eq!(recall.len(), 1);
    assert_eq!(
        (
            recall[0].operation,
            recall[0].provider_id.as_deref(),
            recall[0].number()
        ),
        (Operation::Recall, Some("p-1"), 2)
    );
    settle(&f, &[said(&f, &recall[0], DONE)]).await;
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Recalled);
    balanced(&f).await;
}

pub(super) async fn a_lease_of_what_was_withdrawn_is_not_extended(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let out = lease(&f, 1).await;
    run(
        &f,
        format!(
            "UPDATE deliveries SET state = 'cancelled' WHERE id = '{}'",
            rows[0].id
        ),
    )
    .await;
    let extended = f
        .store
        .extend_leases(&out, f.now(), f.now().after(LEASE))
        .await
        .expect("commits");
    assert_eq!(extended, [(f.tenant.clone(), rows[1].id)]);
}

pub(super) async fn dead_letters_of_one_endpoint_are_redriven_alone(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let dead: Vec<_> = lease(&f, 1)
        .await
        .iter()
        .map(|out| said(&f, out, Verdict::Dead))
        .collect();
    settle(&f, &dead).await;
    let filter = DeadFilter {
        address: Some(rows[1].address.clone()),
        ..DeadFilter::default()
    };
    let query = DeadQuery {
        filter: filter.clone(),
        before: None,
        limit: 9,
    };
    let listed = f.store.dead_letters(&f.tenant, &query).await.expect("reads");
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [rows[1].id]);
    let begun = f.store.begin_redrive(f.now(), &f.tenant, &filter).await;
    let begun = begun.expect("begins");
    assert_eq!(begun.total, 1);
    let more = f.store.redrive_page(f.now(), &f.tenant, begun.id, 10).await;
    assert!(!more.expect("redrives"));
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Dead);
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Pending);
}

pub(super) async fn an_address_that_looks_like_an_endpoint_is_none(f: Fixture) {
    let endpoint = endpoint(&f, true).await;
    let row = OutsideRow {
        channel: "sms".parse().expect("a channel"),
        address: address(&endpoint.to_string()),
        lane: Arc::from("sms"),
        state: DeliveryState::Dead,
        ..delivery(&f, "a.example")
    };
    open(&f, std::slice::from_ref(&row)).await;
    assert_eq!(resend(&f, row.id).await, Resent::Done);
    let lanes = f.store.open_lanes(&f.tenant, 9).await.expect("reads");
    let keys: Vec<_> = lanes
        .iter()
        .map(|lane| (&*lane.key.lane, &*lane.key.strand))
        .collect();
    assert_eq!(keys, [("sms", "")]);
    balanced(&f).await;
}

pub(super) async fn news_of_what_waits_for_another_attempt_counts_at_once(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let out = lease(&f, 1).await;
    let of = |row: &OutsideRow| Arc::clone(out.iter().find(|out| out.id == row.id).expect("is out"));
    let later = f.now().after(6 * HOUR / 8);
    settle(&f, &[said(&f, &of(&rows[0]), Verdict::Again(later))]).await;
    for row in &rows {
        let news = News {
            tenant: f.tenant.clone(),
            about: About::Delivery(row.id),
            says: Says::Delivered,
        };
        let noted = f.store.receive_news(f.now(), &webhook(), &[news]).await;
        noted.expect("commits");
    }
    assert_eq!(next_due(&f).await, Some(f.now()));
    assert!(lease(&f, 9).await.is_empty(), "nothing is sent once more");
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Delivered);
    assert_eq!(
        state(&f, rows[1].id).await,
        DeliveryState::Pending,
        "an attempt runs, and has its say"
    );
    settle(&f, &[said(&f, &of(&rows[1]), Verdict::Dead)]).await;
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Delivered);
    balanced(&f).await;
}
