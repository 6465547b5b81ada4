//! What the rows of one tenant say, as they are committed.

use std::collections::{HashMap, HashSet};

use carillon_domain::{NotificationId, TenantId, UserId};
use carillon_policy::Plan;
use carillon_sql::Database;
use sqlx::AssertSqlSafe;

/// Which recipient.
pub(super) type Key = (NotificationId, UserId);
/// A recipient, a step, a channel and an address.
pub(super) type Way = (Key, i64, String, String);

/// Everything of a tenant that laws speak of.
#[derive(Default)]
pub(super) struct Picture {
    pub(super) recipients: HashMap<Key, Recipient>,
    /// States by what was sent where, the inbox among it.
    pub(super) deliveries: HashMap<Way, String>,
    /// When something is due of whom, and how often it was handed out.
    pub(super) climbs: HashMap<Key, (i64, i64)>,
    /// How often what was decided about which step.
    pub(super) decisions: HashMap<(Key, String, Option<i64>), u64>,
    pub(super) notes: HashMap<NotificationId, Row>,
    pub(super) seen: HashSet<Key>,
    /// Channels and addresses.
    pub(super) suppressed: HashSet<(String, String)>,
    /// How often each waiting notification was handed out.
    pub(super) outbox: HashMap<NotificationId, i64>,
    pub(super) due: Due,
    /// Rows that wait for something: none when all is over.
    pub(super) waiting: u64,
}

pub(super) struct Recipient {
    pub(super) state: String,
    pub(super) phase: String,
    pub(super) step: Option<i64>,
    pub(super) step_at: Option<i64>,
}

pub(super) struct Row {
    pub(super) state: String,
    pub(super) closed: bool,
    pub(super) expires_at: i64,
    /// As it is climbed, once it was planned.
    pub(super) plan: Option<Plan>,
}

/// When the next of each is due.
#[derive(Default, Clone, Copy)]
pub(super) struct Due {
    pub(super) outbox: Option<i64>,
    pub(super) climbs: Option<i64>,
    pub(super) lanes: Option<i64>,
    pub(super) work_expires: Option<i64>,
    pub(super) closing: Option<i64>,
    pub(super) withdrawals: Option<i64>,
}

type Columns = (
    String,
    String,
    String,
    String,
    String,
    String,
    Option<i64>,
    Option<i64>,
);

/// One statement, so that all of it is of one moment.
const ALL: &str = "\
    SELECT 'recipient' AS a, notification AS b, user_id AS c, state AS d, COALESCE(phase, '') AS e, '' AS f, \
    CAST(step AS BIGINT) AS g, step_at AS h \
    FROM recipients WHERE tenant = $1 \
    UNION ALL SELECT 'delivery', notification, user_id, channel, address, state, CAST(step AS BIGINT), created_at \
    FROM deliveries WHERE tenant = $1 AND user_id <> '' \
    UNION ALL SELECT 'climb', notification, user_id, '', '', '', CAST(lease AS BIGINT), due_at \
    FROM climbs WHERE tenant = $1 \
    UNION ALL SELECT 'decision', notification, user_id, kind, '', '', CAST(step AS BIGINT), CAST(number AS BIGINT) \
    FROM decisions WHERE tenant = $1 \
    UNION ALL SELECT 'note', id, '', state, COALESCE(plan, ''), '', closed_at, expires_at \
    FROM notifications WHERE tenant = $1 \
    UNION ALL SELECT 'outbox', notification, '', '', '', '', CAST(lease AS BIGINT), due_at FROM outbox WHERE tenant = $1 \
    UNION ALL SELECT 'withdrawal', notification, '', '', '', '', CAST(NULL AS BIGINT), due_at \
    FROM withdrawals WHERE tenant = $1 \
    UNION ALL SELECT 'lane', '', '', channel, '', '', CAST(NULL AS BIGINT), due_at FROM lanes WHERE tenant = $1 \
    AND EXISTS (SELECT 1 FROM delivery_queue q WHERE q.tenant = lanes.tenant AND q.channel = lanes.channel \
    AND q.lane = lanes.lane AND q.strand = lanes.strand) \
    UNION ALL SELECT 'work', '', '', delivery, operation, '', CAST(lease AS BIGINT), expires_at \
    FROM delivery_queue WHERE tenant = $1 \
    UNION ALL SELECT 'seen', notification, user_id, '', '', '', CAST(NULL AS BIGINT), at \
    FROM receipts WHERE tenant = $1 AND kind = 'seen' \
    UNION ALL SELECT 'suppressed', '', '', channel, address, '', CAST(NULL AS BIGINT), at \
    FROM suppressions WHERE tenant = $1";

