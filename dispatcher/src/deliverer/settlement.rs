//! What is written of a report, and what follows of ends: the same for channels of this process and for workers'.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::{
    Fault, Outcome, Timestamp,
    ports::{Directory, Report},
};

use super::{
    breaker::Verdict as Health,
    compose::ComposeError,
    config::RetryConfig,
    retry::{self, Next},
};
use crate::channels::label;
use crate::store::outside::{Ended, LeasedDelivery, Settlement, Verdict};

/// The longest reason and excerpt that are kept, in bytes.
const KEPT: usize = 1_024;

/// What an attempt came to.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) report: Report,
    /// Whether anything was sent. What was not says nothing about the far end.
    pub(crate) is_sent: bool,
    /// Whether it was begun in time; what was not is handed out anew.
    is_begun: bool,
}

/// How long after its commit an attempt may begin. What was withdrawn later than that finds it under way or not begun.
pub(crate) const BEGIN: Duration = Duration::from_secs(1);
/// Said of an attempt that was not begun in time.
const NOT_BEGUN: &str = "it could not begin in time";
/// The outcome of an attempt that was not begun in time.
const UNSENT: &str = "unsent";

impl Said {
    /// The far end's answer, or its silence.
    pub(crate) fn sent(report: Report) -> Self {
        Self {
            report,
            is_sent: true,
            is_begun: true,
        }
    }

    fn unsent(outcome: Outcome) -> Self {
        Self {
            report: Report::new(outcome),
            is_sent: false,
            is_begun: true,
        }
    }

    /// Nothing was sent, since its time to begin was over.
    pub(crate) fn not_begun() -> Self {
        Self {
            is_begun: false,
            ..ours_to_retry(NOT_BEGUN)
        }
    }

    /// What it says about its lane.
    pub(crate) fn health(&self) -> Health {
        if self.is_sent {
            Health::of(&self.report.outcome)
        } else {
            Health::Unknown
        }
    }
}

/// What follows of what an attempt came to at `now`; `recalls`: its channel can take back what it delivered. Draws the
/// wait before the next attempt.
pub(crate) fn settlement(
    config: &RetryConfig,
    now: Timestamp,
    delivery: &Arc<LeasedDelivery>,
    said: Said,
    recalls: bool,
) -> Settlement {
    let Said {
        report,
        is_sent,
        is_begun,
    } = said;
    let outcome = if is_begun { report.outcome.as_str() } else { UNSENT };
    let (verdict, provider_id, reason) = match report.outcome {
        _ if !is_begun => (Verdict::Unsent, None, Some(NOT_BEGUN.to_owned())),
        Outcome::Delivered { provider_id } => (Verdict::Done { accepted: false }, provider_id, None),
        Outcome::Accepted { provider_id } => (Verdict::Done { accepted: true }, provider_id, None),
        Outcome::Retry { after, reason, .. } => {
            let next = retry::next(
                config,
                now,
                delivery.expires_at,
                delivery.token,
                after,
                rand::random(),
            );
            let verdict = match next {
                Next::At(at) => Verdict::Again(at),
                Next::Dead => Verdict::Dead,
            };
            (verdict, None, Some(reason))
        }
        Outcome::Gone { reason } => (Verdict::Gone, None, Some(reason)),
        Outcome::Rejected { reason } => (Verdict::Dead, None, Some(reason)),
        Outcome::Skipped { reason } => (Verdict::Skipped, None, Some(reason)),
    };
    let channel = label(delivery.key.channel.as_str());
    metrics::counter!("carillon_delivery_attempts_total", "channel" => channel, "outcome" => outcome)
        .increment(1);
    Settlement {
        delivery: Arc::clone(delivery),
        ended_at: now,
        outcome,
        status: report.status,
        reason: reason.map(kept),
        excerpt: report.excerpt.map(kept),
        provider_id,
        verdict,
        is_sent,
        recalls,
    }
}

/// Counts ends, and retires addresses that are gone. The store has them suppressed already, so that a directory that is
/// away costs nothing but tidiness.
pub(crate) async fn after_ends(directory: &dyn Directory, ended: &[Ended]) {
    for ended in ended {
        metrics::counter!(
            "carillon_delivery_ended_total",
            "channel" => label(ended.channel.as_str()), "state" => ended.state.as_str()
        )
        .increment(1);
        if !ended.gone {
            continue;
        }
        let reason = ended.reason.as_deref().unwrap_or("the address is gone");
        let retired = directory
            .retire(&ended.tenant, &ended.channel, &ended.address, reason)
            .await;
        if let Err(error) = retired {
            tracing::warn!(error = &error as &dyn Error, "an address could not be retired");
        }
    }
}

/// Nothing was sent, for a reason of ours that may pass.
pub(crate) fn ours_to_retry(reason: &str) -> Said {
    Said::unsent(Outcome::Retry {
        after: None,
        reason: reason.to_owned(),
        fault: Fault::Address,
    })
}

/// Nothing was sent, since no work could be made.
pub(crate) fn unsent(error: &ComposeError) -> Said {
    match error {
        // A key that this node cannot open now is no fault of the delivery.
        ComposeError::Secret => ours_to_retry(&error.to_string()),
        error => Said::unsent(Outcome::Rejected {
            reason: error.to_string(),
        }),
    }
}

/// Cut to what is kept, between characters; what a database cannot hold is replaced.
pub(crate) fn kept(text: String) -> String {
    let mut text = if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    };
    if text.len() > KEPT {
        let end = (0..=KEPT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}
