//! The channel `webhook`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use carillon_domain::{
    Address, Capabilities, ChannelKind, Clock, Invalid, Outcome,
    ports::{Channel, CheckedAddress, Operation, Report, SigningKey, Work},
};
use http::{
    HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;
use moka::future::Cache;

use super::{
    KeyError, acknowledged,
    body::body,
    classify,
    keys::{Key, is_ed25519},
    sign::Header,
};
use crate::outbound::{Outbound, excerpt};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("Carillon/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Ed25519 keys that stay read.
const KEPT_KEYS: u64 = 4_096;
/// How long an unused one stays.
const KEPT_FOR: Duration = Duration::from_secs(600);

type Digest = [u8; 32];

/// Posts to a URL, signed with the work's keys. The address is the URL: a registered endpoint's id is resolved before.
pub struct WebhookChannel {
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    /// Reading an Ed25519 key costs more than signing with it; an HMAC secret is read as fast as it would be found here.
    /// By the digest of the text, so that no secret is kept as one.
    ed25519: Cache<Digest, Arc<Key>>,
}

impl WebhookChannel {
    /// The channel over a way out.
    pub fn new(outbound: Outbound, clock: Arc<dyn Clock>) -> Self {
        Self {
            outbound,
            clock,
            ed25519: Cache::builder()
                .max_capacity(KEPT_KEYS)
                .time_to_idle(KEPT_FOR)
                .build(),
        }
    }

    async fn signature(
        &self,
        keys: &[SigningKey],
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Result<String, KeyError> {
        let mut header = Header::new(id, timestamp, body);
        for key in keys {
            let text = key.expose();
            if !is_ed25519(text) {
                header.add(&Key::parse(text)?);
                continue;
            }
            let mut at = Digest::default();
            at.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
            let key = match self.ed25519.get(&at).await {
                Some(key) => key,
                None => {
                    let key = Arc::new(Key::parse(text)?);
                    self.ed25519.insert(at, Arc::clone(&key)).await;
                    key
                }
            };
            header.add(&key);
        }
        Ok(header.into_value())
    }

    /// The request, or why there can be none.
    async fn request(&self, work: &Work, timestamp: i64) -> Result<Request<Full<Bytes>>, &'static str> {
        if work.operation != Operation::Deliver {
            return Err("a webhook can be neither replaced nor recalled");
        }
        if work.keys.is_empty() {
            return Err("no key signs for this address");
        }
        let body = body(work).map_err(|_| "the message cannot be written as JSON")?;
        let id = work.delivery.to_string();
        let signature = self
            .signature(&work.keys, &id, timestamp, &body)
            .await
            .map_err(|_| "a signing key of this address cannot be read")?;
        let unfit = "the address is no URL that can be called";
        let value = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| unfit);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(work.address.as_str()).map_err(|_| unfit)?;
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(WEBHOOK_ID, value(id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(WEBHOOK_SIGNATURE, value(signature)?);
        Ok(request)
    }
}

#[async_trait]
impl Channel for WebhookChannel {
    fn kind(&self) -> ChannelKind {
        ChannelKind::webhook()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        let checked = self.outbound.guard().check(address)?;
        Ok(CheckedAddress {
            address: checked.url.parse::<Address>()?,
            lane: checked.lane,
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        let timestamp = self.clock.now().as_seconds();
        let request = match self.request(work, timestamp).await {
            Ok(request) => request,
            Err(reason) => {
                return Report::new(Outcome::Rejected {
                    reason: reason.to_owned(),
                });
            }
        };
        let keep = acknowledged::MOST;
        match self.outbound.send(&work.tenant, request, keep).await {
            Ok(answer) => Report {
                outcome: classify::by_answer(answer.status, &answer.headers, self.clock.now()),
                status: Some(answer.status.as_u16()),
                excerpt: excerpt(&answer.body, self.outbound.excerpt()),
                acknowledged: acknowledged::by_answer(work, &answer),
            },
            Err(error) => Report::new(classify::by_error(error)),
        }
    }

    fn patience(&self) -> Duration {
        self.outbound.patience()
    }
}
