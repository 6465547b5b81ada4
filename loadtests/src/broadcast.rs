//! A broadcast to 100,000 users of mixed preferences: from its acceptance until all of its rows are durable.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    http::Client,
    process::{Server, prepare},
    replay::Replay,
    report::{Figure, median, spread},
};

const USERS: usize = 100_000;
const FEW: usize = 10_000;
/// Recipients of one commit, as by default.
const PAGE: usize = 2_000;
/// So many that one sync serves several requests while users sign up.
const CONNECTIONS: usize = 32;
/// At the most: until the users have signed up takes minutes already.
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);
/// Nobody is active, so the second step starts at once, for whom it may.
const BODY: &str = r#""category":"news","content":{"title":"A new shop","body":"Opposite the station, from Monday on"},
    "plan":{"steps":[{"channels":["in_app"],"deadline":3600},{"channels":["sms"]}]}"#;

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (server, store) = prepared(program)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (_, few) = runtime.block_on(broadcast(&server, &store, "some", FEW))?;
    let mut floor = runtime.block_on(Replay::of(&store))?;
    let (mut ours, mut bare, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.min(ROUNDS) {
        let (sent, peak) = runtime.block_on(broadcast(&server, &store, "all", USERS))?;
        ours.push(USERS as f64 / sent.took.as_secs_f64());
        peaks.push(peak as f64 / few as f64);
        let took = runtime.block_on(copy(&mut floor, &sent.id))?;
        bare.push(USERS as f64 / took.as_secs_f64());
    }
    let ratios = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    Ok(vec![
        Figure {
            name: "broadcast to 100,000, accepted until all rows are durable",
            carillon: format!("{:.0} recipients/s", median(ours)),
            floor: format!(
                "{:.0}/s, bare SQLite, the same rows, indexes and commits",
                median(bare)
            ),
            ratio: spread(ratios),
        },
        Figure {
            name: "memory at the height of a broadcast to 100,000",
            carillon: format!("{:.1} MiB", median(peaks.clone()) * few as f64 / 1_048_576.0),
            floor: format!("{:.1} MiB, to 10,000", few as f64 / 1_048_576.0),
            ratio: spread(peaks),
        },
    ])
}

/// A server with the users: of twenty, six can be reached outside the inbox; one of them does not want to be, for one it is
/// always night. What is to be sent waits for a worker who never asks.
fn prepared(program: &Path) -> Result<(Server, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    prepare(program, &data, &["migrate"])?;
    let worker = prepare(
        program,
        &data,
        &["keys", "create", "--name", "sms", "--scope", "channel:sms"],
    )?;
    let settings = [("DISPATCHER__PLANNER__BATCH_RECIPIENTS", PAGE.to_string())];
    let server = Server::carillon_in(program, &settings, folder)?;
    Client::connect(server.port, worker.trim())?.put(
        "/v1/channels/sms",
        r#"{"replace":false,"recall":false,"verified":false,"forms":["short"]}"#,
    )?;
    Client::connect(server.port, &server.key)?.put(
        "/v1/categories/news",
        r#"{"title":"News","channels":["in_app","sms"]}"#,
    )?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|part| {
                let server = &server;
                scope.spawn(move || users(server, (part..USERS).step_by(CONNECTIONS)))
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().ok().context("a client thread panicked")?)
    })?;
    Ok((server, data.join("dispatcher.sqlite")))
}

