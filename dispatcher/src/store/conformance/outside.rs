use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::{
    Address, ChannelKind, Content, DeliveryId, EndpointId, EventId, NotificationId, TenantId, Timestamp,
    ports,
};
use carillon_sql::Database;
use sqlx::AssertSqlSafe;

use super::fixture::Fixture;
use crate::store::outside::*;

/// How long the tests lease.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How long the tests park.
pub(super) const PARK: Duration = Duration::from_secs(2);

pub(super) fn webhook() -> ChannelKind {
    "webhook".parse().expect("a channel")
}

/// A delivery of a notification that nobody planned, to a host.
pub(super) fn delivery(f: &Fixture, host: &str) -> OutsideRow {
    let now = f.now();
    OutsideRow {
        tenant: f.tenant.clone(),
        id: DeliveryId::at(now),
        brings: Brings::Notification(NotificationId::at(now)),
        user: Some(f.user("ada")),
        step: 0,
        name: None,
        channel: webhook(),
        address: address(&format!("https://{host}/hook")),
        device: None,
        lane: Arc::from(format!("{host}:443")),
        locale: None,
        state: DeliveryState::Pending,
        reason: None,
        provider_id: None,
        collapse: None,
        created_at: now,
        expires_at: now.after(Duration::from_secs(3_600)),
    }
}

pub(super) fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// Opens deliveries the way that planning does.
pub(super) async fn open(f: &Fixture, rows: &[OutsideRow]) {
    open_in(f, rows, "").await;
}

async fn open_in(f: &Fixture, rows: &[OutsideRow], strand: &str) {
    let work: Vec<_> = rows
        .iter()
        .filter(|row| row.state == DeliveryState::Pending)
        .map(|row| WorkRow::of(row, Arc::from(strand), ports::Operation::Deliver))
        .collect();
    f.store.open_work(rows, &work).await.expect("commits");
}

pub(super) async fn lease(f: &Fixture, most: u32) -> Vec<Arc<LeasedDelivery>> {
    handed(f, most).await.leased.into_iter().map(Arc::new).collect()
}

/// Leases from every lane that is due.
pub(super) async fn handed(f: &Fixture, most: u32) -> Handed {
    let due = f
        .store
        .due_lanes(f.now(), &[webhook()], 1_000)
        .await
        .expect("reads");
    let picks: Vec<_> = due
        .into_iter()
        .map(|due| LanePick {
            key: due.key,
            limit: most,
        })
        .collect();
    let (until, again) = (f.now().after(LEASE), f.now().after(PARK));
    f.store
        .lease_deliveries(f.now(), &picks, until, again)
        .await
        .expect("leases")
}

pub(super) fn said(f: &Fixture, delivery: &Arc<LeasedDelivery>, verdict: Verdict) -> Settlement {
    let outcome = match verdict {
        Verdict::Done { accepted: false } => "delivered",
        Verdict::Done { accepted: true } => "accepted",
        Verdict::Again(_) => "retry",
        Verdict::Dead => "rejected",
        Verdict::Gone => "gone",
        Verdict::Skipped => "skipped",
        Verdict::Unsent => "unsent",
    };
    Settlement {
        delivery: Arc::clone(delivery),
        ended_at: f.now(),
        outcome,
        status: Some(500),
        reason: Some(format!("it said {outcome}")),
        excerpt: Some("oops".to_owned()),
        provider_id: None,
        verdict,
        is_sent: true,
        recalls: false,
    }
}

pub(super) const DONE: Verdict = Verdict::Done { accepted: false };

pub(super) async fn settle(f: &Fixture, settlements: &[Settlement]) -> Settled {
    f.store.settle(f.now(), settlements).await.expect("commits")
}

pub(super) async fn shown(f: &Fixture, id: DeliveryId) -> (OutsideDetail, Vec<AttemptDetail>) {
    let shown = f.store.delivery(&f.tenant, id).await.expect("reads");
    shown.expect("is there")
}

pub(super) async fn state(f: &Fixture, id: DeliveryId) -> DeliveryState {
    shown(f, id).await.0.state
}

pub(super) fn outcomes(attempts: &[AttemptDetail]) -> Vec<&str> {
    attempts
        .iter()
        .map(|attempt| attempt.outcome.as_deref().unwrap_or("runs"))
        .collect()
}

pub(super) async fn next_due(f: &Fixture) -> Option<Timestamp> {
    f.store.next_lane_due(&[webhook()]).await.expect("reads")
}

