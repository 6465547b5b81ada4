//! Work that may be handed out, with all that decides about it.

use std::sync::Arc;

use carillon_domain::{DeliveryId, Timestamp, ports::Operation};
use carillon_sql::StoreError;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{delivery_state, small};
use crate::store::{
    outside::{
        decide::{Candidate, CandidateDelivery, Unreadable},
        quiet::Quiet,
        receipt::Early,
        records::{Brings, LaneKey, LeasedDelivery},
    },
    rows::{corrupt, word},
};

/// The columns of [`CandidateColumns`]: of work `c`, its delivery `d`, a suppression `s`, an endpoint `e`, what its
/// recipient `u` wants before a first attempt, whether he turned it off since. What is behind is [`STRAGGLER`] of what may be
/// handed out, and [`NO_STRAGGLER`] of what can only end.
pub(in crate::store) fn candidate_columns(straggler: &str) -> String {
    format!("{CANDIDATE}, {straggler}, c.zone, u.body")
}

/// The earliest work of the strand of `c` that is in another lane, and before `c`: the delivery and the lane. It costs by
/// what is before `c`, so it is for the first of a strand alone.
pub(in crate::store) const STRAGGLER: &str = "CASE WHEN c.strand <> '' THEN (SELECT o.delivery || ' ' || o.lane \
    FROM delivery_queue o WHERE o.tenant = c.tenant AND o.channel = c.channel AND o.strand = c.strand \
    AND o.strand <> '' AND o.ord <= c.ord AND o.lane <> c.lane AND (o.ord < c.ord OR o.delivery < c.delivery) \
    ORDER BY o.ord, o.delivery LIMIT 1) END";

/// Nobody looks.
pub(in crate::store) const NO_STRAGGLER: &str = "NULL";

const CANDIDATE: &str = "c.tenant, c.delivery, c.channel, c.lane, c.strand, c.operation, \
    c.expires_at, c.lease, c.earlier, d.notification, d.user_id, d.address, d.locale, d.state, d.provider_id, \
    d.created_at, d.reason, s.reason, e.state, c.stands, \
    CASE WHEN (SELECT o.enabled FROM notifications n CROSS JOIN preferences o \
    WHERE n.tenant = c.tenant AND n.id = d.notification AND n.critical = 0 AND o.tenant = c.tenant \
    AND o.user_id = d.user_id AND o.category IN (n.category, '') AND o.channel IN (c.channel, '') \
    AND (o.category <> '' OR o.channel <> '') AND (o.enabled = 1 OR (o.enabled = 0 AND NOT EXISTS \
    (SELECT 1 FROM categories k WHERE k.tenant = n.tenant AND k.name = n.category AND k.mandatory = 1))) \
    ORDER BY (CASE WHEN o.channel <> '' THEN 2 ELSE 0 END) + (CASE WHEN o.category <> '' THEN 1 ELSE 0 END) DESC \
    LIMIT 1) = 0 THEN 'yes' END, d.news, d.name, e.id, e.lane, e.fifo";

/// What [`candidate_columns`] need joined to the work `c`.
pub(in crate::store) const CANDIDATE_JOINS: &str = "LEFT JOIN deliveries d ON d.tenant = c.tenant \
    AND d.id = c.delivery AND d.channel <> 'in_app' \
    LEFT JOIN suppressions s ON s.tenant = c.tenant AND s.channel = c.channel AND s.address = d.address \
    LEFT JOIN endpoints e ON c.channel = 'webhook' AND e.tenant = c.tenant AND e.id = d.address \
    LEFT JOIN user_policies u ON c.zone IS NOT NULL AND c.lease = 0 AND u.tenant = c.tenant AND u.user_id = d.user_id";

pub(in crate::store) struct CandidateColumns {
    lane: [String; 5],
    operation: String,
    numbers: [i64; 3],
    delivery: [Option<String>; 6],
    created_at: Option<i64>,
    reason: Option<String>,
    suppressed: Option<String>,
    endpoint: Option<String>,
    stands: Option<String>,
    turned_off: Option<String>,
    news: Option<String>,
    name: Option<String>,
    /// Its endpoint's id and lane.
    home: [Option<String>; 2],
    fifo: Option<i64>,
    straggler: Option<String>,
    quiet: (Option<String>, Option<String>),
}

/// Where a settlement finds its delivery: its place in the batch, the delivery's state, what stands while it is sent again, news that
/// came early, the endpoint's state, since when it fails, and when it last did; the lane and the strand of its work.
pub(in crate::store) type FoundRow = (
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    String,
    String,
);

impl<'r, R> FromRow<'r, R> for CandidateColumns
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            lane: [
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            ],
            operation: row.try_get(5)?,
            numbers: [row.try_get(6)?, row.try_get(7)?, row.try_get(8)?],
            delivery: [
                row.try_get(9)?,
                row.try_get(10)?,
                row.try_get(11)?,
                row.try_get(12)?,
                row.try_get(13)?,
                row.try_get(14)?,
            ],
            created_at: row.try_get(15)?,
            reason: row.try_get(16)?,
            suppressed: row.try_get(17)?,
            endpoint: row.try_get(18)?,
            stands: row.try_get(19)?,
            turned_off: row.try_get(20)?,
            news: row.try_get(21)?,
            name: row.try_get(22)?,
            home: [row.try_get(23)?, row.try_get(24)?],
            fifo: row.try_get(25)?,
            straggler: row.try_get(26)?,
            quiet: (row.try_get(27)?, row.try_get(28)?),
        })
    }
}