fn users(server: &Server, numbers: impl Iterator<Item = usize>) -> Result<()> {
    let mut client = Client::connect(server.port, &server.key)?;
    let numbers: Vec<usize> = numbers.collect();
    for number in &numbers {
        let user = format!("/v1/users/u{number}");
        match number % 20 {
            0..=3 => {}
            4 => {
                client.put(&format!("{user}/preferences/news/sms"), r#"{"enabled":false}"#)?;
            }
            5 => {
                let always = r#"{"windows":[{"days":["mon","tue","wed","thu","fri","sat","sun"],"start":"00:00","end":"00:00"}]}"#;
                client.put(&format!("{user}/quiet-hours"), always)?;
            }
            _ => continue,
        }
        let profile = format!(r#"{{"addresses":[{{"channel":"sms","address":"+49151{number:08}"}}]}}"#);
        client.put(&user, &profile)?;
    }
    for numbers in numbers.chunks(1_000) {
        let items = |numbers: &mut dyn Iterator<Item = &usize>| {
            let items: Vec<_> = numbers
                .map(|number| format!(r#"{{"subscribe":"u{number}"}}"#))
                .collect();
            format!(r#"{{"items":[{}]}}"#, items.join(","))
        };
        client.post("/v1/topics/all/subscriptions", &items(&mut numbers.iter()))?;
        let mut some = numbers.iter().filter(|number| **number < FEW).peekable();
        if some.peek().is_some() {
            client.post("/v1/topics/some/subscriptions", &items(&mut some))?;
        }
    }
    Ok(())
}

struct Sent {
    id: String,
    took: Duration,
}

/// Sends to all of a topic's subscribers; answers how long it took, and the most memory that the server had meanwhile.
async fn broadcast(server: &Server, store: &Path, topic: &str, recipients: usize) -> Result<(Sent, u64)> {
    let options = SqliteConnectOptions::new()
        .filename(store)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5));
    let mut database = SqliteConnection::connect_with(&options).await?;
    let mut client = Client::connect(server.port, &server.key)?;
    let mut peak = server.anonymous_memory()?;
    let begin = Instant::now();
    let body = format!(r#"{{"targets":[{{"topic":"{topic}"}}],{BODY}}}"#);
    let answer = client.post("/v1/notifications", &body)?;
    let id = answer["id"].as_str().context("an id in the answer")?.to_owned();
    loop {
        let done: Option<(i64,)> =
            sqlx::query_as("SELECT planned FROM broadcasts WHERE tenant = 'default' AND notification = $1 AND state = 'done'")
                .bind(&id)
                .fetch_optional(&mut database)
                .await?;
        if let Some((planned,)) = done {
            ensure!(
                usize::try_from(planned)? == recipients,
                "{planned} of {recipients} were planned"
            );
            let took = begin.elapsed();
            return Ok((Sent { id, took }, peak));
        }
        ensure!(
            begin.elapsed() < LIMIT,
            "the broadcast is not planned within {LIMIT:?}"
        );
        peak = peak.max(server.anonymous_memory()?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The rows of some recipients, from one user to another.
const ROWS: &[&str] = &[
    "INSERT INTO recipients SELECT * FROM source.recipients \
     WHERE tenant = 'default' AND notification = $1 AND user_id BETWEEN $2 AND $3",
    "INSERT OR REPLACE INTO mailboxes SELECT m.* FROM source.recipients r \
     CROSS JOIN source.mailboxes m ON m.tenant = r.tenant AND m.user_id = r.user_id \
     WHERE r.tenant = 'default' AND r.notification = $1 AND r.user_id BETWEEN $2 AND $3",
    "INSERT INTO mailbox_log SELECT l.* FROM source.recipients r \
     CROSS JOIN source.mailbox_log l ON l.tenant = r.tenant AND l.user_id = r.user_id AND l.seq = r.seq \
     WHERE r.tenant = 'default' AND r.notification = $1 AND r.user_id BETWEEN $2 AND $3",
    "INSERT INTO entries SELECT e.* FROM source.recipients r \
     CROSS JOIN source.entries e ON e.tenant = r.tenant AND e.user_id = r.user_id AND e.id = r.entry \
     WHERE r.tenant = 'default' AND r.notification = $1 AND r.user_id BETWEEN $2 AND $3",
    "INSERT INTO deliveries SELECT * FROM source.deliveries \
     WHERE tenant = 'default' AND notification = $1 AND user_id BETWEEN $2 AND $3",
    "INSERT INTO delivery_queue SELECT q.* FROM source.deliveries d \
     CROSS JOIN source.delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id \
     WHERE d.tenant = 'default' AND d.notification = $1 AND d.user_id BETWEEN $2 AND $3",
    "INSERT INTO decisions SELECT * FROM source.decisions \
     WHERE tenant = 'default' AND notification = $1 AND user_id BETWEEN $2 AND $3",
    "INSERT INTO climbs SELECT * FROM source.climbs \
     WHERE tenant = 'default' AND notification = $1 AND user_id BETWEEN $2 AND $3",
    "INSERT OR REPLACE INTO broadcasts SELECT * FROM source.broadcasts \
     WHERE tenant = 'default' AND notification = $1 AND $2 <= $3",
];

/// The same rows, page by page, by the bare loop.
async fn copy(floor: &mut Replay, id: &str) -> Result<Duration> {
    let users = floor
        .texts(
            "SELECT user_id FROM source.recipients WHERE tenant = 'default' AND notification = $1 ORDER BY user_id",
            id,
        )
        .await?;
    ensure!(users.len() == USERS, "{} recipients of {USERS}", users.len());
    let mut took = Duration::ZERO;
    for page in users.chunks(PAGE) {
        if let ([first, ..], [.., last]) = (page, page) {
            took += floor.commit(ROWS, &[id, first, last]).await?;
        }
    }
    Ok(took)
}