/// States add up, and everything pending has work.
pub(super) async fn balanced(f: &Fixture) -> OutsideTally {
    let tally = f.store.tally_outside().await.expect("counts");
    assert_eq!(tally.stranded, 0, "{tally:?}");
    tally
}

/// Runs a statement of the test's own.
pub(super) async fn run(f: &Fixture, statement: String) {
    match &f.database {
        Database::Sqlite(sqlite) => {
            let mut tx = sqlite.begin_system("a test prepares").await.expect("begins");
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *tx)
                .await
                .expect("runs");
            tx.commit().await.expect("commits");
        }
        Database::Postgres(postgres) => {
            let mut tx = postgres.begin_system("a test prepares").await.expect("begins");
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *tx)
                .await
                .expect("runs");
            tx.commit().await.expect("commits");
        }
    }
}

/// A registered endpoint.
pub(super) async fn endpoint(f: &Fixture, fifo: bool) -> EndpointId {
    let id = EndpointId::at(f.now());
    run(
        f,
        format!(
            "INSERT INTO endpoints (tenant, id, user_id, url, lane, events, fifo, state, created_at, updated_at) \
             VALUES ('default', '{id}', '', 'https://a.example/', 'a.example:443', '[]', {}, 'enabled', 0, 0)",
            i64::from(fifo)
        ),
    )
    .await;
    id
}

pub(super) async fn what_is_due_is_handed_out_once_with_an_attempt(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let leased = lease(&f, 10).await;
    assert_eq!(leased.len(), 2);
    assert!(lease(&f, 10).await.is_empty(), "they are out");
    let (detail, attempts) = shown(&f, rows[0].id).await;
    assert_eq!((detail.state, detail.next_at), (DeliveryState::Pending, None));
    assert_eq!(outcomes(&attempts), ["runs"]);
    let a = leased.iter().find(|leased| leased.id == rows[0].id).expect("out");
    assert_eq!((a.number(), a.address.as_str()), (1, "https://a.example/hook"));
    let settled = settle(&f, &[said(&f, a, DONE)]).await;
    assert_eq!((settled.stale, settled.ended.len()), (0, 1));
    let (detail, attempts) = shown(&f, rows[0].id).await;
    assert_eq!(detail.state, DeliveryState::Delivered);
    assert_eq!(
        (detail.attempts, detail.ended_at, detail.outcome.as_deref()),
        (1, Some(f.now()), Some("delivered"))
    );
    assert_eq!(attempts[0].status, Some(500));
    assert_eq!(attempts[0].excerpt.as_deref(), Some("oops"));
    // What is left is out until its lease ends.
    assert_eq!(next_due(&f).await, Some(f.now().after(LEASE)));
    let b = leased.iter().find(|leased| leased.id == rows[1].id).expect("out");
    settle(&f, &[said(&f, b, Verdict::Done { accepted: true })]).await;
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Accepted);
    assert_eq!(next_due(&f).await, None, "lanes without work are gone");
    let tally = balanced(&f).await;
    assert_eq!((tally.all, tally.pending, tally.queued), (2, 0, Vec::new()));
}

pub(super) async fn a_crash_between_handing_out_and_settling_tries_again_with_the_same_id(f: Fixture) {
    let row = delivery(&f, "a.example");
    open(&f, std::slice::from_ref(&row)).await;
    let first = lease(&f, 1).await.remove(0);
    f.advance(LEASE / 2);
    assert!(lease(&f, 1).await.is_empty());
    f.advance(LEASE);
    let second = lease(&f, 1).await.remove(0);
    assert_eq!((second.id, second.number()), (row.id, 2));
    assert_eq!(outcomes(&shown(&f, row.id).await.1), ["lost", "runs"]);
    // The first one comes back after all: another attempt runs already.
    let settled = settle(&f, &[said(&f, &first, Verdict::Dead)]).await;
    assert_eq!((settled.stale, settled.ended.len()), (1, 0));
    assert_eq!(outcomes(&shown(&f, row.id).await.1), ["lost", "runs"]);
    assert_eq!(state(&f, row.id).await, DeliveryState::Pending);
    settle(&f, &[said(&f, &second, DONE)]).await;
    assert_eq!(state(&f, row.id).await, DeliveryState::Delivered);
    let settled = settle(&f, &[said(&f, &second, Verdict::Dead)]).await;
    assert_eq!(settled.stale, 1, "nothing undoes an end");
    assert_eq!(state(&f, row.id).await, DeliveryState::Delivered);
}

