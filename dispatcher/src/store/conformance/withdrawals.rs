use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::{
    AckKind, ChannelKind, DeliveryId, NotificationId, NotificationState, ports::Operation as Does,
};
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    fixture::{Fixture, LIMITS, plan_of, words},
    outside::run,
};
use crate::store::{
    outside::*,
    withdrawals::{Recallable, WithdrawalKind, WithdrawnPage},
    *,
};

/// Rounds of those who race.
const ROUNDS: usize = 25;
/// More of them where one side came first in each, as on a machine that is busy.
const MOST_ROUNDS: usize = 8 * ROUNDS;

fn push() -> ChannelKind {
    "push".parse().expect("a channel")
}

/// Plans what is due: each user has these addresses outside.
async fn plan(f: &Fixture, in_app: bool, addresses: &[&str]) {
    let jobs = f.jobs(&f.lease().await).await;
    plan_jobs(f, jobs, in_app, addresses).await;
}

async fn plan_jobs(f: &Fixture, mut jobs: Vec<PlanJob>, in_app: bool, addresses: &[&str]) {
    let kinds: &[&str] = if in_app { &["in_app", "push"] } else { &["push"] };
    for job in &mut jobs {
        job.plan = Arc::new(plan_of(kinds));
    }
    for addressee in jobs.iter_mut().flat_map(|job| &mut job.users) {
        let user = addressee.user;
        let outgoing = |address: &&str| Outgoing {
            channel: push(),
            address: format!("{address}-{user}").parse().expect("an address"),
            device: None,
            lane: Arc::from(*address),
            strand: Arc::from(""),
            skip: None,
            active_until: None,
            replaces: false,
        };
        addressee.in_app = in_app;
        addressee.outside = addresses.iter().map(outgoing).collect();
    }
    f.store.plan(f.now(), &jobs).await.expect("plans");
}

/// Hands out up to `most` of each lane.
async fn lease(f: &Fixture, most: u32) -> Vec<Arc<LeasedDelivery>> {
    let lanes = f.store.due_lanes(f.now(), &[push()], 10).await.expect("reads");
    let pick = |lane: DueLane| LanePick {
        key: lane.key,
        limit: most,
    };
    let picks: Vec<LanePick> = lanes.into_iter().map(pick).collect();
    let until = f.now().after(Duration::from_secs(30));
    let handed = f.store.lease_deliveries(f.now(), &picks, until, f.now()).await;
    handed.expect("leases").leased.into_iter().map(Arc::new).collect()
}

fn said(f: &Fixture, delivery: &Arc<LeasedDelivery>, verdict: Verdict) -> Settlement {
    let outcome = match verdict {
        Verdict::Unsent => "unsent",
        Verdict::Again(_) => "retry",
        _ => "delivered",
    };
    Settlement {
        delivery: Arc::clone(delivery),
        ended_at: f.now(),
        outcome,
        status: None,
        reason: None,
        excerpt: None,
        provider_id: Some(format!("far-{}", delivery.id)),
        verdict,
        is_sent: verdict != Verdict::Unsent,
        recalls: true,
    }
}

async fn settle(f: &Fixture, leased: &[Arc<LeasedDelivery>], verdict: Verdict) {
    let settlements: Vec<Settlement> = leased.iter().map(|one| said(f, one, verdict)).collect();
    f.store.settle(f.now(), &settlements).await.expect("settles");
}

const DONE: Verdict = Verdict::Done { accepted: false };

/// Reads what there is to answer of a notification.
pub(super) async fn answer(
    f: &Fixture,
    user: &str,
    id: NotificationId,
    recallable: &[ChannelKind],
    answering: Vec<DeliveryId>,
) -> OperationResult {
    let command = MailboxCommand {
        tenant: f.tenant.clone(),
        user: f.user(user),
        name: None,
        device: None,
        answering,
        channel: None,
        operations: vec![Operation::Entry(Which::Notification(id), EntryAction::Read)],
    };
    let recallable = Recallable::of(&f.tenant, recallable.to_vec());
    let done = f.store.mutate(f.now(), &[command], &recallable).await;
    done.expect("commits").value.remove(0).results[0]
}

/// Lane, state and reason of a user's deliveries outside.
pub(super) async fn states(f: &Fixture, id: NotificationId, user: &str) -> Vec<(String, String, String)> {
    let deliveries = f.recipient(id, user).await.deliveries;
    let outside = deliveries.into_iter().filter(|one| one.channel == "push");
    outside
        .map(|one| {
            let lane = one.address.split('-').next().unwrap_or_default().to_owned();
            (lane, one.state, one.reason.unwrap_or_default())
        })
        .collect()
}

