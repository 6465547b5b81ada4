use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    ledger::{Ledger, Number, Request},
    outside::Outside,
};
use crate::harness::Api;

/// How many mailboxes there are.
pub(super) const USERS: usize = 8;

/// The first number of what is withdrawn: far from the others.
const WITHDRAWN: Number = 1 << 40;

pub(super) fn user(index: usize) -> String {
    format!("user{index}")
}

/// Posts until told to stop; what is under way then is finished first.
pub(super) async fn send(
    api: Api,
    ledger: Arc<Ledger>,
    outside: Arc<Outside>,
    numbers: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
    seed: u64,
    stop: watch::Receiver<bool>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    while !*stop.borrow() {
        if ledger.accepted() >= limit.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let size = if random.random_bool(0.6) {
            1
        } else {
            random.random_range(2..=30)
        };
        let items: Vec<(Number, Vec<usize>)> = (0..size)
            .map(|_| (numbers.fetch_add(1, Ordering::Relaxed), recipients(&mut random)))
            .collect();
        let key = format!("key-{}", items[0].0);
        ledger.intend(&key, &items);
        let bodies: Vec<Value> = items
            .iter()
            .map(|(number, users)| {
                let mut body = body(*number, users);
                outside.extend(*number, &mut body);
                body
            })
            .collect();
        let (path, body) = if size == 1 && random.random_bool(0.9) {
            ("/v1/notifications", bodies.into_iter().next().expect("one item"))
        } else {
            ("/v1/notifications/batch", json!({"notifications": bodies}))
        };
        let ids = until_answered(&api, &ledger, path, &key, &body).await;
        let request = Request { key, path, body, ids };
        ledger.accept(&items, request.clone());
        if random.random_bool(0.03) {
            again(&api, &ledger, &request).await;
        }
    }
}

/// Posts what goes outside alone, and withdraws it a moment later, until told to stop.
pub(super) async fn withdraw(
    api: Api,
    ledger: Arc<Ledger>,
    outside: Arc<Outside>,
    seed: u64,
    stop: watch::Receiver<bool>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = WITHDRAWN;
    while !*stop.borrow() {
        let (path, key) = ("/v1/notifications", format!("withdrawn-{number}"));
        let body = outside.to_withdraw(number);
        let id = until_answered(&api, &ledger, path, &key, &body).await.remove(0);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        let cancel = format!("{path}/{id}/cancel");
        loop {
            let request = api
                .request(Method::POST, &cancel)
                .timeout(Duration::from_secs(10))
                .json(&json!({}));
            match request.send().await.map(|answer| answer.status().as_u16()) {
                Ok(200) => break,
                // Accepted, and not there: for the checker to count, not for a sender to stop at.
                Ok(404) => {
                    let mut state = ledger.state();
                    state.contradiction += 1;
                    state.examples.push(format!(
                        "contradiction: {id} was accepted and is not there to be cancelled"
                    ));
                    break;
                }
                Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
                Ok(status) => panic!("{cancel}: {status}"),
            }
        }
        ledger.state().withdrawn.push((number, id));
        number += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
    }
}

fn recipients(random: &mut StdRng) -> Vec<usize> {
    let first = random.random_range(0..USERS);
    if random.random_bool(0.9) {
        vec![first]
    } else {
        (0..3).map(|step| (first + step) % USERS).collect()
    }
}

fn body(number: Number, users: &[usize]) -> Value {
    let targets: Vec<_> = users.iter().map(|index| json!({"user": user(*index)})).collect();
    json!({"targets": targets, "content": {"title": format!("number {number}"), "data": {"n": number}}})
}

/// Asks with one key until there is an answer; the server dies in between.
async fn until_answered(api: &Api, ledger: &Ledger, path: &str, key: &str, body: &Value) -> Vec<String> {
    let mut undecided = false;
    loop {
        let request = api
            .request(Method::POST, path)
            .header("idempotency-key", key)
            .timeout(Duration::from_secs(10))
            .json(body);
        let answer = match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                answer.text().await.map(|text| (status, text))
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok((202, text)) => return ids(&text),
            // The first try may still be under way, or the server is going or coming.
            Ok((409 | 503, _)) => {}
            Ok((status, text)) => panic!("{path} with {key}: {status} {text}"),
            // A refused connection never reached the server; anything else may have.
            Err(error) => {
                if !error.is_connect() && !undecided {
                    undecided = true;
                    ledger.state().indeterminate += 1;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

fn ids(text: &str) -> Vec<String> {
    let answer: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"));
    let items = answer["data"].as_array().cloned().unwrap_or_else(|| vec![answer]);
    items
        .iter()
        .map(|item| {
            item["id"]
                .as_str()
                .unwrap_or_else(|| panic!("no id: {item}"))
                .to_owned()
        })
        .collect()
}

/// The same request once more: the same answer.
pub(super) async fn again(api: &Api, ledger: &Ledger, request: &Request) {
    let repeated = until_answered(api, ledger, request.path, &request.key, &request.body).await;
    if repeated != request.ids {
        let mut state = ledger.state();
        state.contradiction += 1;
        state.example(format!(
            "contradiction: {} made {:?}, then {repeated:?}",
            request.key, request.ids
        ));
    }
}

/// For the seeds of parts of a run.
pub(super) fn split(random: &mut StdRng) -> u64 {
    random.next_u64()
}
