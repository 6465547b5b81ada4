use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::{Buf as _, Bytes};
use carillon_domain::ChannelKind;
use carillon_runtime::http::{ApiQuery, Caller, IdPath, Problem, Served};
use http::header;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
    time::Instant,
};
use tokio_util::io::ReaderStream;

use super::{MOST, holder, work::WorkItem, worker};
use crate::{
    Dispatcher,
    remote::{Holder, Remote, RemoteError},
    store::outside::RemoteChannelRow,
};

/// How often a comment says that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Then the worker comes again, perhaps to another node.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// How much is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// Deliveries that the worker has at the same time over this stream: 1-100, else 10.
    limit: Option<usize>,
}

/// Streams due deliveries of a channel to its worker as server-sent events, each `work` with the delivery's id, as long
/// as it has fewer than `limit` of them without an outcome. Ends after a quarter of an hour at the latest, and within
/// seconds of its key's revocation. Needs a key with the scope `channel:{kind}`.
#[utoipa::path(
    get,
    path = "/v1/channels/{kind}/stream",
    operation_id = "stream_work",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel"), StreamQuery),
    responses(
        (status = 200, description = "The work, as it comes due", body = WorkItem, content_type = "text/event-stream"),
        (status = 404, description = "The channel is not announced"),
    ),
)]
pub(super) async fn stream(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiQuery(query): ApiQuery<StreamQuery>,
) -> Result<Response, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    let limit = query.limit.unwrap_or(10);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::malformed_query("limit", "must be between 1 and 100"));
    }
    let remote = Arc::clone(&dispatcher.remote);
    let place = remote.place()?;
    let announced = remote.announced(&served, &kind).await?;
    let holder = holder(&principal, Some(remote.new_stream()));
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let feed = Feed {
            remote,
            served,
            announced,
            holder,
            limit,
            sender,
        };
        let (remote, served, key) = (Arc::clone(&feed.remote), feed.served.clone(), feed.holder.key);
        let ended = tokio::select! {
            ended = feed.run() => ended,
            () = remote.revoked(&served, key) => Ok(()),
        };
        // The worker sees the stream end and comes again.
        if let Err(error) = ended {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a worker's stream ended"
            );
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let body = Body::from_stream(ReaderStream::new(Received::new(receiver)));
    Ok((headers, body).into_response())
}

/// One stream.
struct Feed {
    remote: Arc<Remote>,
    served: Served,
    announced: RemoteChannelRow,
    holder: Holder,
    limit: usize,
    sender: mpsc::Sender<Bytes>,
}

impl Feed {
    async fn run(mut self) -> Result<(), RemoteError> {
        let ends = Instant::now() + LONGEST;
        let closing = self.remote.closing();
        let kind = self.announced.kind.clone();
        let mut written = self.write(": here\n\n".to_owned()).await;
        while written && Instant::now() < ends && !closing.is_cancelled() {
            self.remote.seen(&mut self.announced).await?;
            let pulled = tokio::select! {
                pulled = self.remote.pull(&self.served, &kind, self.holder, self.limit, HEARTBEAT) => pulled?,
                () = self.sender.closed() => return Ok(()),
            };
            let mut text = String::new();
            for handing in pulled {
                let delivery = handing.work.delivery;
                let item = WorkItem::of(handing, self.announced.forms.as_deref());
                // Every one of its fields has a JSON form.
                let data = serde_json::to_string(&item).unwrap_or_default();
                text.push_str(&format!("event: work\nid: {delivery}\ndata: {data}\n\n"));
            }
            if text.is_empty() {
                text.push_str(":\n\n");
            }
            written = self.write(text).await;
        }
        Ok(())
    }

    /// Whether the worker is still there.
    async fn write(&self, text: String) -> bool {
        self.sender.send(Bytes::from(text)).await.is_ok()
    }
}

/// What was sent to the stream, to be read.
struct Received {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Received {
    fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self {
            receiver,
            rest: Bytes::new(),
        }
    }
}

impl AsyncRead for Received {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match self.receiver.poll_recv(cx) {
                Poll::Ready(Some(bytes)) => self.rest = bytes,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}
