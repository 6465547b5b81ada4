use std::{future::Future, sync::Arc, time::Duration};

use carillon_domain::{ChannelKind, NotificationId, SecretId, ports::SigningKind};
use tokio::task::JoinSet;

use super::{
    fixture::{Fixture, plan_of},
    outside::{balanced, run},
};
use crate::{
    events::EventFilter,
    store::{endpoints::*, outside::*, withdrawals::Recallable, *},
};

/// How often each of them does what it does.
const TURNS: usize = 25;
const USERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
/// Their lanes are in another order than their names.
const HOSTS: [&str; 3] = ["z.example", "m.example", "a.example"];

fn hook() -> ChannelKind {
    ChannelKind::webhook()
}

/// Endpoints that are told of everything, one of them in order.
async fn endpoints(f: &Fixture) -> Vec<EndpointRow> {
    let mut rows = Vec::new();
    for (host, fifo) in HOSTS.into_iter().zip([false, true, false]) {
        let now = f.now();
        let row = EndpointRow {
            tenant: f.tenant.clone(),
            id: carillon_domain::EndpointId::at(now),
            user: None,
            url: format!("https://{host}/").parse().expect("an address"),
            lane: Arc::from(format!("{host}:443")),
            events: vec![EventFilter::of_tenant("*").expect("a filter")],
            fifo,
            description: None,
            state: EndpointState::Enabled,
            reason: None,
            failing_since: None,
            created_at: now,
            updated_at: now,
        };
        let secret = SecretRow {
            tenant: f.tenant.clone(),
            endpoint: Some(row.id),
            id: SecretId::at(now),
            kind: SigningKind::Hmac,
            public: None,
            sealed: "sealed".to_owned(),
            created_at: now,
            expires_at: None,
        };
        assert!(f.store.create_endpoint(&row, &secret, 9).await.expect("commits"));
        rows.push(row);
    }
    rows
}

/// Sends to everybody over every lane, in another order each time; every other one takes the place of what waits.
async fn send(f: Arc<Fixture>, turn: usize) -> NotificationId {
    let mut users = USERS;
    users.rotate_left(turn % USERS.len());
    let row = if turn.is_multiple_of(2) {
        f.collapsing(&users, "job")
    } else {
        f.notification(&users)
    };
    f.accept(std::slice::from_ref(&row)).await;
    let mut jobs = f.jobs(&f.lease().await).await;
    for job in &mut jobs {
        job.plan = Arc::new(plan_of(&["in_app", "webhook"]));
    }
    for addressee in jobs.iter_mut().flat_map(|job| &mut job.users) {
        let mut hosts = HOSTS;
        hosts.rotate_left(turn % HOSTS.len());
        addressee.outside = hosts
            .into_iter()
            .map(|host| Outgoing {
                channel: hook(),
                address: format!("https://{host}/{}", addressee.user)
                    .parse()
                    .expect("an address"),
                device: None,
                lane: Arc::from(format!("{host}:443")),
                strand: Arc::from(""),
                skip: None,
                replaces: true,
                active_until: None,
            })
            .collect();
    }
    f.store.plan(f.now(), &jobs).await.expect("plans");
    row.id
}

async fn deliver(f: Arc<Fixture>, turn: usize) {
    let due = f.store.due_lanes(f.now(), &[hook()], 100).await.expect("reads");
    let picks: Vec<_> = due
        .into_iter()
        .map(|due| LanePick {
            key: due.key,
            limit: 7,
        })
        .collect();
    let (until, again) = (f.now().after(Duration::from_secs(60)), f.now());
    let handed = f.store.lease_deliveries(f.now(), &picks, until, again).await;
    let mut settlements: Vec<Settlement> = handed
        .expect("leases")
        .leased
        .into_iter()
        .enumerate()
        .map(|(place, delivery)| {
            let (verdict, outcome) = match (place + turn) % 5 {
                0 => (Verdict::Done { accepted: true }, "accepted"),
                1 => (Verdict::Again(f.now()), "retry"),
                2 => (Verdict::Dead, "rejected"),
                _ => (Verdict::Done { accepted: false }, "delivered"),
            };
            Settlement {
                ended_at: f.now(),
                outcome,
                status: None,
                reason: None,
                excerpt: None,
                provider_id: Some(delivery.id.to_string()),
                verdict,
                delivery: Arc::new(delivery),
                is_sent: true,
                recalls: false,
            }
        })
        .collect();
    if turn.is_multiple_of(2) {
        settlements.reverse();
    }
    f.store.settle(f.now(), &settlements).await.expect("settles");
}