pub(super) async fn what_a_dead_process_tried_is_due_at_once(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let leased = lease(&f, 1).await;
    let waits = f.now().after(Duration::from_secs(30));
    settle(&f, &[said(&f, &leased[0], Verdict::Again(waits))]).await;
    let release = async |channels: &[ChannelKind]| {
        let released = f.store.release_deliveries(f.now(), channels).await;
        released.expect("releases")
    };
    assert_eq!(
        release(&["sms".parse().expect("a channel")]).await,
        0,
        "another's work"
    );
    assert_eq!(release(&[webhook()]).await, 1);
    let again = lease(&f, 1).await;
    assert_eq!(again.len(), 1, "who waits for his next attempt goes on waiting");
    assert_eq!(again[0].id, leased[1].id);
}

pub(super) async fn a_failed_attempt_comes_back_at_its_time_until_it_is_dead(f: Fixture) {
    let row = delivery(&f, "a.example");
    open(&f, std::slice::from_ref(&row)).await;
    let first = lease(&f, 1).await.remove(0);
    let at = f.now().after(Duration::from_secs(5));
    let settled = settle(&f, &[said(&f, &first, Verdict::Again(at))]).await;
    assert!(settled.ended.is_empty());
    let (detail, attempts) = shown(&f, row.id).await;
    assert_eq!((detail.state, detail.next_at), (DeliveryState::Pending, Some(at)));
    assert_eq!(
        (outcomes(&attempts), attempts[0].next_at),
        (vec!["retry"], Some(at))
    );
    assert_eq!(next_due(&f).await, Some(at));
    assert!(lease(&f, 1).await.is_empty());
    f.advance(Duration::from_secs(5));
    let second = lease(&f, 1).await.remove(0);
    assert_eq!((second.number(), second.token), (2, 2));
    let settled = settle(&f, &[said(&f, &second, Verdict::Dead)]).await;
    assert_eq!(settled.ended[0].state, DeliveryState::Dead);
    let (detail, _) = shown(&f, row.id).await;
    assert_eq!(
        (detail.state, detail.reason.as_deref(), detail.next_at),
        (DeliveryState::Dead, Some("it said rejected"), None)
    );
    assert_eq!(balanced(&f).await.dead, 1);
}

pub(super) async fn a_suppressed_address_is_not_tried(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let suppression = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: webhook(),
        address: rows[0].address.clone(),
        reason: "manual".into(),
        detail: None,
        delivery: None,
        at: f.now(),
    };
    f.store.suppress(&suppression).await.expect("commits");
    let later = SuppressionRow {
        reason: "bounced".into(),
        ..suppression.clone()
    };
    let stands = f.store.suppress(&later).await.expect("commits");
    assert_eq!(stands, suppression, "the first reason stays");
    let handed = handed(&f, 1).await;
    assert_eq!(handed.leased.len(), 1);
    assert_eq!(handed.ended[0].state, DeliveryState::Skipped);
    let (detail, attempts) = shown(&f, rows[0].id).await;
    assert_eq!(detail.reason.as_deref(), Some("suppressed"));
    assert!(attempts.is_empty());
    // Also before a later attempt.
    let b = Arc::new(handed.leased[0].clone());
    settle(&f, &[said(&f, &b, Verdict::Again(f.now()))]).await;
    let other = SuppressionRow {
        address: rows[1].address.clone(),
        ..suppression.clone()
    };
    f.store.suppress(&other).await.expect("commits");
    assert!(lease(&f, 1).await.is_empty());
    assert_eq!(state(&f, rows[1].id).await, DeliveryState::Skipped);
    // Another tenant's is a stranger's.
    let acme: TenantId = "acme".parse().expect("a tenant");
    let theirs = OutsideRow {
        tenant: acme.clone(),
        ..delivery(&f, "a.example")
    };
    open(&f, &[theirs]).await;
    assert_eq!(lease(&f, 1).await.len(), 1);
    // Lists go by channel and address.
    let query = SuppressionQuery {
        limit: 1,
        ..SuppressionQuery::default()
    };
    let page = f.store.suppressions(&f.tenant, &query).await.expect("reads");
    assert_eq!(page, [suppression]);
    let query = SuppressionQuery {
        after: Some((webhook(), rows[0].address.clone())),
        limit: 10,
        ..query
    };
    let page = f.store.suppressions(&f.tenant, &query).await.expect("reads");
    assert_eq!(page, [other]);
    assert!(
        f.store
            .suppressions(&acme, &query)
            .await
            .expect("reads")
            .is_empty()
    );
    let lift = async || {
        f.store
            .lift_suppression(&f.tenant, &webhook(), &rows[0].address)
            .await
            .expect("commits")
    };
    assert!(lift().await);
    assert!(!lift().await);
    open(&f, &[delivery(&f, "a.example")]).await;
    assert_eq!(lease(&f, 1).await.len(), 1);
}

