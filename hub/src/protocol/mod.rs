//! Centrifugo's client protocol as it stands on the wire: commands, replies, pushes and their codes. JSON now; the
//! Protobuf form gets its own codec beside [`json`] and its own [`Encoding`].

pub(crate) mod codes;
pub(crate) mod json;

/// How a connection's bytes are written. One broadcast is encoded once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// WebSocket frames with Centrifugo's JSON.
    WebSocketJson,
    /// Server-sent events.
    EventStream,
}

/// The reserved channel that stands for the session's own mailbox.
pub(crate) const INBOX: &str = "carillon:inbox";