fn row(lane: &str, state: &str, reason: &str) -> (String, String, String) {
    (lane.to_owned(), state.to_owned(), reason.to_owned())
}

/// Attempts of these deliveries that there are by now.
async fn attempts(f: &Fixture, deliveries: &[DeliveryId]) -> usize {
    let mut count = 0;
    for id in deliveries {
        let shown = f.store.delivery(&f.tenant, *id).await.expect("reads");
        count += shown.map_or(0, |(_, attempts)| attempts.len());
    }
    count
}

pub(super) async fn an_answer_ends_what_other_devices_are_sent(f: Fixture) {
    let one = f.notification(&["ada", "bob"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, true, &["sent", "runs", "waits"]).await;
    let ada = f.user("ada");
    let leased: Vec<_> = lease(&f, 10)
        .await
        .into_iter()
        .filter(|l| l.user == Some(ada))
        .collect();
    let of = |lane: &str| -> Vec<_> {
        let on = leased.iter().filter(|one| &*one.key.lane == lane);
        on.cloned().collect()
    };
    settle(&f, &of("sent"), DONE).await;
    settle(
        &f,
        &of("waits"),
        Verdict::Again(f.now().after(Duration::from_secs(5))),
    )
    .await;
    assert_eq!(
        answer(&f, "ada", one.id, &[push()], Vec::new()).await,
        OperationResult::Ok
    );
    assert_eq!(
        states(&f, one.id, "ada").await,
        [
            row("runs", "cancelled", "acknowledged on another device"),
            row("sent", "delivered", ""),
            row("waits", "cancelled", "acknowledged on another device"),
        ]
    );
    let bob = states(&f, one.id, "bob").await;
    assert!(
        bob.iter().all(|(_, state, _)| state == "pending"),
        "who did not answer goes on: {bob:?}"
    );
    // What ran arrives nevertheless, and is taken back as what had arrived.
    settle(&f, &of("runs"), DONE).await;
    f.advance(Duration::from_secs(10));
    let recalls: Vec<_> = lease(&f, 10)
        .await
        .into_iter()
        .filter(|l| l.user == Some(ada))
        .collect();
    assert!(recalls.iter().all(|one| one.operation == Does::Recall));
    assert_eq!(recalls.len(), 2);
    settle(&f, &recalls, DONE).await;
    assert_eq!(
        states(&f, one.id, "ada").await,
        [
            row("runs", "recalled", ""),
            row("sent", "recalled", ""),
            row("waits", "cancelled", "acknowledged on another device"),
        ]
    );
    // Where the channel cannot, that is said; and once more changes nothing.
    let other = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&other)).await;
    plan(&f, true, &["sent"]).await;
    let sent: Vec<_> = lease(&f, 10)
        .await
        .into_iter()
        .filter(|l| l.user == Some(ada))
        .collect();
    settle(&f, &sent, DONE).await;
    answer(&f, "ada", other.id, &[], Vec::new()).await;
    assert_eq!(
        states(&f, other.id, "ada").await,
        [row("sent", "delivered", "not_recallable")]
    );
    assert_eq!(
        answer(&f, "ada", other.id, &[push()], Vec::new()).await,
        OperationResult::Unchanged
    );
    assert!(!lease(&f, 10).await.iter().any(|l| l.user == Some(ada)));
}

pub(super) async fn what_is_answered_itself_is_not_taken_back(f: Fixture) {
    let one = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, true, &["hook", "other"]).await;
    let leased = lease(&f, 10).await;
    let hook = leased
        .iter()
        .find(|one| &*one.key.lane == "hook")
        .expect("is due");
    let answering = vec![hook.id];
    answer(&f, "ada", one.id, &[push()], answering).await;
    assert_eq!(
        states(&f, one.id, "ada").await,
        [
            row("hook", "pending", ""),
            row("other", "cancelled", "acknowledged on another device")
        ]
    );
    settle(&f, std::slice::from_ref(hook), DONE).await;
    assert_eq!(states(&f, one.id, "ada").await[0], row("hook", "delivered", ""));
    assert!(lease(&f, 10).await.is_empty());
}

pub(super) async fn what_is_answered_and_lost_is_not_sent_again(f: Fixture) {
    let one = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, true, &["hook"]).await;
    let leased = lease(&f, 10).await;
    answer(&f, "ada", one.id, &[push()], vec![leased[0].id]).await;
    // The process that heard the answer dies before it writes its outcome.
    f.advance(Duration::from_secs(31));
    assert!(lease(&f, 10).await.is_empty());
    let reason = "acknowledged on another device";
    assert_eq!(
        states(&f, one.id, "ada").await,
        [row("hook", "cancelled", reason)]
    );
    let again = f
        .store
        .resend(f.now(), &f.tenant, leased[0].id)
        .await
        .expect("reads");
    assert_eq!(again, Resent::Conflict(NotResendable::Acknowledged));
}

