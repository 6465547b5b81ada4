//! Durable accepts per second, one by one over many connections and in batches of 100.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use crate::{
    http::Client,
    process::Server,
    report::{Figure, median, spread},
};

const CONNECTIONS: usize = 32;
const SINGLES: usize = 4_000;
const BATCHES: usize = 100;
const BATCH: usize = 100;
const ITEM: &str = r#"{"targets":[{"user":"ada"}],"content":{"title":"Build failed","body":"main is red since a minute ago"}}"#;

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (mut singles, mut batches) = (Pairs::default(), Pairs::default());
    for _ in 0..rounds {
        singles.floor.push(floor(SINGLES / 4, 1)?);
        singles
            .carillon
            .push(carillon(program, CONNECTIONS, SINGLES / CONNECTIONS, 1)?);
        batches.floor.push(floor(BATCHES, BATCH)?);
        batches.carillon.push(carillon(program, 2, BATCHES / 2, BATCH)?);
    }
    Ok(vec![
        singles.figure("durable accepts, single, 32 connections", "one commit each"),
        batches.figure("durable accepts, batches of 100", "one commit per 100"),
    ])
}

#[derive(Default)]
struct Pairs {
    carillon: Vec<f64>,
    floor: Vec<f64>,
}

impl Pairs {
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
            floor: format!("{:.0}/s, bare SQLite, {floor}", median(self.floor)),
            ratio: spread(ratios),
        }
    }
}

/// Accepted notifications per second, while planning and everything else goes on as usual.
fn carillon(program: &Path, connections: usize, requests: usize, size: usize) -> Result<f64> {
    let server = Server::carillon(program)?;
    let (path, body) = match size {
        1 => ("/v1/notifications", ITEM.to_owned()),
        _ => (
            "/v1/notifications/batch",
            format!(r#"{{"notifications":[{}]}}"#, vec![ITEM; size].join(",")),
        ),
    };
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
    Ok((connections * requests * size) as f64 / begin.elapsed().as_secs_f64())
}

/// Rows like the accept path's (one notification, one outbox row), set-based, with nothing around them.
fn floor(commits: usize, size: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("floor.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut database = SqliteConnection::connect_with(&options).await?;
        for statement in [
            "CREATE TABLE notifications (tenant TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, content TEXT NOT NULL, \
             targets TEXT NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID",
            "CREATE TABLE outbox (tenant TEXT NOT NULL, id TEXT NOT NULL, available_at INTEGER NOT NULL, PRIMARY KEY (tenant, id)) \
             WITHOUT ROWID",
            "CREATE INDEX outbox_due ON outbox (available_at)",
        ] {
            sqlx::query(statement).execute(&mut database).await?;
        }
        let begin = Instant::now();
        for at in 0..commits {
            let rows: Vec<_> = (0..size)
                .map(|_| serde_json::json!([Uuid::new_v4().to_string(), ITEM, at]))
                .collect();
            let rows = serde_json::Value::from(rows).to_string();
            let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(
                "INSERT INTO notifications SELECT 'default', value ->> 0, 'accepted', value ->> 1, '[{\"user\":\"ada\"}]', value ->> 2 \
                 FROM json_each($1)",
            )
            .bind(&rows)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("INSERT INTO outbox SELECT 'default', value ->> 0, value ->> 2 FROM json_each($1)")
                .bind(&rows)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        Ok((commits * size) as f64 / begin.elapsed().as_secs_f64())
    })
}
