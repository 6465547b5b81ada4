//! Durable accepts per second, one by one over many connections and in batches of 100.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    http::Client,
    process::Server,
    replay::Replay,
    report::{Figure, median, spread},
};

const CONNECTIONS: usize = 32;
const SINGLES: usize = 4_000;
/// More than a second: in the first batches a new server still prepares its statements and fills its caches.
const BATCHES: usize = 500;
/// Into one inbox, whose log keeps 10,000 changes.
const FEW: usize = 100;
const BATCH: usize = 100;
/// In microseconds.
const HOUR: i64 = 3_600_000_000;
const LIMIT: Duration = Duration::from_secs(60);
/// What there is in a request.
const ITEM: &str = r#""targets":[{"user":"ada"}],"content":{"title":"Build failed","body":"main is red since a minute ago"}"#;

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (mut singles, mut batches, mut planned) = (Pairs::default(), Pairs::default(), Pairs::default());
    for _ in 0..rounds {
        singles.add(program, CONNECTIONS, SINGLES / CONNECTIONS, 1, Planning::Later)?;
        batches.add(program, 2, BATCHES / 2, BATCH, Planning::Later)?;
        planned.add(program, 2, FEW / 2, BATCH, Planning::Included)?;
    }
    Ok(vec![
        singles.figure("durable accepts, single, 32 connections", "one commit each"),
        batches.figure("durable accepts, batches of 100", "one commit per 100"),
        planned.figure(
            "accepted in batches of 100 and planned, into one inbox",
            "the rows of both, two commits per 100",
        ),
    ])
}

/// Whether what is accepted is planned within the measured time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Planning {
    /// It is due in an hour.
    Later,
    /// Until the last one is planned.
    Included,
}

#[derive(Default)]
struct Pairs {
    carillon: Vec<f64>,
    floor: Vec<f64>,
}

impl Pairs {
    fn add(
        &mut self,
        program: &Path,
        connections: usize,
        requests: usize,
        size: usize,
        planning: Planning,
    ) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("data/dispatcher.sqlite");
        let server = Server::carillon_in(program, &[], folder)?;
        self.carillon
            .push(carillon(&server, connections, requests, size, planning)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        self.floor.push(runtime.block_on(floor(&store, size, planning))?);
        Ok(())
    }

    fn figure(self, name: &'static str, floor: &str) -> Figure {
        let ratios = self
            .carillon
            .iter()
            .zip(&self.floor)
            .map(|(ours, floor)| ours / floor)
            .collect();
        Figure {
            name,
            carillon: format!("{:.0}/s", median(self.carillon)),
            floor: format!(
                "{:.0}/s, bare SQLite, the same rows and indexes, {floor}",
                median(self.floor)
            ),
            ratio: spread(ratios),
        }
    }
}

/// Accepted notifications per second.
fn carillon(
    server: &Server,
    connections: usize,
    requests: usize,
    size: usize,
    planning: Planning,
) -> Result<f64> {
    let item = match planning {
        Planning::Included => format!("{{{ITEM}}}"),
        Planning::Later => {
            let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_micros())?;
            let later = jiff::Timestamp::from_microsecond(now + HOUR)?;
            format!(r#"{{{ITEM},"send_at":"{later}"}}"#)
        }
    };
    let (path, body) = match size {
        1 => ("/v1/notifications", item),
        _ => (
            "/v1/notifications/batch",
            format!(r#"{{"notifications":[{}]}}"#, vec![item; size].join(",")),
        ),
    };
    let count = connections * requests * size;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(server.port, &server.key)?;
                    let request = client.prepare(path, &body);
                    for _ in 0..requests {
                        let (status, answer) = client.exchange(&request)?;
                        ensure!(
                            status == 202,
                            "accept: {status} {}",
                            String::from_utf8_lossy(&answer)
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().ok().context("a client thread panicked")?)
    })?;
    while planning == Planning::Included
        && (server.counter("carillon_dispatcher_planned_total", &[])? as usize) < count
    {
        ensure!(begin.elapsed() < LIMIT, "they are not planned within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// What accepting writes of some notifications.
const ACCEPTED: &[&str] = &[
    "INSERT INTO notifications (tenant, id, state, category, priority, collapse_key, content, targets, created_at, \
     send_at, expires_at, channels, template, template_version, data, plan, critical, digest_key) \
     SELECT tenant, id, 'accepted', category, priority, collapse_key, content, targets, created_at, send_at, expires_at, \
     channels, template, template_version, data, NULL, critical, digest_key \
     FROM source.notifications WHERE tenant = 'default' AND id BETWEEN $1 AND $2",
    "INSERT INTO outbox (tenant, notification, due_at, lease) SELECT tenant, id, send_at, 0 \
     FROM source.notifications WHERE tenant = 'default' AND id BETWEEN $1 AND $2",
];

/// What planning them writes.
const PLANNED: &[&str] = &[
    "INSERT INTO recipients SELECT * FROM source.recipients WHERE tenant = 'default' AND notification BETWEEN $1 AND $2",
    "INSERT OR REPLACE INTO mailboxes SELECT * FROM source.mailboxes WHERE tenant = 'default' AND $1 <= $2",
    "INSERT INTO mailbox_log SELECT l.* FROM source.recipients r \
     CROSS JOIN source.mailbox_log l ON l.tenant = r.tenant AND l.user_id = r.user_id AND l.seq = r.seq \
     WHERE r.tenant = 'default' AND r.notification BETWEEN $1 AND $2",
    "INSERT INTO entries SELECT e.* FROM source.recipients r \
     CROSS JOIN source.entries e ON e.tenant = r.tenant AND e.user_id = r.user_id AND e.id = r.entry \
     WHERE r.tenant = 'default' AND r.notification BETWEEN $1 AND $2",
    "INSERT INTO deliveries SELECT * FROM source.deliveries WHERE tenant = 'default' AND notification BETWEEN $1 AND $2",
    "INSERT INTO climbs SELECT * FROM source.climbs WHERE tenant = 'default' AND notification BETWEEN $1 AND $2",
    "UPDATE notifications SET state = 'planned', ended_at = created_at, plan = (SELECT s.plan FROM source.notifications s \
     WHERE s.tenant = notifications.tenant AND s.id = notifications.id) WHERE tenant = 'default' AND id BETWEEN $1 AND $2",
    "DELETE FROM outbox WHERE tenant = 'default' AND notification BETWEEN $1 AND $2",
];

/// The same rows, by the bare loop.
async fn floor(store: &Path, size: usize, planning: Planning) -> Result<f64> {
    let mut floor = Replay::of(store).await?;
    let ids = floor
        .texts(
            "SELECT id FROM source.notifications WHERE tenant = $1 ORDER BY id",
            "default",
        )
        .await?;
    let mut took = Duration::ZERO;
    for ids in ids.chunks(size) {
        if let ([first, ..], [.., last]) = (ids, ids) {
            took += floor.commit(ACCEPTED, &[first, last]).await?;
            if planning == Planning::Included {
                took += floor.commit(PLANNED, &[first, last]).await?;
            }
        }
    }
    Ok(ids.len() as f64 / took.as_secs_f64())
}