pub(super) async fn an_attempt_that_did_not_begin_is_handed_out_anew(f: Fixture) {
    let one = f.notification(&["ada"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, false, &["a"]).await;
    let first = lease(&f, 10).await;
    settle(&f, &first, Verdict::Unsent).await;
    let second = lease(&f, 10).await;
    assert_eq!(
        (first[0].number(), second[0].number()),
        (1, 2),
        "numbers stay used"
    );
    assert_eq!(second[0].token, 1, "it counts as no attempt for retries");
    // A late word of the first changes nothing.
    settle(&f, &first, Verdict::Dead).await;
    settle(&f, &second, DONE).await;
    let (detail, attempts) = f
        .store
        .delivery(&f.tenant, first[0].id)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(detail.state, DeliveryState::Delivered);
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|one| one.outcome.as_deref().unwrap_or("runs"))
        .collect();
    assert_eq!(outcomes, ["unsent", "delivered"]);
}

/// More recipients than a transaction ends.
fn many(f: &Fixture, count: usize) -> NewNotification {
    let names: Vec<String> = (0..count).map(|number| format!("user-{number}")).collect();
    f.notification(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) async fn cancelling_many_ends_page_by_page_and_nothing_starts_meanwhile(f: Fixture) {
    let page = LIMITS.withdrawal_page;
    let one = many(&f, 5 * page + 7);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, true, &["a"]).await;
    let begun = lease(&f, 9).await;
    assert_eq!(begun.len(), 9);
    let cancelled = f
        .store
        .cancel(f.now(), &f.tenant, one.id, &[push()])
        .await
        .expect("commits");
    let done = Cancelled::Done {
        recalled: page as u64,
        in_flight: 9,
    };
    assert_eq!(cancelled.value, done);
    assert_eq!(f.state(one.id).await, NotificationState::Cancelled);
    let detail = f.store.withdrawal(&f.tenant, one.id).await.expect("reads");
    assert_eq!(
        detail.running.map(|(kind, _)| kind),
        Some(WithdrawalKind::Cancelled)
    );
    assert_eq!(detail.open, 4 * page as u64 + 7);
    // Nobody but those of the first page has ended, and yet nothing starts.
    assert!(lease(&f, 10_000).await.is_empty());
    // Another process goes on, and the first one's lease is fenced.
    let store = f.reopen(LIMITS).await;
    let until = f.now().after(Duration::from_secs(5));
    let lost = f
        .store
        .lease_withdrawals(f.now(), 10, until)
        .await
        .expect("leases");
    assert_eq!(lost.len(), 1);
    assert!(
        store
            .lease_withdrawals(f.now(), 10, until)
            .await
            .expect("leases")
            .is_empty()
    );
    f.advance(Duration::from_secs(6));
    let mut pages = Vec::new();
    loop {
        let leases = store
            .lease_withdrawals(f.now(), 10, f.now().after(Duration::from_secs(5)))
            .await;
        let leases = leases.expect("leases");
        let Some(lease) = leases.first() else { break };
        pages.push(store.withdraw_page(f.now(), lease).await.expect("commits").value);
    }
    let mut expected = vec![WithdrawnPage::More(page); 4];
    expected.push(WithdrawnPage::Done(7));
    assert_eq!(pages, expected);
    let stale = f.store.withdraw_page(f.now(), &lost[0]).await.expect("reads");
    assert_eq!(stale.value, WithdrawnPage::Stale);
    let recipients = f
        .store
        .recipients(&f.tenant, one.id, None, 10_000)
        .await
        .expect("reads");
    assert_eq!(recipients.len(), 5 * page + 7);
    assert!(
        recipients
            .iter()
            .all(|one| one.state == RecipientState::Cancelled)
    );
    for number in [0, page, 5 * page + 6] {
        let user = format!("user-{number}");
        assert!(f.inbox(&user).await.is_empty());
        f.log(&user).await;
    }
    let detail = f.store.withdrawal(&f.tenant, one.id).await.expect("reads");
    assert_eq!((detail.running, detail.open), (None, 0));
    let tally = f.store.tally_outside().await.expect("counts");
    assert_eq!((tally.pending, tally.stranded), (0, 0));
    // What was under way arrives nevertheless, and is taken back.
    settle(&f, &begun, DONE).await;
    let recalls = lease(&f, 100).await;
    assert!(recalls.iter().all(|one| one.operation == Does::Recall));
    assert_eq!(recalls.len(), 9);
}

