//! What follows a position: of a mailbox log, and of a topic's history.

use carillon_domain::{
    ChangeKind, Epoch, LoggedChange, Position, Publication, Timestamp,
    ports::{Gap, Since},
};
use carillon_sql::StoreError;

use super::{corrupt, json, number, word};

/// What is read of a log: its bounds, and the rows after a position, in one statement and so of one moment.
pub(in crate::store) struct LogSlice<T> {
    pub(in crate::store) epoch: Epoch,
    pub(in crate::store) last_seq: u64,
    pub(in crate::store) floor_seq: u64,
    /// Oldest first, up to one more than asked for.
    pub(in crate::store) items: Vec<(u64, T)>,
}

impl<T> LogSlice<T> {
    /// Of a log that was never written.
    pub(in crate::store) fn empty(epoch: Epoch) -> Self {
        Self {
            epoch,
            last_seq: 0,
            floor_seq: 0,
            items: Vec::new(),
        }
    }

    /// What follows `from`, or the gap that must be announced. Numbers have no holes: where they seem to, the log
    /// was cut behind them.
    pub(in crate::store) fn since(self, from: &Position, limit: usize) -> Since<T> {
        let head = Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        };
        let gap = if from.epoch != self.epoch {
            Some(Gap::Epoch)
        } else if from.seq > self.last_seq {
            Some(Gap::Future)
        } else if from.seq < self.floor_seq
            || self
                .items
                .iter()
                .zip(from.seq + 1..)
                .any(|((seq, _), expected)| *seq != expected)
            || (self.items.is_empty() && from.seq < self.last_seq)
        {
            Some(Gap::Trimmed)
        } else {
            None
        };
        if gap.is_some() {
            return Since {
                items: Vec::new(),
                position: head,
                more: false,
                gap,
            };
        }
        let more = self.items.len() > limit;
        let items: Vec<_> = self.items.into_iter().take(limit).collect();
        let seq = items.last().map_or(from.seq, |(seq, _)| *seq);
        Since {
            items: items.into_iter().map(|(_, item)| item).collect(),
            position: Position {
                epoch: self.epoch,
                seq,
            },
            more,
            gap: None,
        }
    }
}

/// Epoch, last and floor of a mailbox beside each of its changes: seq, kind, body.
pub(in crate::store) type LogColumns = (String, i64, i64, Option<i64>, Option<String>, Option<String>);

pub(in crate::store) fn log_slice(
    rows: Vec<LogColumns>,
) -> Result<Option<LogSlice<LoggedChange>>, StoreError> {
    let Some((epoch, last, floor, ..)) = rows.first() else {
        return Ok(None);
    };
    let epoch: Epoch = word(epoch)?;
    let mut slice = LogSlice {
        epoch: epoch.clone(),
        last_seq: number(*last)?,
        floor_seq: number(*floor)?,
        items: Vec::new(),
    };
    for (.., seq, kind, body) in rows {
        if let (Some(seq), Some(kind), Some(body)) = (seq, kind, body) {
            let seq = number(seq)?;
            let kind = ChangeKind::from_stored(&kind).ok_or_else(|| corrupt("a kind of change", &kind))?;
            let position = Position {
                epoch: epoch.clone(),
                seq,
            };
            slice.items.push((
                seq,
                LoggedChange {
                    position,
                    kind,
                    body: body.into(),
                },
            ));
        }
    }
    Ok(Some(slice))
}

/// Epoch, last and floor of a topic beside each of its publications: seq, data, publisher, at.
pub(in crate::store) type TopicLogColumns = (
    String,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn topic_slice(
    rows: Vec<TopicLogColumns>,
) -> Result<Option<LogSlice<Publication>>, StoreError> {
    let Some((epoch, last, floor, ..)) = rows.first() else {
        return Ok(None);
    };
    let epoch: Epoch = word(epoch)?;
    let mut slice = LogSlice {
        epoch: epoch.clone(),
        last_seq: number(*last)?,
        floor_seq: number(*floor)?,
        items: Vec::new(),
    };
    for (.., seq, data, publisher, at) in rows {
        if let (Some(seq), Some(data), Some(at)) = (seq, data, at) {
            let seq = number(seq)?;
            let publication = Publication {
                position: Some(Position {
                    epoch: epoch.clone(),
                    seq,
                }),
                data: data.into(),
                publisher: publisher.as_deref().map(json).transpose()?,
                at: Timestamp::from_micros(at),
            };
            slice.items.push((seq, publication));
        }
    }
    Ok(Some(slice))
}
