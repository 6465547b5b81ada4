//! What a feed carries: one mailbox change or publication, encoded once per protocol however many sockets get it.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use carillon_domain::{
    ChangeKind, Envelope, EnvelopeKind, LoggedChange, Position, Publication, PublisherInfo, Subject,
    Timestamp, TopicName,
};

use crate::{
    protocol::{
        Encoding, INBOX,
        json::{self, EncodedPublication},
    },
    sse::event,
    ws::frame,
};

/// One change or publication.
pub(crate) struct Message {
    /// Its place; `None` in a live-only topic.
    pub(crate) position: Option<Position>,
    source: Source,
    /// JSON on one line.
    body: Bytes,
    at: Timestamp,
    websocket: OnceLock<Bytes>,
    events: OnceLock<Bytes>,
}

enum Source {
    Mailbox(ChangeKind),
    Topic {
        name: TopicName,
        publisher: Option<PublisherInfo>,
    },
}

impl Message {
    fn new(position: Option<Position>, source: Source, body: Bytes, at: Timestamp) -> Arc<Self> {
        let body = json::one_line(body);
        Arc::new(Self {
            position,
            source,
            body,
            at,
            websocket: OnceLock::new(),
            events: OnceLock::new(),
        })
    }

    /// From the bus. `None` for what no socket is sent, such as a revocation.
    pub(crate) fn from_envelope(envelope: Envelope) -> Option<Arc<Self>> {
        let at = sent_at(&envelope);
        let source = match (envelope.kind, envelope.subject) {
            (EnvelopeKind::Change(kind), Subject::Mailbox(_)) => Source::Mailbox(kind),
            (EnvelopeKind::Publication { publisher }, Subject::Topic(name)) => {
                Source::Topic { name, publisher }
            }
            _ => return None,
        };
        Some(Self::new(envelope.position, source, envelope.body, at))
    }

    /// From the mailbox log.
    pub(crate) fn from_change(change: LoggedChange) -> Arc<Self> {
        Self::new(
            Some(change.position),
            Source::Mailbox(change.kind),
            change.body,
            Timestamp::default(),
        )
    }

    /// From a topic's history.
    pub(crate) fn from_publication(topic: &TopicName, publication: Publication) -> Arc<Self> {
        let source = Source::Topic {
            name: topic.clone(),
            publisher: publication.publisher,
        };
        Self::new(publication.position, source, publication.data, publication.at)
    }

    pub(crate) fn seq(&self) -> Option<u64> {
        self.position.as_ref().map(|position| position.seq)
    }

    /// Roughly how much memory it holds.
    pub(crate) fn weight(&self) -> usize {
        self.body.len() + 256
    }

    /// As the wire has it: a whole frame or event.
    pub(crate) fn encoded(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::WebSocketJson => self.websocket.get_or_init(|| {
                let channel = match &self.source {
                    Source::Mailbox(_) => INBOX,
                    Source::Topic { name, .. } => name.as_str(),
                };
                frame::text(json::push(channel, &self.publication()).as_bytes())
            }),
            Encoding::EventStream => self.events.get_or_init(|| match (&self.source, &self.position) {
                (Source::Mailbox(kind), Some(position)) => event::change(*kind, position, &self.body),
                // A change always has a position; one without could not be resumed from and is not shown.
                (Source::Mailbox(_), None) => Bytes::new(),
                (Source::Topic { name, publisher }, position) => {
                    event::publication(name, position.as_ref(), &self.body, publisher.as_ref(), self.at)
                }
            }),
        }
    }

    /// As an element of a reply's `publications`.
    pub(crate) fn publication(&self) -> EncodedPublication {
        let info = match &self.source {
            Source::Topic {
                publisher: Some(publisher),
                ..
            } => Some((publisher.user.as_str(), publisher.client.as_str())),
            _ => None,
        };
        json::publication(&self.body, self.seq(), info)
    }
}

/// An envelope's id carries its time (UUIDv7).
pub(crate) fn sent_at(envelope: &Envelope) -> Timestamp {
    let (seconds, nanos) = envelope
        .id
        .as_uuid()
        .get_timestamp()
        .map_or((0, 0), |timestamp| timestamp.to_unix());
    let micros = i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000) + i64::from(nanos / 1_000);
    Timestamp::from_micros(micros)
}

/// Several messages that go out in one write.
pub(crate) struct Batch {
    pub(crate) messages: Vec<Arc<Message>>,
    /// Of which life of the feed they are.
    pub(crate) life: u32,
    websocket: OnceLock<Bytes>,
    events: OnceLock<Bytes>,
}

impl Batch {
    pub(crate) fn new(messages: Vec<Arc<Message>>, life: u32) -> Self {
        Self {
            messages,
            life,
            websocket: OnceLock::new(),
            events: OnceLock::new(),
        }
    }

    /// All of them, concatenated once for all subscribers.
    pub(crate) fn encoded(&self, encoding: Encoding) -> &Bytes {
        if let [only] = self.messages.as_slice() {
            return only.encoded(encoding);
        }
        let cell = match encoding {
            Encoding::WebSocketJson => &self.websocket,
            Encoding::EventStream => &self.events,
        };
        cell.get_or_init(|| concat(&self.messages, encoding))
    }
}

/// The messages' frames, one after another.
pub(crate) fn concat(messages: &[Arc<Message>], encoding: Encoding) -> Bytes {
    if let [only] = messages {
        return only.encoded(encoding).clone();
    }
    let mut out = BytesMut::with_capacity(
        messages
            .iter()
            .map(|message| message.encoded(encoding).len())
            .sum(),
    );
    messages
        .iter()
        .for_each(|message| out.extend_from_slice(message.encoded(encoding)));
    out.freeze()
}

/// The messages' frames, joined into pieces of at most `most` bytes; a longer frame is a piece of its own.
pub(crate) fn portions(
    messages: &[Arc<Message>],
    encoding: Encoding,
    most: usize,
) -> impl Iterator<Item = Bytes> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|message| {
            bytes += message.encoded(encoding).len();
            bytes <= most
        });
        let count = fitting.count().max(1).min(rest.len());
        let (portion, behind) = rest.split_at(count);
        rest = behind;
        (!portion.is_empty()).then(|| concat(portion, encoding))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_as_long_as_allowed_and_lose_nothing() {
        let messages: Vec<_> = [10, 10, 300, 10, 10, 10]
            .into_iter()
            .zip(1..)
            .map(|(length, seq)| {
                let mut position: Position = "abc-1".parse().unwrap();
                position.seq = seq;
                Message::from_change(LoggedChange {
                    position,
                    kind: ChangeKind::Added,
                    body: format!("{:?}", "x".repeat(length)).into(),
                })
            })
            .collect();
        let one = messages[0].encoded(Encoding::EventStream).len();
        let pieces: Vec<_> = portions(&messages, Encoding::EventStream, 2 * one).collect();
        let lengths: Vec<_> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [2 * one, one + 290, 2 * one, one]);
        assert_eq!(pieces.concat(), concat(&messages, Encoding::EventStream));
        assert_eq!(portions(&[], Encoding::EventStream, 1).count(), 0);
    }
}