async fn redrive(f: Arc<Fixture>) {
    let filter = DeadFilter::default();
    let begun = f
        .store
        .begin_redrive(f.now(), &f.tenant, &filter)
        .await
        .expect("begins");
    let mut turns = 0;
    while turns < 5
        && f.store
            .redrive_page(f.now(), &f.tenant, begun.id, 9)
            .await
            .expect("goes on")
    {
        turns += 1;
    }
}

/// News of what was accepted, the newest first.
async fn news(f: Arc<Fixture>, id: NotificationId) {
    let mut news = Vec::new();
    for user in USERS {
        let Some(detail) = recipient(&f, id, user).await else {
            continue;
        };
        news.extend(detail.deliveries.iter().rev().map(|delivery| News {
            tenant: f.tenant.clone(),
            about: About::Delivery(delivery.id),
            says: Says::Failed("lost".to_owned()),
        }));
    }
    f.store
        .receive_news(f.now(), &hook(), &news)
        .await
        .expect("notes");
}

async fn recipient(f: &Fixture, id: NotificationId, user: &str) -> Option<RecipientDetail> {
    let user = f.user(user);
    let recipients = f.store.recipients(&f.tenant, id, None, 100).await.expect("reads");
    recipients.into_iter().find(|detail| detail.user == user)
}

async fn toggle(f: Arc<Fixture>, row: EndpointRow, turn: usize) {
    let state = if turn.is_multiple_of(2) {
        EndpointState::Disabled
    } else {
        EndpointState::Enabled
    };
    let host = HOSTS[turn % HOSTS.len()];
    let change = EndpointChange {
        url: Some((row.url.clone(), Arc::from(format!("{host}:443")))),
        state: Some(state),
        ..EndpointChange::default()
    };
    let moved = f
        .store
        .update_endpoint(f.now(), &f.tenant, row.id, &change, 5)
        .await;
    let moved = moved.expect("changes").expect("is there");
    while f.store.move_work(f.now(), &moved, 5).await.expect("moves") {}
    f.store.end_closed(f.now(), f.now(), 20).await.expect("ends");
}

/// Users answer, and what one of them answered for all ends for the others.
async fn withdraw(f: Arc<Fixture>, turn: usize) {
    let id = send(f.clone(), turn).await;
    let any = r#"{"acknowledged_by":"any","steps":[]}"#;
    run(
        &f,
        format!("UPDATE notifications SET plan = '{any}' WHERE id = '{id}'"),
    )
    .await;
    let mut commands: Vec<MailboxCommand> = USERS
        .into_iter()
        .map(|user| MailboxCommand {
            tenant: f.tenant.clone(),
            user: f.user(user),
            name: None,
            device: None,
            answering: Vec::new(),
            channel: None,
            operations: vec![
                Operation::ReadAll {
                    category: None,
                    before: None,
                },
                Operation::Entry(Which::Notification(id), EntryAction::Read),
            ],
        })
        .collect();
    commands.rotate_left(turn % USERS.len());
    let recallable = Recallable::of(&f.tenant, vec![hook()]);
    f.store
        .mutate(f.now(), &commands[..2], &recallable)
        .await
        .expect("answers");
    let leases = f.store.lease_withdrawals(f.now(), 4, f.now()).await;
    for lease in leases.expect("leases") {
        f.store.withdraw_page(f.now(), &lease).await.expect("ends");
    }
}

async fn turns<F: Future<Output = ()> + Send>(turn: impl Fn(usize) -> F + Send) {
    for number in 0..TURNS {
        turn(number).await;
    }
}