pub(super) async fn the_time_to_live_ends_what_waits_and_not_what_runs(f: Fixture) {
    let rows = [
        delivery(&f, "a.example"),
        delivery(&f, "b.example"),
        delivery(&f, "c.example"),
    ];
    open(&f, &rows).await;
    let leased = lease(&f, 1).await;
    let of = |row: &OutsideRow| {
        let leased = leased.iter().find(|leased| leased.id == row.id);
        Arc::clone(leased.expect("is out"))
    };
    settle(
        &f,
        &[said(&f, &of(&rows[0]), Verdict::Again(f.now().after(PARK)))],
    )
    .await;
    f.advance(Duration::from_secs(3_500));
    // The others' leases are over; one of them is tried anew shortly before the end.
    let again = lease(&f, 1).await;
    assert_eq!(again.len(), 3);
    let b = again.iter().find(|leased| leased.id == rows[1].id).expect("out");
    settle(&f, &[said(&f, b, Verdict::Again(f.now().after(PARK)))]).await;
    f.advance(Duration::from_secs(59));
    assert!(
        f.store
            .expire_deliveries(f.now(), 10)
            .await
            .expect("ends")
            .is_empty()
    );
    let lanes = f.store.due_lanes(f.now(), &[webhook()], 10).await.expect("reads");
    let park = |key: LaneKey| ParkedLane {
        key,
        until: f.now().after(Duration::from_secs(600)),
    };
    let parks: Vec<_> = lanes.into_iter().map(|lane| park(lane.key)).collect();
    f.store.park(&parks).await.expect("commits");
    f.advance(Duration::from_secs(41));
    let ended = f.store.expire_deliveries(f.now(), 10).await.expect("ends");
    assert_eq!(ended.len(), 3, "parked, and of a lease that ended");
    let (detail, attempts) = shown(&f, rows[1].id).await;
    assert_eq!(detail.state, DeliveryState::Dead);
    assert_eq!(
        detail.reason.as_deref(),
        Some("its time to live ended; last: it said retry")
    );
    assert_eq!(outcomes(&attempts), ["lost", "retry"]);
    assert_eq!(next_due(&f).await, None);
    // One that runs over its end is settled as it says.
    let row = delivery(&f, "d.example");
    open(&f, std::slice::from_ref(&row)).await;
    f.advance(Duration::from_secs(3_590));
    let out = lease(&f, 1).await.remove(0);
    f.advance(Duration::from_secs(20));
    assert!(
        f.store
            .expire_deliveries(f.now(), 10)
            .await
            .expect("ends")
            .is_empty()
    );
    settle(&f, &[said(&f, &out, DONE)]).await;
    assert_eq!(state(&f, row.id).await, DeliveryState::Delivered);
    // And one that is handed out too late is not tried.
    let row = delivery(&f, "e.example");
    open(&f, std::slice::from_ref(&row)).await;
    f.advance(Duration::from_secs(3_600));
    assert!(lease(&f, 1).await.is_empty());
    let (detail, attempts) = shown(&f, row.id).await;
    assert_eq!((detail.state, attempts.len()), (DeliveryState::Dead, 0));
    balanced(&f).await;
}