/// A plan by which one answer is enough.
async fn one_is_enough(f: &Fixture, id: NotificationId) {
    let statement = format!(
        "UPDATE notifications SET plan = '{{\"acknowledged_by\":\"any\",\"steps\":[]}}' WHERE id = '{id}'"
    );
    run(f, statement).await;
}

pub(super) async fn work_off(f: &Fixture) {
    loop {
        let until = f.now().after(Duration::from_secs(5));
        let leases = f
            .store
            .lease_withdrawals(f.now(), 10, until)
            .await
            .expect("leases");
        if leases.is_empty() {
            return;
        }
        for lease in &leases {
            f.store.withdraw_page(f.now(), lease).await.expect("commits");
        }
    }
}

pub(super) async fn where_one_answer_is_enough_it_ends_for_all(f: Fixture) {
    let one = f.notification(&["ada", "bob", "cyd"]);
    f.accept(std::slice::from_ref(&one)).await;
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs[0].part = PlanPart::More;
    plan_jobs(&f, jobs.clone(), true, &["a"]).await;
    one_is_enough(&f, one.id).await;
    let sent = lease(&f, 1).await;
    settle(&f, &sent, DONE).await;
    answer(&f, "ada", one.id, &[push()], Vec::new()).await;
    // Before anybody else has ended, nothing of it starts, and what was sent to the others still shows.
    assert!(
        lease(&f, 100)
            .await
            .iter()
            .all(|one| one.operation == Does::Recall)
    );
    let detail = f.store.withdrawal(&f.tenant, one.id).await.expect("reads");
    assert_eq!(
        detail.running.map(|(kind, _)| kind),
        Some(WithdrawalKind::Answered)
    );
    let answered = detail.answered.expect("somebody answered");
    assert_eq!(
        (answered.user, answered.acknowledgement.kind),
        (Some(f.user("ada")), AckKind::Read)
    );
    // The second answer is his own, and changes nothing for the others.
    answer(&f, "bob", one.id, &[push()], Vec::new()).await;
    work_off(&f).await;
    let by = |detail: RecipientDetail| detail.acknowledgement.expect("an answer").by;
    assert_eq!(by(f.recipient(one.id, "ada").await), None);
    assert_eq!(by(f.recipient(one.id, "bob").await), None);
    let cyd = f.recipient(one.id, "cyd").await;
    assert_eq!(cyd.state, RecipientState::Acknowledged);
    assert_eq!(cyd.reason.as_deref(), Some("another recipient answered"));
    assert_eq!(by(cyd), Some(f.user("ada")));
    assert_eq!(words(&f.log("cyd").await), ["added", "read! 1"]);
    let entry = f.inbox("cyd").await.remove(0);
    assert_eq!(entry.acknowledgement.and_then(|one| one.by), Some(f.user("ada")));
    assert!(
        states(&f, one.id, "cyd")
            .await
            .iter()
            .all(|(_, state, _)| state != "pending")
    );
    assert_eq!(
        f.store
            .withdrawal(&f.tenant, one.id)
            .await
            .expect("reads")
            .running,
        None
    );
    // Who is planned later begins answered, without an entry.
    jobs[0].part = PlanPart::Last;
    jobs[0].users = vec![Addressee::in_app(f.user("dan"))];
    plan_jobs(&f, jobs, true, &["a"]).await;
    let dan = f.recipient(one.id, "dan").await;
    assert_eq!((dan.state, dan.entry), (RecipientState::Acknowledged, None));
    assert_eq!(by(dan), Some(f.user("ada")));
    assert!(f.inbox("dan").await.is_empty());
    settle(&f, &lease(&f, 100).await, DONE).await;
    assert!(lease(&f, 100).await.is_empty());
    // Cancelling takes everything back all the same.
    f.store
        .cancel(f.now(), &f.tenant, one.id, &[push()])
        .await
        .expect("commits");
    assert!(f.inbox("cyd").await.is_empty());
    assert_eq!(
        f.recipient(one.id, "cyd").await.state,
        RecipientState::Acknowledged
    );
}