/// Everything that takes several rows at once, side by side: nobody waits for somebody who waits for him. The stores of
/// these tests begin nothing anew, so that a transaction which the database breaks off fails the test.
pub(super) async fn nobody_waits_for_who_waits_for_him(f: Fixture) {
    let rows = endpoints(&f).await;
    let f = Arc::new(f);
    let first = send(f.clone(), 0).await;
    let mut tasks = JoinSet::new();
    for offset in 0..2 {
        let (one, two, three) = (f.clone(), f.clone(), f.clone());
        tasks.spawn(async move {
            turns(|turn| {
                let f = one.clone();
                async move {
                    let id = send(f.clone(), turn + offset).await;
                    if turn % 3 == 0 {
                        f.store
                            .cancel(f.now(), &f.tenant, id, &[hook()])
                            .await
                            .expect("cancels");
                    } else {
                        news(f, id).await;
                    }
                }
            })
            .await
        });
        tasks.spawn(async move { turns(|turn| deliver(two.clone(), turn + offset)).await });
        tasks.spawn(async move { turns(|_| redrive(three.clone())).await });
    }
    let one = f.clone();
    tasks.spawn(async move { turns(|turn| withdraw(one.clone(), turn)).await });
    let (one, two, three) = (f.clone(), f.clone(), f.clone());
    tasks
        .spawn(async move { turns(|turn| toggle(one.clone(), rows[turn % rows.len()].clone(), turn)).await });
    tasks.spawn(async move {
        turns(|_| {
            let f = two.clone();
            async move {
                f.store.expire_deliveries(f.now(), 20).await.expect("expires");
                f.advance(Duration::from_secs(120));
            }
        })
        .await
    });
    tasks.spawn(async move {
        turns(|turn| {
            let f = three.clone();
            async move {
                let user = f.user(USERS[turn % USERS.len()]);
                if turn % 10 == 9 {
                    let erasure = Erasure {
                        tenant: f.tenant.clone(),
                        user,
                        name: None,
                    };
                    f.store.erase(f.now(), &erasure).await.expect("erases");
                } else {
                    news(f, first).await;
                }
            }
        })
        .await
    });
    while let Some(done) = tasks.join_next().await {
        done.expect("nobody was broken off");
    }
    let tally = f.store.tally_outside().await.expect("counts");
    assert_eq!(tally.stranded, 0, "what is pending has work: {tally:?}");
    let states = f.store.tally_states().await.expect("counts");
    let sum: u64 = states.iter().map(|(_, _, count)| count).sum();
    assert_eq!(
        sum, tally.all,
        "every delivery is in a state that there is: {states:?}"
    );
}

pub(super) async fn an_endpoint_may_move_while_what_ended_is_sent_again(f: Fixture) {
    let f = Arc::new(f);
    let row = endpoints(&f).await.remove(1);
    let mut ids = Vec::new();
    for _ in 0..4 {
        let until = f.now().after(Duration::from_secs(3_600));
        let event = EventRow {
            tenant: f.tenant.clone(),
            id: carillon_domain::EventId::at(f.now()),
            kind: "webhook.test",
            body: "{}".to_owned(),
            at: f.now(),
        };
        let outside = OutsideRow {
            state: DeliveryState::Dead,
            ..crate::endpoints::told(f.now(), &row, event.id, until)
        };
        let rows = std::slice::from_ref(&outside);
        f.store.open_work(rows, &[]).await.expect("commits");
        ids.push(outside.id);
    }
    let moves = {
        let (f, id) = (Arc::clone(&f), row.id);
        tokio::spawn(async move {
            for turn in 0..2 * TURNS {
                let host = HOSTS[turn % HOSTS.len()];
                let url = format!("https://{host}/").parse().expect("an address");
                let change = EndpointChange {
                    url: Some((url, Arc::from(format!("{host}:443")))),
                    fifo: Some(turn % 2 == 0),
                    ..EndpointChange::default()
                };
                let moved = f.store.update_endpoint(f.now(), &f.tenant, id, &change, 9).await;
                assert!(moved.expect("commits").is_some());
            }
        })
    };
    for _ in 0..TURNS {
        for id in &ids {
            f.store.resend(f.now(), &f.tenant, *id).await.expect("commits");
        }
        balanced(&f).await;
        // As though they were dead again, with their lanes left to whoever looks.
        run(&f, "DELETE FROM delivery_queue".to_owned()).await;
        run(&f, "DELETE FROM lanes".to_owned()).await;
        run(&f, "UPDATE deliveries SET state = 'dead'".to_owned()).await;
    }
    moves.await.expect("moves");
}
