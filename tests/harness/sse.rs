use std::{collections::VecDeque, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;

use super::wait::{DEADLINE, within};

/// One event of a stream, as `EventSource` would dispatch it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) event: String,
    /// The id that came with this event.
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Event {
    /// The sequence number of the id.
    #[track_caller]
    pub(crate) fn seq(&self) -> u64 {
        seq(self.id.as_deref().unwrap_or_else(|| panic!("no id: {self:?}")))
    }
}

/// The number in `<epoch>-<seq>`.
#[track_caller]
pub(crate) fn seq(position: &str) -> u64 {
    let number = position.rsplit_once('-').map(|(_, number)| number);
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("not a position: {position}"))
}

/// An open stream.
pub(crate) struct Sse {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    unread: Vec<u8>,
    lines: VecDeque<String>,
    /// The first event's position: where the stream starts. Empty without a mailbox.
    pub(crate) position: String,
    /// What `retry:` last said, in milliseconds.
    pub(crate) retry: Option<u64>,
    /// How many comments came.
    pub(crate) comments: usize,
    /// The headers of the answer.
    pub(crate) headers: reqwest::header::HeaderMap,
}

impl Sse {
    /// Sends `request` and reads up to the first event, which tells where the stream starts.
    pub(crate) async fn open(request: reqwest::RequestBuilder) -> Self {
        let mut stream = Self::open_raw(request).await;
        let first = stream.next().await;
        assert_eq!(first.event, "position", "the first event: {first:?}");
        stream.position = first.id.clone().unwrap_or_default();
        stream
    }

    /// As [`Self::open`], without reading.
    pub(crate) async fn open_raw(request: reqwest::RequestBuilder) -> Self {
        let response = within(
            "the stream's head",
            request.header("accept", "text/event-stream").send(),
        )
        .await
        .expect("the server answers");
        if response.status() != 200 {
            panic!("a stream: {:?}", super::Answer::read(response).await);
        }
        Self::read(response)
    }

    /// The stream, or `None` while the server is away; any answer but a stream or a 503 fails.
    pub(crate) async fn try_open(request: reqwest::RequestBuilder) -> Option<Self> {
        let request = request.header("accept", "text/event-stream").send();
        let response = tokio::time::timeout(DEADLINE, request).await.ok()?.ok()?;
        match response.status().as_u16() {
            200 => Some(Self::read(response)),
            503 => None,
            _ => panic!("a stream: {:?}", super::Answer::read(response).await),
        }
    }

    fn read(response: reqwest::Response) -> Self {
        let headers = response.headers().clone();
        let kind = headers["content-type"].to_str().expect("ASCII");
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self {
            bytes: Box::pin(response.bytes_stream()),
            unread: Vec::new(),
            lines: VecDeque::new(),
            position: String::new(),
            retry: None,
            comments: 0,
            headers,
        }
    }

    /// The next event; fails when the stream ends.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        async move {
            let next = within(&format!("the next event at {caller}"), self.next_or_end()).await;
            next.unwrap_or_else(|| panic!("the stream ended at {caller}"))
        }
    }

    /// Skips events until one is called `name`.
    #[track_caller]
    pub(crate) fn next_named(&mut self, name: &str) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        async move {
            within(&format!("an event `{name}` at {caller}"), async {
                loop {
                    match self.next_or_end().await {
                        Some(event) if event.event == name => return event,
                        Some(_) => {}
                        None => panic!("the stream ended before `{name}` at {caller}"),
                    }
                }
            })
            .await
        }
    }

    /// Reads to the end of the stream; answers the events.
    pub(crate) async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        within("the end of the stream", async {
            while let Some(event) = self.next_or_end().await {
                events.push(event);
            }
        })
        .await;
        events
    }

    /// The next event, or `None` when the stream ended or was cut.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        let (mut event, mut id, mut data) = (None, None, Vec::new());
        loop {
            while let Some(line) = self.lines.pop_front() {
                if line.is_empty() {
                    if !data.is_empty() {
                        let text = data.join("\n");
                        return Some(Event {
                            event: event.unwrap_or_else(|| "message".to_owned()),
                            id,
                            data: serde_json::from_str(&text)
                                .unwrap_or_else(|error| panic!("not JSON ({error}): {text}")),
                        });
                    }
                    (event, id) = (None, None);
                    continue;
                }
                let (field, value) = line.split_once(':').unwrap_or((&line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "" => self.comments += 1,
                    "event" => event = Some(value.to_owned()),
                    "id" => id = Some(value.to_owned()),
                    "data" => data.push(value.to_owned()),
                    "retry" => self.retry = Some(value.parse().expect("milliseconds")),
                    other => panic!("an unknown field `{other}` in a stream"),
                }
            }
            let chunk = self.bytes.next().await?.ok()?;
            self.unread.extend_from_slice(&chunk);
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8(line).expect("UTF-8");
                self.lines
                    .push_back(line.trim_end_matches(['\n', '\r']).to_owned());
            }
        }
    }
}