pub(super) async fn a_strand_keeps_its_order_and_a_redrive_goes_last(f: Fixture) {
    let id = endpoint(&f, true).await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        f.advance(Duration::from_millis(1));
        rows.push(OutsideRow {
            address: address(&id.to_string()),
            ..delivery(&f, "a.example")
        });
    }
    // Rows of other notifications that come in another order than they are due.
    rows.reverse();
    open_in(&f, &rows, &id.to_string()).await;
    rows.reverse();
    let first = lease(&f, 9).await;
    assert_eq!(first.iter().map(|out| out.id).collect::<Vec<_>>(), [rows[0].id]);
    assert!(lease(&f, 9).await.is_empty(), "one at a time");
    let at = f.now().after(Duration::from_secs(30));
    settle(&f, &[said(&f, &first[0], Verdict::Again(at))]).await;
    assert!(lease(&f, 9).await.is_empty(), "nobody overtakes who waits");
    assert_eq!(next_due(&f).await, Some(at));
    f.advance(Duration::from_secs(30));
    let again = lease(&f, 9).await;
    assert_eq!((again.len(), again[0].id), (1, rows[0].id));
    settle(&f, &[said(&f, &again[0], Verdict::Dead)]).await;
    let redrive = f
        .store
        .begin_redrive(f.now(), &f.tenant, &DeadFilter::default())
        .await
        .expect("begins");
    let more = f
        .store
        .redrive_page(f.now(), &f.tenant, redrive.id, 10)
        .await
        .expect("redrives");
    assert!(!more);
    let mut order = Vec::new();
    for _ in 0..3 {
        let out = lease(&f, 9).await;
        assert_eq!(out.len(), 1);
        order.push(out[0].id);
        settle(&f, &[said(&f, &out[0], DONE)]).await;
    }
    assert_eq!(order, [rows[1].id, rows[2].id, rows[0].id]);
    let (_, attempts) = shown(&f, rows[0].id).await;
    assert_eq!(outcomes(&attempts), ["retry", "rejected", "delivered"]);
    assert_eq!(attempts[2].number, 3);
}

pub(super) async fn handing_out_costs_by_the_lane_and_not_by_the_backlog(f: Fixture) {
    for _ in 0..5 {
        let rows: Vec<_> = (0..4_000).map(|_| delivery(&f, "slow.example")).collect();
        open(&f, &rows).await;
    }
    let time = async |host: &str| {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let rows: Vec<_> = (0..8).map(|_| delivery(&f, host)).collect();
            open(&f, &rows).await;
            let key = WorkRow::of(&rows[0], Arc::from(""), ports::Operation::Deliver).key;
            let picks = [LanePick { key, limit: 8 }];
            let (until, again) = (f.now().after(LEASE), f.now().after(PARK));
            let began = tokio::time::Instant::now();
            let due = f.store.due_lanes(f.now(), &[webhook()], 10).await.expect("reads");
            let handed = f
                .store
                .lease_deliveries(f.now(), &picks, until, again)
                .await
                .expect("leases");
            best = best.min(began.elapsed());
            assert!(!due.is_empty());
            assert_eq!(handed.leased.len(), 8);
        }
        best
    };
    let small = time("quick.example").await;
    let large = time("slow.example").await;
    assert!(
        large < small * 8 + Duration::from_millis(5),
        "{large:?} of 20,000, {small:?} of 8"
    );
}

