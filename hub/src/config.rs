//! How the hub treats its connections.

use carillon_runtime::config::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `hub`: connections, their limits and their times. The defaults of the WebSocket's times are Centrifugo's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// The time between two pings on a WebSocket, and between two heartbeat comments on a silent SSE stream.
    /// Whole seconds, since the connect reply tells clients in seconds.
    pub ping_interval: Span,
    /// How long a WebSocket client may take to answer a ping; then it is closed with 3012.
    pub pong_timeout: Span,
    /// How long a WebSocket client may take to connect by its first frame; then it is closed with 3502.
    pub stale_close_delay: Span,
    /// The grace after a token expired, for a refresh; then the connection ends (3005, `bye` expired).
    pub expired_close_delay: Span,
    /// How long a peer may take to answer a close before its TCP connection is dropped.
    pub close_timeout: Span,
    /// How long a peer that does not read at all is waited for before it is cut off.
    pub write_timeout: Span,
    /// How long a call into another part (a store, an rpc) may take.
    pub call_timeout: Span,
    /// The largest WebSocket message, all its fragments together; a larger one closes with 1009.
    pub max_message: ByteSize,
    /// How much may be queued for one connection beside its `send_buffer`; with more it counts as slow and is cut off,
    /// resumably. A single message that is larger is still queued where nothing else waits.
    pub max_queued: ByteSize,
    /// `SO_SNDBUF` of every stream; `0B` leaves the system's default.
    pub send_buffer: ByteSize,
    /// Subscriptions that one WebSocket connection may have.
    pub channel_limit: usize,
    /// Publications that a WebSocket subscription recovers at most; a client further behind gets
    /// `recovered: false`.
    pub recovery_limit: u64,
    /// Topics that one SSE stream may ask for.
    pub stream_topics_limit: usize,
    /// Origins (`https://app.example.com`) whose pages may open WebSockets, and streams by cookie. Empty: any
    /// origin may open a WebSocket, since its token comes in the first frame and never by itself, and only the
    /// hub's own origin may open a stream by cookie.
    pub allowed_origins: Vec<String>,
    /// Connections that one user may have at a time; 0 means any number.
    pub connections_per_user: usize,
    /// Commands that one WebSocket connection may send per second, messages without a reply and pongs that nobody asked
    /// for among them; 0 means any number. Above, a command gets error 111, and what has no reply closes with 3013.
    pub messages_per_second: u32,
    /// The shortest `retry` told to SSE clients.
    pub retry_min: Span,
    /// The longest `retry` told to SSE clients.
    pub retry_max: Span,
    /// How long a mailbox or topic without subscribers stays known, so that reconnects are cheap.
    pub feed_linger: Span,
    /// The time between two comparisons of what was pushed with what is stored, per mailbox and topic; finds
    /// what a bus lost last. `0s` turns it off.
    pub position_check_interval: Span,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ping_interval: Span::from_secs(25),
            pong_timeout: Span::from_secs(8),
            stale_close_delay: Span::from_secs(10),
            expired_close_delay: Span::from_secs(25),
            close_timeout: Span::from_secs(5),
            write_timeout: Span::from_secs(25),
            call_timeout: Span::from_secs(10),
            max_message: ByteSize::kib(64),
            max_queued: ByteSize::kib(64),
            send_buffer: ByteSize::kib(32),
            channel_limit: 128,
            recovery_limit: 300,
            stream_topics_limit: 64,
            allowed_origins: Vec::new(),
            connections_per_user: 0,
            messages_per_second: 0,
            retry_min: Span::from_secs(2),
            retry_max: Span::from_secs(10),
            feed_linger: Span::from_secs(10),
            position_check_interval: Span::from_secs(120),
        }
    }
}

impl HubConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        let ping = self.ping_interval.duration();
        if ping.is_zero() || ping.subsec_nanos() != 0 {
            return fail("ping_interval", "must be a whole number of seconds, at least 1s");
        }
        if self.pong_timeout.is_zero() || self.pong_timeout >= self.ping_interval {
            return fail("pong_timeout", "must be above 0s and below ping_interval");
        }
        for (key, value) in [
            ("stale_close_delay", self.stale_close_delay),
            ("close_timeout", self.close_timeout),
            ("write_timeout", self.write_timeout),
            ("call_timeout", self.call_timeout),
            ("retry_min", self.retry_min),
        ] {
            if value.is_zero() || value > Span::from_secs(3_600) {
                return fail(key, "must be above 0s and at most 1h");
            }
        }
        if self.retry_max < self.retry_min {
            return fail("retry_max", "must not be below retry_min");
        }
        if !(ByteSize::kib(1)..=ByteSize::mib(16)).contains(&self.max_message) {
            return fail("max_message", "must be between 1KiB and 16MiB");
        }
        if !(ByteSize::kib(4)..=ByteSize::mib(64)).contains(&self.max_queued) {
            return fail("max_queued", "must be between 4KiB and 64MiB");
        }
        if self.send_buffer.bytes() != 0 && self.send_buffer < ByteSize::kib(4) {
            return fail("send_buffer", "must be 0B or at least 4KiB");
        }
        if !(1..=10_000).contains(&self.channel_limit) {
            return fail("channel_limit", "must be between 1 and 10000");
        }
        let origin = |text: &String| {
            text.parse::<http::Uri>()
                .is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
        };
        if !self.allowed_origins.iter().all(origin) {
            return fail(
                "allowed_origins",
                "each must be an origin such as https://app.example.com",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(HubConfig::default().validate(), Ok(()));
        let bad = HubConfig {
            allowed_origins: vec!["app.example.com".into()],
            ..HubConfig::default()
        };
        assert_eq!(
            bad.validate().map_err(|(key, _)| key),
            Err("allowed_origins".into())
        );
    }
}