/// From a list of the columns, as SQLite answers with all rows together.
impl<'de> Deserialize<'de> for CandidateColumns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Columns)
    }
}

struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = CandidateColumns;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the columns of a candidate")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<CandidateColumns, A::Error> {
        // The fields of a literal are evaluated in the order in which they are written.
        Ok(CandidateColumns {
            lane: [
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
            ],
            operation: next(&mut row)?,
            numbers: [next(&mut row)?, next(&mut row)?, next(&mut row)?],
            delivery: [
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
                next(&mut row)?,
            ],
            created_at: next(&mut row)?,
            reason: next(&mut row)?,
            suppressed: next(&mut row)?,
            endpoint: next(&mut row)?,
            stands: next(&mut row)?,
            turned_off: next(&mut row)?,
            news: next(&mut row)?,
            name: next(&mut row)?,
            home: [next(&mut row)?, next(&mut row)?],
            fifo: next(&mut row)?,
            straggler: next(&mut row)?,
            quiet: (next(&mut row)?, next(&mut row)?),
        })
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(row: &mut A) -> Result<T, A::Error> {
    row.next_element()?
        .ok_or_else(|| A::Error::custom("a candidate with too few columns"))
}

/// Candidates, and what cannot be read: one of a thousand must not keep its neighbours from being handed out.
pub(in crate::store) fn candidates(
    rows: impl IntoIterator<Item = CandidateColumns>,
) -> (Vec<Candidate>, Vec<Unreadable>) {
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        let [tenant, delivery, ..] = &row.lane;
        let key = (tenant.clone(), delivery.clone());
        match candidate(row) {
            Ok(candidate) => readable.push(candidate),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    tenant = key.0,
                    delivery = key.1,
                    "work cannot be read; it is a dead letter now"
                );
                unreadable.push(key);
            }
        }
    }
    (readable, unreadable)
}

/// A delivery and the lane of its work.
fn straggler(text: &str) -> Result<(DeliveryId, Arc<str>), StoreError> {
    let (id, lane) = text.split_once(' ').ok_or_else(|| corrupt("a straggler", text))?;
    Ok((word(id)?, Arc::from(lane)))
}

fn candidate(row: CandidateColumns) -> Result<Candidate, StoreError> {
    let [tenant, delivery, channel, lane, strand] = &row.lane;
    let [expires, token, earlier] = row.numbers;
    let key = LaneKey {
        tenant: word(tenant)?,
        channel: word(channel)?,
        lane: Arc::from(lane.as_str()),
        strand: Arc::from(strand.as_str()),
    };
    let (id, token, earlier) = (word(delivery)?, small(token)?, small(earlier)?);
    let home = match row.home {
        [Some(endpoint), Some(lane)] => {
            let strand = if row.fifo == Some(1) {
                endpoint
            } else {
                String::new()
            };
            Some((Arc::from(lane), Arc::from(strand)))
        }
        _ => None,
    };
    let of = match row.delivery {
        [
            Some(brings),
            Some(user),
            Some(address),
            locale,
            Some(state),
            provider_id,
        ] => {
            let state = delivery_state(&state)?;
            // What cannot be read must not keep its neighbours from being handed out.
            let leased = || {
                Ok::<_, StoreError>(LeasedDelivery {
                    key: key.clone(),
                    id,
                    brings: brings.parse::<Brings>().map_err(|_| corrupt("an id", &brings))?,
                    user: if user.is_empty() { None } else { Some(word(&user)?) },
                    name: row.name.as_deref().map(word).transpose()?,
                    address: word(&address)?,
                    locale: locale.map(Arc::from),
                    operation: Operation::from_stored(&row.operation)
                        .ok_or_else(|| corrupt("an operation", &row.operation))?,
                    provider_id,
                    token,
                    earlier,
                    created_at: Timestamp::from_micros(row.created_at.unwrap_or_default()),
                    expires_at: Timestamp::from_micros(expires),
                })
            };
            Some(CandidateDelivery {
                leased: leased().ok(),
                state,
                reason: row.reason,
                suppressed: row.suppressed.is_some(),
                disabled: row.endpoint.as_deref().is_some_and(|state| state != "enabled"),
                turned_off: row.turned_off.is_some(),
                withdrawn: None,
                news: row.news.as_deref().and_then(Early::from_stored),
                home,
                straggler: row.straggler.as_deref().map(straggler).transpose()?,
                quiet: Quiet::stored(row.quiet),
                stands: row.stands.as_deref().map(delivery_state).transpose()?,
            })
        }
        _ => None,
    };
    Ok(Candidate {
        key,
        id,
        token,
        earlier,
        delivery: of,
    })
}