pub(super) async fn several_nodes_never_try_the_same_attempt(f: Fixture) {
    let hosts = ["a.example", "b.example", "c.example"];
    let rows: Vec<_> = (0..300).map(|index| delivery(&f, hosts[index % 3])).collect();
    open(&f, &rows).await;
    let f = Arc::new(f);
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let f = Arc::clone(&f);
            tokio::spawn(async move {
                let mut out = Vec::new();
                loop {
                    let leased = lease(&f, 7).await;
                    let settlements: Vec<_> = leased.iter().map(|leased| said(&f, leased, DONE)).collect();
                    let settled = settle(&f, &settlements).await;
                    assert_eq!(settled.stale, 0);
                    out.extend(leased.into_iter().map(|leased| leased.id));
                    if next_due(&f).await.is_none() {
                        return out;
                    }
                    f.advance(PARK / 2);
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for node in nodes {
        all.extend(node.await.expect("no panic"));
    }
    assert_eq!(all.len(), 300);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 300);
    assert_eq!(balanced(&f).await.pending, 0);
}

pub(super) async fn lanes_come_in_turn_and_a_full_one_is_put_off(f: Fixture) {
    let slow: Vec<_> = (0..20).map(|_| delivery(&f, "slow.example")).collect();
    open(&f, &slow).await;
    f.advance(Duration::from_secs(1));
    open(&f, &[delivery(&f, "quick.example")]).await;
    let due = f.store.due_lanes(f.now(), &[webhook()], 1).await.expect("reads");
    assert_eq!(
        &*due[0].key.lane, "slow.example:443",
        "the longest due comes first"
    );
    let out = handed(&f, 5).await;
    assert_eq!((out.leased.len(), out.more.len()), (6, 1));
    assert_eq!(out.more[0], due[0].key);
    assert!(
        f.store
            .due_lanes(f.now(), &[webhook()], 9)
            .await
            .expect("reads")
            .is_empty(),
        "it is full: nobody looks at it for a while"
    );
    f.advance(PARK);
    let due = f.store.due_lanes(f.now(), &[webhook()], 9).await.expect("reads");
    assert_eq!(due.len(), 1);
    let others: ChannelKind = "email".parse().expect("a channel");
    assert!(
        f.store
            .due_lanes(f.now(), &[others], 9)
            .await
            .expect("reads")
            .is_empty()
    );
}

pub(super) async fn dead_letters_are_listed_and_redriven_by_filter(f: Fixture) {
    let rows: Vec<_> = (0..7)
        .map(|index| {
            f.advance(Duration::from_millis(1));
            delivery(
                &f,
                if index % 2 == 0 {
                    "even.example"
                } else {
                    "odd.example"
                },
            )
        })
        .collect();
    open(&f, &rows).await;
    for out in lease(&f, 10).await {
        let mut settlement = said(&f, &out, Verdict::Dead);
        settlement.reason = Some(format!("{} is broken", out.key.lane));
        settle(&f, &[settlement]).await;
    }
    let query = DeadQuery {
        limit: 4,
        ..DeadQuery::default()
    };
    let page = f.store.dead_letters(&f.tenant, &query).await.expect("reads");
    let newest: Vec<_> = rows.iter().rev().map(|row| row.id).collect();
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), newest[..4]);
    let query = DeadQuery {
        before: Some(newest[3]),
        ..query
    };
    let page = f.store.dead_letters(&f.tenant, &query).await.expect("reads");
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), newest[4..]);
    let count = async |filter: DeadFilter| {
        let query = DeadQuery {
            filter,
            limit: 100,
            ..DeadQuery::default()
        };
        f.store
            .dead_letters(&f.tenant, &query)
            .await
            .expect("reads")
            .len()
    };
    let odd = DeadFilter {
        reason: Some("odd".to_owned()),
        ..DeadFilter::default()
    };
    assert_eq!(count(odd.clone()).await, 3);
    let none = [
        DeadFilter {
            user: Some(f.user("bob")),
            ..DeadFilter::default()
        },
        DeadFilter {
            channel: Some("email".parse().expect("a channel")),
            ..DeadFilter::default()
        },
        DeadFilter {
            category: Some("other".parse().expect("a category")),
            ..DeadFilter::default()
        },
        DeadFilter {
            since: Some(f.now().after(Duration::from_secs(1))),
            ..DeadFilter::default()
        },
        DeadFilter {
            ids: Some(vec![DeliveryId::at(f.now())]),
            ..DeadFilter::default()
        },
    ];
    for filter in none {
        assert_eq!(count(filter).await, 0);
    }
    let all = DeadFilter {
        user: Some(f.user("ada")),
        channel: Some(webhook()),
        since: Some(rows[0].created_at),
        ids: Some(newest.clone()),
        ..DeadFilter::default()
    };
    assert_eq!(count(all).await, 7);
    // In pages, and another process goes on where one stopped.
    let redrive = f
        .store
        .begin_redrive(f.now(), &f.tenant, &odd)
        .await
        .expect("begins");
    assert_eq!((redrive.total, redrive.done, redrive.is_done), (3, 0, false));
    let page = async || {
        f.store
            .redrive_page(f.now(), &f.tenant, redrive.id, 2)
            .await
            .expect("redrives")
    };
    assert!(page().await);
    let running = f.store.running_redrives(10).await.expect("reads");
    assert_eq!(running, [(f.tenant.clone(), redrive.id)]);
    // One of them dies anew meanwhile: it is not redriven for ever.
    f.advance(Duration::from_secs(1));
    let out = lease(&f, 10).await;
    assert_eq!(out.len(), 2);
    assert_eq!((out[0].number(), out[0].token), (2, 1), "waits begin anew");
    settle(&f, &[said(&f, &out[0], Verdict::Dead)]).await;
    assert!(!page().await);
    assert!(!page().await);
    let shown = f.store.redrive(&f.tenant, redrive.id).await.expect("reads");
    let shown = shown.expect("is there");
    assert_eq!((shown.total, shown.done, shown.is_done), (3, 3, true));
    assert_eq!(shown.filter, odd);
    assert!(f.store.running_redrives(10).await.expect("reads").is_empty());
    let listed = f.store.redrives(&f.tenant, None, 10).await.expect("reads");
    assert_eq!(listed, [shown]);
    assert_eq!(balanced(&f).await.dead, 5);
    let acme: TenantId = "acme".parse().expect("a tenant");
    assert_eq!(f.store.redrive(&acme, redrive.id).await.expect("reads"), None);
    // A time to live that was over does not end it at once.
    f.advance(Duration::from_secs(7_200));
    assert_eq!(
        f.store.expire_deliveries(f.now(), 10).await.expect("ends").len(),
        2
    );
    let filter = DeadFilter {
        ids: Some(vec![rows[0].id]),
        ..DeadFilter::default()
    };
    let one = f
        .store
        .begin_redrive(f.now(), &f.tenant, &filter)
        .await
        .expect("begins");
    f.store
        .redrive_page(f.now(), &f.tenant, one.id, 10)
        .await
        .expect("redrives");
    assert_eq!(lease(&f, 10).await.len(), 1);
    f.advance(Duration::from_secs(86_400));
    let swept = f
        .store
        .sweep_outside(OutsideSweep::Redrives, f.now(), 10)
        .await
        .expect("sweeps");
    assert_eq!(swept, 2);
}

