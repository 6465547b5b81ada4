//! Server-sent events as bytes (HTML Standard, section 9.2). What is data is JSON on one line, so that no payload can
//! end an event or add a field.

use bytes::Bytes;
use carillon_domain::{
    ChangeKind, DeviceName, ExternalUserId, Position, PublisherInfo, Timestamp, TopicName, ports::Gap,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// Keeps proxies and the peer awake.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// How long the client waits before it comes back.
pub(crate) fn retry(millis: u64) -> String {
    format!("retry: {millis}\n\n")
}

/// The first event: where the stream starts, and who is listening.
pub(crate) fn position(at: Option<&Position>, user: &ExternalUserId, device: Option<&DeviceName>) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        position: Option<&'a Position>,
        user: &'a ExternalUserId,
        device: Option<&'a DeviceName>,
    }
    event(
        "position",
        at,
        &json(&Data {
            position: at,
            user,
            device,
        }),
    )
}

/// A mailbox change; `body` is JSON on one line.
pub(crate) fn change(kind: ChangeKind, at: &Position, body: &Bytes) -> Bytes {
    event(kind.as_str(), Some(at), &String::from_utf8_lossy(body))
}

/// A publication; `body` is JSON on one line.
pub(crate) fn publication(
    topic: &TopicName,
    at: Option<&Position>,
    body: &Bytes,
    publisher: Option<&PublisherInfo>,
    published_at: Timestamp,
) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        topic: &'a TopicName,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        publisher: Option<&'a PublisherInfo>,
        at: Timestamp,
    }
    let data = Data {
        topic,
        epoch: at.map(|at| at.epoch.as_str()),
        seq: at.map(|at| at.seq),
        data: serde_json::from_slice(body).ok(),
        publisher,
        at: published_at,
    };
    event("publication", None, &json(&data))
}

/// A hole in the mailbox (`topic` is `None`) or in a topic; behind it the stream goes on from `position`.
pub(crate) fn gap(topic: Option<&TopicName>, reason: Gap, position: Option<&Position>) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a TopicName>,
        reason: Gap,
        position: Option<&'a Position>,
    }
    // Only the mailbox's position may become the client's last event id.
    let id = if topic.is_none() { position } else { None };
    event(
        "gap",
        id,
        &json(&Data {
            topic,
            reason,
            position,
        }),
    )
}

/// The last event; then the stream ends, and the client may be back after `retry` milliseconds.
pub(crate) fn bye(reason: &str, retry_ms: u64) -> Bytes {
    let text = format!("retry: {retry_ms}\nevent: bye\ndata: {{\"reason\":\"{reason}\"}}\n\n");
    text.into()
}

fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned())
}

fn event(name: &str, id: Option<&Position>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 64);
    text.push_str("event: ");
    text.push_str(name);
    if let Some(id) = id {
        text.push_str("\nid: ");
        text.push_str(&id.to_string());
    }
    // JSON on one line has none of these; a line each keeps the event whole all the same.
    for line in data.split(['\n', '\r']) {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_payload_ends_its_event_or_adds_a_field() {
        let at: Position = "abc-7".parse().unwrap();
        let body = Bytes::from_static("{\"x\":\"\\n\\nevent: x\\nid: 9\\u0000\u{2028}\u{feff}\"}".as_bytes());
        let text = change(ChangeKind::Added, &at, &body);
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(text.matches("\n\n").count(), 1);
        assert!(text.starts_with("event: added\nid: abc-7\ndata: {"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        let broken = event("x", None, "a\nb\r\nid: 9");
        let broken = std::str::from_utf8(&broken).unwrap();
        assert!(
            broken
                .lines()
                .all(|line| line.is_empty() || line.starts_with("data: ") || line == "event: x")
        );
    }

    #[test]
    fn only_the_mailbox_moves_the_last_event_id() {
        let at: Position = "abc-7".parse().unwrap();
        let topic: TopicName = "room.1".parse().unwrap();
        let of_topic = gap(Some(&topic), Gap::Unknown, Some(&at));
        assert_eq!(
            of_topic.as_ref(),
            b"event: gap\ndata: {\"topic\":\"room.1\",\"reason\":\"unknown\",\"position\":\"abc-7\"}\n\n"
        );
        assert!(gap(None, Gap::Trimmed, Some(&at)).starts_with(b"event: gap\nid: abc-7\n"));
        let data = Bytes::from_static(b"{\"a\":1}");
        let publication = publication(&topic, Some(&at), &data, None, Timestamp::from_micros(0));
        assert_eq!(
            publication.as_ref(),
            b"event: publication\ndata: {\"topic\":\"room.1\",\"epoch\":\"abc\",\"seq\":7,\"data\":{\"a\":1},\"at\":\"1970-01-01T00:00:00.000000Z\"}\n\n"
        );
    }
}
