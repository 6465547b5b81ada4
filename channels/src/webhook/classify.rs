//! What an answer, or none, means for the delivery.

use carillon_domain::{Fault, Outcome, Timestamp};
use http::{HeaderMap, StatusCode};

use super::retry_after::retry_after;
use crate::outbound::SendError;

/// By the specification: only 2xx is a success, 410 says that the endpoint is gone, all else may work later.
pub(super) fn by_answer(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered { provider_id: None };
    }
    let reason = format!("answered {}", status.as_u16());
    if status == StatusCode::GONE {
        return Outcome::Gone { reason };
    }
    // A refusal or a redirect is this URL's own matter; what throttles or fails does so for its whole host.
    let of_host = status == StatusCode::TOO_MANY_REQUESTS || status.as_u16() >= 500;
    Outcome::Retry {
        after: retry_after(headers, now),
        reason,
        fault: if of_host { Fault::Provider } else { Fault::Address },
    }
}

/// Without an answer. Only an address that is refused as it stands is final; what a name leads
/// to may change, and a name that leads to nothing must read like one that leads into our own network.
pub(super) fn by_error(error: SendError) -> Outcome {
    let reason = error.to_string();
    match error {
        SendError::Refused => Outcome::Rejected { reason },
        // Our own bound: the host was not asked.
        SendError::Busy => Outcome::Retry {
            after: None,
            reason,
            fault: Fault::Address,
        },
        _ => Outcome::Retry {
            after: None,
            reason,
            fault: Fault::Provider,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderValue, header::RETRY_AFTER};

    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for code in 100..=999 {
            let status = StatusCode::from_u16(code).expect("a status");
            let outcome = by_answer(status, &HeaderMap::new(), Timestamp::default());
            let fits = match (code, &outcome) {
                (200..=299, Outcome::Delivered { provider_id: None }) | (410, Outcome::Gone { .. }) => true,
                (200..=299 | 410, _) => false,
                (
                    429 | 500..,
                    Outcome::Retry {
                        fault, after: None, ..
                    },
                ) => *fault == Fault::Provider,
                (
                    _,
                    Outcome::Retry {
                        fault, after: None, ..
                    },
                ) => *fault == Fault::Address,
                _ => false,
            };
            assert!(fits, "{code}: {outcome:?}");
        }
    }

    #[test]
    fn what_the_far_end_asks_for_is_passed_on() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("30"))]);
        for code in [302, 400, 429, 502, 503, 504] {
            let status = StatusCode::from_u16(code).expect("a status");
            let outcome = by_answer(status, &headers, Timestamp::default());
            let Outcome::Retry { after, .. } = outcome else {
                panic!("{code}: {outcome:?}")
            };
            assert_eq!(after, Some(Duration::from_secs(30)), "{code}");
        }
    }
}