pub(super) async fn who_answered_for_all_is_forgotten_when_he_is_erased(f: Fixture) {
    let one = f.notification(&["ada", "bob"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(&f, true, &[]).await;
    one_is_enough(&f, one.id).await;
    answer(&f, "ada", one.id, &[], Vec::new()).await;
    work_off(&f).await;
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: f.user("ada"),
        name: None,
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    let answered = f
        .store
        .withdrawal(&f.tenant, one.id)
        .await
        .expect("reads")
        .answered;
    assert_eq!(
        answered.map(|answered| answered.user),
        Some(None),
        "it stays answered, by nobody"
    );
}

/// How many leases race with whoever withdraws.
const LEASERS: usize = 3;
/// How much later whoever withdraws begins, by round.
const LATER: Duration = Duration::from_micros(400);

/// Plans one notification for four users over three lanes; answers the deliveries of `user`, or of all.
async fn to_race(f: &Fixture, user: Option<&str>) -> (NotificationId, Vec<DeliveryId>) {
    let one = f.notification(&["ada", "bob", "cyd", "dan"]);
    f.accept(std::slice::from_ref(&one)).await;
    plan(f, true, &["x", "y", "z"]).await;
    let recipients = f
        .store
        .recipients(&f.tenant, one.id, None, 100)
        .await
        .expect("reads");
    let user = user.map(|user| f.user(user));
    let ids = recipients
        .iter()
        .filter(|recipient| user.is_none_or(|user| recipient.user == user))
        .flat_map(|recipient| &recipient.deliveries)
        .filter(|delivery| delivery.channel == "push")
        .map(|delivery| delivery.id);
    (one.id, ids.collect())
}

/// Leases side by side with `withdraw`, which waits a little longer each round; answers what it said and how many of the
/// deliveries had an attempt right after.
async fn race<T>(
    f: &Arc<Fixture>,
    round: usize,
    deliveries: &[DeliveryId],
    withdraw: impl Future<Output = T>,
) -> (T, usize) {
    let start = Arc::new(Barrier::new(LEASERS + 1));
    let mut leasers = JoinSet::new();
    for _ in 0..LEASERS {
        let (f, start) = (f.clone(), start.clone());
        leasers.spawn(async move {
            start.wait().await;
            for _ in 0..3 {
                lease(&f, 2).await;
            }
        });
    }
    start.wait().await;
    tokio::time::sleep(LATER * u32::try_from(round % ROUNDS).expect("few")).await;
    let said = withdraw.await;
    let at_once = attempts(f, deliveries).await;
    while let Some(done) = leasers.join_next().await {
        done.expect("nobody was broken off");
    }
    (said, at_once)
}

pub(super) async fn no_attempt_commits_after_a_cancel_did(f: Fixture) {
    let f = Arc::new(f);
    let mut seen = HashSet::new();
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && seen.len() > 1 {
            break;
        }
        let (id, deliveries) = to_race(&f, None).await;
        let cancel = f.store.cancel(f.now(), &f.tenant, id, &[]);
        let (cancelled, at_once) = race(&f, round, &deliveries, cancel).await;
        let Cancelled::Done { in_flight, .. } = cancelled.expect("commits").value else {
            panic!("it was cancelled");
        };
        assert_eq!(at_once as u64, in_flight, "what had started was counted");
        lease(&f, 100).await;
        assert_eq!(
            attempts(&f, &deliveries).await,
            at_once,
            "nothing started after that"
        );
        seen.insert(in_flight);
    }
    assert!(seen.len() > 1, "they raced: {seen:?}");
}

pub(super) async fn no_attempt_of_a_recipient_commits_after_his_answer_did(f: Fixture) {
    let f = Arc::new(f);
    let mut seen = HashSet::new();
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && seen.len() > 1 {
            break;
        }
        let (id, deliveries) = to_race(&f, Some("bob")).await;
        // Where one answer is enough, nothing of anybody's starts after it.
        let any = round % 2 == 0;
        let deliveries = if any {
            one_is_enough(&f, id).await;
            to_race_all(&f, id).await
        } else {
            deliveries
        };
        let (said, at_once) = race(&f, round, &deliveries, answer(&f, "bob", id, &[], Vec::new())).await;
        assert_eq!(said, OperationResult::Ok);
        lease(&f, 100).await;
        assert_eq!(
            attempts(&f, &deliveries).await,
            at_once,
            "nothing started after that"
        );
        seen.insert(at_once);
        work_off(&f).await;
        f.store
            .cancel(f.now(), &f.tenant, id, &[])
            .await
            .expect("commits");
    }
    assert!(seen.len() > 1, "they raced: {seen:?}");
}

async fn to_race_all(f: &Fixture, id: NotificationId) -> Vec<DeliveryId> {
    let recipients = f.store.recipients(&f.tenant, id, None, 100).await.expect("reads");
    let all = recipients.iter().flat_map(|recipient| &recipient.deliveries);
    all.filter(|delivery| delivery.channel == "push")
        .map(|delivery| delivery.id)
        .collect()
}
