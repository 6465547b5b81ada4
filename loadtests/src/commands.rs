//! What `bench` and its workers tell each other: one JSON object per line, an answer for each command.

use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::sequence::Faults;

/// What a connection speaks once it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    WebSocket,
    Sse,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE",
        }
    }
}

/// How a connection is opened. `{n}` stands for its number, `{group}` for its number divided by the group's size, `{token}`
/// for its line of the tokens' file, `{epoch}` for its group's line of the epochs, `{offset}` for the last number that it got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) port: u16,
    pub(crate) kind: Kind,
    /// The whole request.
    pub(crate) request: String,
    /// WebSocket: what is sent, one after the answer to the other; an empty one only waits for a message.
    pub(crate) frames: Vec<String>,
    /// SSE: what must have come before it counts as open; empty: the head of the answer alone.
    pub(crate) ready: String,
    /// A message that is answered by `pong` and does not count.
    pub(crate) ping: String,
    pub(crate) pong: String,
    /// Of each group's topic.
    pub(crate) epochs: Vec<String>,
}

/// Requests that publish. Each has one blank mark per publication.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Publishing {
    pub(crate) port: u16,
    /// In turn, each to another topic.
    pub(crate) requests: Vec<String>,
    /// Keep-alive connections, one request at a time on each.
    pub(crate) connections: usize,
    /// How many requests in all.
    pub(crate) count: u64,
    /// Requests per second by the clock; 0: as fast as answers come.
    pub(crate) per_second: f64,
    /// The first number in each topic.
    pub(crate) first: u64,
}

/// Connections that leave and come back all the while.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Churn {
    pub(crate) publishing: Option<Publishing>,
    /// How many leave per second.
    pub(crate) leaving: f64,
    /// How long each stays away.
    pub(crate) away_ms: u64,
    /// For how long they leave.
    pub(crate) for_ms: u64,
    /// What each connection must expect next in the end.
    pub(crate) until: u64,
    /// How long it may take beyond that until all are back and have everything.
    pub(crate) limit_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Opens connections; `again`: those that were closed, which then go on counting where they stood.
    Connect {
        plan: Plan,
        count: usize,
        /// How many are being opened at a time.
        in_flight: usize,
        group: usize,
        tokens: Option<PathBuf>,
        /// The number of the first publication that new ones get.
        first: u64,
        again: bool,
    },
    /// Reads without ever sleeping, and publishes if told to, until all requests are answered and so many publications have
    /// arrived since the last measurement.
    Measure {
        publishing: Option<Publishing>,
        deliveries: u64,
        /// What each connection must expect next in the end.
        until: Option<u64>,
        limit_ms: u64,
    },
    /// Lets connections leave and come back while something is published, sleeping when nothing is to be done.
    Churn(Churn),
    /// Does not read any more from each connection whose number divides by `every`.
    Stall { every: usize },
    /// Closes each connection whose number divides by `every`.
    Close { every: usize },
}

/// A histogram as its recorded values and how often each came.
pub(crate) type Recorded = Vec<(u64, u64)>;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) took_ns: u64,
    /// From the first packet until it was open, in nanoseconds.
    pub(crate) times: Recorded,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) received: u64,
    pub(crate) faults: Faults,
    /// From when a publication should have left until it was read, in nanoseconds, where the connection was there by then.
    pub(crate) latency: Recorded,
    /// How much later than it should a request left, in nanoseconds.
    pub(crate) lateness: Recorded,
    pub(crate) took_ns: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Churned {
    pub(crate) measured: Measured,
    /// How often a connection came back.
    pub(crate) returns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Connected(Connected),
    Measured(Measured),
    Churned(Churned),
    Done,
    Failed(String),
}

/// A histogram's values, to be sent.
pub(crate) fn recorded(histogram: &Histogram<u64>) -> Recorded {
    histogram
        .iter_recorded()
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect()
}

/// Adds what another process recorded.
///
/// # Errors
/// Never, with a histogram that may grow.
pub(crate) fn merge(histogram: &mut Histogram<u64>, recorded: &Recorded) -> anyhow::Result<()> {
    for (value, count) in recorded {
        histogram.record_n(*value, *count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_two_processes_merge() -> anyhow::Result<()> {
        let mut one = Histogram::new(3)?;
        let mut other = Histogram::new(3)?;
        for value in 1..=1_000_u64 {
            one.record(value * 1_000)?;
            other.record(value * 1_000 + 1_000_000)?;
        }
        merge(&mut one, &recorded(&other))?;
        assert_eq!(one.len(), 2_000);
        let median = one.value_at_quantile(0.5);
        assert!((999_000..=1_002_000).contains(&median), "{median}");
        Ok(())
    }
}
