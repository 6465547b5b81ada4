use carillon_domain::Timestamp;
use serde::Serialize;

use super::EventKind;

#[derive(Serialize)]
struct Body<'a, T> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: &'a T,
}

/// An event's body, exactly as it is sent and signed.
pub(crate) fn body<T: Serialize>(kind: EventKind, at: Timestamp, data: &T) -> String {
    let body = Body {
        r#type: kind.as_str(),
        timestamp: at,
        data,
    };
    // Only a map with keys that are not text could fail, and nothing here has one.
    serde_json::to_string(&body).unwrap_or_default()
}