pub(super) async fn an_address_that_is_gone_is_not_used_again(f: Fixture) {
    let id = endpoint(&f, false).await;
    let plain = [delivery(&f, "b.example"), delivery(&f, "b.example")];
    let registered: Vec<_> = (0..2)
        .map(|_| OutsideRow {
            address: address(&id.to_string()),
            brings: Brings::Event(EventId::at(f.now())),
            user: None,
            step: 0,
            name: None,
            ..delivery(&f, "a.example")
        })
        .collect();
    open(&f, &plain).await;
    open(&f, &registered).await;
    let out = lease(&f, 1).await;
    let settlements: Vec<_> = out.iter().map(|out| said(&f, out, Verdict::Gone)).collect();
    let settled = settle(&f, &settlements).await;
    assert!(
        settled
            .ended
            .iter()
            .all(|ended| ended.gone && ended.state == DeliveryState::Dead)
    );
    f.advance(PARK);
    let handed = handed(&f, 1).await;
    assert!(handed.leased.is_empty());
    let mut states: Vec<_> = handed.ended.iter().map(|ended| ended.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(
        states,
        ["dead", "skipped"],
        "the endpoint is disabled, the address suppressed"
    );
    let query = SuppressionQuery {
        limit: 10,
        ..SuppressionQuery::default()
    };
    let listed = f.store.suppressions(&f.tenant, &query).await.expect("reads");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&*listed[0].reason, &listed[0].address),
        ("gone", &plain[0].address)
    );
}

pub(super) async fn a_recall_ends_in_recalled_or_leaves_what_is(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let settlements: Vec<_> = lease(&f, 1).await.iter().map(|out| said(&f, out, DONE)).collect();
    settle(&f, &settlements).await;
    let work: Vec<_> = rows
        .iter()
        .map(|row| WorkRow {
            earlier: 1,
            zone: None,
            ..WorkRow::of(row, Arc::from(""), ports::Operation::Recall)
        })
        .collect();
    f.store.open_work(&[], &work).await.expect("commits");
    let out = lease(&f, 1).await;
    assert!(
        out.iter()
            .all(|out| out.operation == ports::Operation::Recall && out.number() == 2)
    );
    let of = |row: &OutsideRow| Arc::clone(out.iter().find(|out| out.id == row.id).expect("is out"));
    let settlements = [
        said(&f, &of(&rows[0]), DONE),
        said(&f, &of(&rows[1]), Verdict::Dead),
    ];
    settle(&f, &settlements).await;
    assert_eq!(state(&f, rows[0].id).await, DeliveryState::Recalled);
    let (detail, _) = shown(&f, rows[1].id).await;
    assert_eq!(detail.state, DeliveryState::Delivered);
    assert_eq!(detail.reason.as_deref(), Some("not recalled: it said rejected"));
    assert_eq!(next_due(&f).await, None);
}