/// Takes it.
pub(super) async fn picture(database: &Database, tenant: &TenantId) -> Result<Picture, String> {
    let why = "a simulation looks at its tenant";
    let failed = |error: &dyn std::error::Error| format!("the store cannot be looked at: {error}");
    // One row for all: each row of SQLite's answers is a message between threads.
    let (text,): (String,) = match database {
        Database::Sqlite(sqlite) => {
            let mut read = sqlite.read_system(why).await.map_err(|error| failed(&error))?;
            let statement = format!("SELECT json_group_array(json_array(a, b, c, d, e, f, g, h)) FROM ({ALL})");
            let all = sqlx::query_as(AssertSqlSafe(statement)).bind(tenant.as_str());
            all.fetch_one(&mut *read).await
        }
        Database::Postgres(postgres) => {
            let mut read = postgres.read_system(why).await.map_err(|error| failed(&error))?;
            let statement = format!(
                "SELECT COALESCE(json_agg(json_build_array(a, b, c, d, e, f, g, h))::text, '[]') FROM ({ALL}) AS v"
            );
            let all = sqlx::query_as(AssertSqlSafe(statement)).bind(tenant.as_str());
            all.fetch_one(&mut *read).await
        }
    }
    .map_err(|error| failed(&error))?;
    let rows: Vec<Columns> = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    let mut picture = Picture::default();
    for row in rows {
        picture.add(row);
    }
    Ok(picture)
}

impl Picture {
    fn add(&mut self, row: Columns) {
        let (of, note, user, one, two, three, number, at) = row;
        let note_id = || note.parse().expect("a notification's id");
        let key = || (note_id(), user.parse().expect("a user's id"));
        let earliest = |due: &mut Option<i64>| *due = (*due).into_iter().chain(at).min();
        match of.as_str() {
            "recipient" => {
                let (state, phase, step, step_at) = (one, two, number, at);
                let recipient = Recipient {
                    state,
                    phase,
                    step,
                    step_at,
                };
                self.recipients.insert(key(), recipient);
            }
            "delivery" => {
                let way = (key(), number.expect("a step"), one, two);
                self.deliveries.insert(way, three);
            }
            "climb" => {
                earliest(&mut self.due.climbs);
                self.waiting += 1;
                let place = (at.expect("a time"), number.expect("a lease"));
                self.climbs.insert(key(), place);
            }
            "decision" => *self.decisions.entry((key(), one, number)).or_default() += 1,
            "note" => {
                let expires_at = at.expect("a time");
                if one == "planned" && number.is_none() {
                    earliest(&mut self.due.closing);
                    self.waiting += 1;
                }
                let row = Row {
                    closed: number.is_some(),
                    expires_at,
                    plan: serde_json::from_str(&two).ok(),
                    state: one,
                };
                self.notes.insert(note_id(), row);
            }
            "outbox" => {
                earliest(&mut self.due.outbox);
                self.outbox.insert(note_id(), number.expect("a lease"));
                self.waiting += 1;
            }
            "withdrawal" => {
                earliest(&mut self.due.withdrawals);
                self.waiting += 1;
            }
            "lane" => earliest(&mut self.due.lanes),
            "work" => {
                earliest(&mut self.due.work_expires);
                self.waiting += 1;
            }
            "seen" => {
                self.seen.insert(key());
            }
            _ => {
                self.suppressed.insert((one, two));
            }
        }
    }

    /// How a recipient stands, as far as it is planned.
    pub(super) fn state(&self, key: &Key) -> Option<&str> {
        self.recipients.get(key).map(|recipient| recipient.state.as_str())
    }

    /// The states of what one step sent to a recipient.
    pub(super) fn sent(&self, key: Key, step: i64) -> impl Iterator<Item = &str> {
        self.deliveries
            .iter()
            .filter(move |((of, at, ..), _)| (*of, *at) == (key, step))
            .map(|(_, state)| state.as_str())
    }

    /// Whether something was decided about a step.
    pub(super) fn decided(&self, key: Key, kinds: &[&str], step: i64) -> bool {
        kinds.iter().any(|kind| {
            self.decisions
                .contains_key(&(key, (*kind).to_owned(), Some(step)))
        })
    }
}
