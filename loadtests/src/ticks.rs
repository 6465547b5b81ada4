//! What a look at due steps costs, with many others that wait.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};
use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::{
    process::{Server, folder_in_memory},
    report::{Figure, median, spread},
};

/// Recipients whose deadline passes at once.
const DUE: u32 = 5_000;
const FEW: u32 = 10_000;
const MANY: u32 = 1_000_000;
const DAY: i64 = 86_400_000_000;

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (mut many, mut few) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        few.push(tick(program, FEW)?);
        many.push(tick(program, MANY)?);
    }
    let ratios = many.iter().zip(&few).map(|(many, few)| many / few).collect();
    Ok(vec![Figure {
        name: "CPU per step that falls due, 1,000,000 pending",
        carillon: format!("{:.0} us", median(many)),
        floor: format!("{:.0} us, 10,000 pending", median(few)),
        ratio: spread(ratios),
    }])
}

/// Microseconds of the server's CPU for each of the recipients that fall due while so many others wait.
fn tick(program: &Path, pending: u32) -> Result<f64> {
    let (folder, _) = folder_in_memory()?;
    let store = folder.path().join("data/dispatcher.sqlite");
    let server = Server::carillon_in(program, &[], folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(store)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(60));
        let mut database = SqliteConnection::connect_with(&options).await?;
        let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_micros())?;
        climbing(&mut database, now, 1, pending, now + DAY).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut database)
            .await?;
        // What start-up does is over by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, begin) = (server.cpu()?, Instant::now());
        climbing(&mut database, now, 2, DUE, now).await?;
        loop {
            let (left,): (i64,) = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT COUNT(*) FROM climbs WHERE tenant = 'default' AND notification = {}",
                id("ntf", 2)
            )))
            .fetch_one(&mut database)
            .await?;
            if left == 0 {
                break;
            }
            ensure!(
                begin.elapsed() < Duration::from_secs(60),
                "{left} recipients do not climb"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let spent = server.cpu()? - before;
        let (ended,): (i64,) = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM recipients WHERE tenant = 'default' AND notification = {} AND state <> 'open'",
            id("ntf", 2)
        )))
        .fetch_one(&mut database)
        .await?;
        ensure!(ended == i64::from(DUE), "{ended} of {DUE} recipients came to an end");
        Ok(spent.as_secs_f64() * 1e6 / f64::from(DUE))
    })
}

fn id(prefix: &str, number: u32) -> String {
    format!("'{prefix}_{number:032x}'")
}

/// A notification with so many recipients who stand in a step that lasts until then; nothing arrived of it, and no other
/// follows.
async fn climbing(
    database: &mut SqliteConnection,
    now: i64,
    number: u32,
    recipients: u32,
    due_at: i64,
) -> Result<()> {
    let note = id("ntf", number);
    let ids = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {recipients}), \
         ids AS (SELECT 'usr_' || printf('%016x%016x', {number}, i) AS id FROM n)"
    );
    let plan = r#"{"acknowledged_by":"each","steps":[{"channels":["in_app"],"deadline":30,"when":[]}]}"#;
    let (ends, since) = (now + 30 * DAY, due_at - 30_000_000);
    let statements = [
        format!(
            "INSERT INTO notifications (tenant, id, state, category, priority, content, targets, created_at, send_at, \
             expires_at, ended_at, plan) VALUES ('default', {note}, 'planned', 'default', 'normal', '{{\"title\":\"x\"}}', \
             '[]', {now}, {now}, {ends}, {now}, '{plan}')"
        ),
        format!(
            "{ids} INSERT INTO recipients (tenant, notification, user_id, state, phase, step, step_at) \
             SELECT 'default', {note}, id, 'open', 'climbing', 0, {since} FROM ids"
        ),
        format!(
            "{ids} INSERT INTO climbs (tenant, notification, user_id, due_at) \
             SELECT 'default', {note}, id, {due_at} FROM ids"
        ),
    ];
    let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}