pub(super) async fn what_was_withdrawn_is_not_tried_and_its_end_stands(f: Fixture) {
    let rows = [delivery(&f, "a.example"), delivery(&f, "b.example")];
    open(&f, &rows).await;
    let key = WorkRow::of(&rows[0], Arc::from(""), ports::Operation::Deliver).key;
    let (until, again) = (f.now().after(LEASE), f.now().after(PARK));
    let out = f
        .store
        .lease_deliveries(f.now(), &[LanePick { key, limit: 1 }], until, again)
        .await
        .expect("leases");
    run(
        &f,
        "UPDATE deliveries SET state = 'cancelled' WHERE state = 'pending'".to_owned(),
    )
    .await;
    assert!(lease(&f, 9).await.is_empty());
    let out = Arc::new(out.leased[0].clone());
    let settled = settle(&f, &[said(&f, &out, Verdict::Again(f.now()))]).await;
    assert_eq!((settled.stale, settled.ended.len()), (1, 0));
    let (detail, attempts) = shown(&f, rows[0].id).await;
    assert_eq!(detail.state, DeliveryState::Cancelled);
    assert_eq!(outcomes(&attempts), ["retry"], "what it said is kept");
    assert_eq!(next_due(&f).await, None);
    assert!(balanced(&f).await.queued.is_empty());
}

pub(super) async fn a_row_that_cannot_be_read_does_not_stop_its_neighbours(f: Fixture) {
    let rows: Vec<_> = (0..3).map(|_| delivery(&f, "a.example")).collect();
    open(&f, &rows).await;
    run(
        &f,
        format!(
            "UPDATE deliveries SET notification = 'nonsense' WHERE id = '{}'",
            rows[1].id
        ),
    )
    .await;
    run(&f, format!("DELETE FROM deliveries WHERE id = '{}'", rows[2].id)).await;
    let out = lease(&f, 9).await;
    assert_eq!(out.iter().map(|out| out.id).collect::<Vec<_>>(), [rows[0].id]);
    let tally = balanced(&f).await;
    assert_eq!((tally.all, tally.dead, tally.queued[0].1), (2, 1, 1));
}

pub(super) async fn what_messages_are_made_of_is_loaded_together(f: Fixture) {
    let sent = f.notification(&["ada"]);
    f.send(std::slice::from_ref(&sent)).await;
    let id = endpoint(&f, false).await;
    let event = EventId::at(f.now());
    run(
        &f,
        format!("INSERT INTO events (tenant, id, kind, body, at) VALUES ('default', '{event}', 'delivery.dead', '{{}}', 0)"),
    )
    .await;
    for (endpoint, secret, created, expires) in [
        (id.to_string(), "old", 1, "5"),
        (id.to_string(), "kept", 2, "9000000000000000"),
        (id.to_string(), "new", 3, "NULL"),
        (String::new(), "own", 1, "NULL"),
    ] {
        run(
            &f,
            format!(
                "INSERT INTO endpoint_secrets (tenant, endpoint, id, kind, sealed, created_at, expires_at) \
                 VALUES ('default', '{endpoint}', '{secret}', 'hmac', 'sealed {secret}', {created}, {expires})"
            ),
        )
        .await;
    }
    let rows = [
        OutsideRow {
            brings: Brings::Notification(sent.id),
            ..delivery(&f, "a.example")
        },
        OutsideRow {
            brings: Brings::Event(event),
            address: address(&id.to_string()),
            user: None,
            step: 0,
            ..delivery(&f, "a.example")
        },
    ];
    open(&f, &rows).await;
    let out = lease(&f, 9).await;
    assert_eq!(out.len(), 2);
    let sources = f.store.load_work(f.now(), &out).await.expect("reads");
    let notification = &sources.notifications[&(f.tenant.clone(), sent.id)];
    let content: Content = serde_json::from_str(&sent.content).expect("content");
    assert_eq!(notification.content.as_deref(), Some(&content));
    assert_eq!(&*sources.events[&(f.tenant.clone(), event)].kind, "delivery.dead");
    assert_eq!(
        sources.endpoints[&(f.tenant.clone(), id.to_string())].url,
        "https://a.example/"
    );
    let secrets = |endpoint: &str| {
        sources.secrets[&(f.tenant.clone(), endpoint.to_owned())]
            .iter()
            .map(|secret| secret.id.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(secrets(&id.to_string()), ["new", "kept"]);
    assert_eq!(secrets(""), ["own"]);
    // Events go with everything below them, once nothing of it is under way.
    let sweep = async || {
        let swept = f.store.sweep_outside(OutsideSweep::Events, f.now(), 10).await;
        swept.expect("sweeps")
    };
    assert_eq!(sweep().await, 0);
    for out in out.iter().filter(|out| out.brings == Brings::Event(event)) {
        settle(&f, &[said(&f, out, DONE)]).await;
    }
    assert_eq!(sweep().await, 1);
    assert_eq!(balanced(&f).await.all, 1);
}
