//! How the hub treats its connections.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `hub`: connections, their limits and their times. The defaults of the WebSocket's times are Centrifugo's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// Milliseconds between two pings on a WebSocket, and between two heartbeat comments on a silent SSE stream.
    /// Whole seconds, since the connect reply tells clients in seconds.
    pub ping_interval_ms: u64,
    /// Milliseconds within which a WebSocket client answers a ping; then it is closed with 3012.
    pub pong_timeout_ms: u64,
    /// Milliseconds within which a WebSocket's first frame must connect; then it is closed with 3502.
    pub stale_close_delay_ms: u64,
    /// Milliseconds of grace after a token expired, for a refresh; then the connection ends (3005, `bye` expired).
    pub expired_close_delay_ms: u64,
    /// Milliseconds that a peer has to answer a close before its TCP connection is dropped.
    pub close_timeout_ms: u64,
    /// Milliseconds without any progress after which a peer that does not read is cut off.
    pub write_timeout_ms: u64,
    /// Milliseconds that a call into another part (a store, an rpc) may take.
    pub call_timeout_ms: u64,
    /// The largest WebSocket message in bytes, all its fragments together; a larger one closes with 1009.
    pub max_message_bytes: usize,
    /// Bytes queued for one connection above which it counts as slow and is cut off, resumably.
    pub max_queued_bytes: usize,
    /// `SO_SNDBUF` of every stream in bytes; 0 leaves the system's default.
    pub send_buffer_bytes: usize,
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
    /// Commands that one WebSocket connection may send per second; 0 means any number. Above, error 111.
    pub messages_per_second: u32,
    /// The shortest `retry` told to SSE clients, in milliseconds.
    pub retry_min_ms: u64,
    /// The longest `retry` told to SSE clients, in milliseconds.
    pub retry_max_ms: u64,
    /// Milliseconds that a mailbox or topic without subscribers stays known, so that reconnects are cheap.
    pub feed_linger_ms: u64,
    /// Milliseconds between two comparisons of what was pushed with what is stored, per mailbox and topic; finds
    /// what a bus lost last. 0 turns it off.
    pub position_check_interval_ms: u64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ping_interval_ms: 25_000,
            pong_timeout_ms: 8_000,
            stale_close_delay_ms: 10_000,
            expired_close_delay_ms: 25_000,
            close_timeout_ms: 5_000,
            write_timeout_ms: 25_000,
            call_timeout_ms: 10_000,
            max_message_bytes: 64 * 1024,
            max_queued_bytes: 64 * 1024,
            send_buffer_bytes: 64 * 1024,
            channel_limit: 128,
            recovery_limit: 300,
            stream_topics_limit: 64,
            allowed_origins: Vec::new(),
            connections_per_user: 0,
            messages_per_second: 0,
            retry_min_ms: 2_000,
            retry_max_ms: 10_000,
            feed_linger_ms: 10_000,
            position_check_interval_ms: 60_000,
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
        if self.ping_interval_ms == 0 || !self.ping_interval_ms.is_multiple_of(1_000) {
            return fail(
                "ping_interval_ms",
                "must be a whole number of seconds, at least 1000",
            );
        }
        if self.pong_timeout_ms == 0 || self.pong_timeout_ms >= self.ping_interval_ms {
            return fail("pong_timeout_ms", "must be above 0 and below ping_interval_ms");
        }
        for (key, value) in [
            ("stale_close_delay_ms", self.stale_close_delay_ms),
            ("close_timeout_ms", self.close_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("call_timeout_ms", self.call_timeout_ms),
            ("retry_min_ms", self.retry_min_ms),
        ] {
            if !(1..=3_600_000).contains(&value) {
                return fail(key, "must be between 1 and 3600000");
            }
        }
        if self.retry_max_ms < self.retry_min_ms {
            return fail("retry_max_ms", "must not be below retry_min_ms");
        }
        if !(1_024..=16 * 1024 * 1024).contains(&self.max_message_bytes) {
            return fail("max_message_bytes", "must be between 1024 and 16777216");
        }
        if !(4_096..=64 * 1024 * 1024).contains(&self.max_queued_bytes) {
            return fail("max_queued_bytes", "must be between 4096 and 67108864");
        }
        if self.send_buffer_bytes != 0 && self.send_buffer_bytes < 4_096 {
            return fail("send_buffer_bytes", "must be 0 or at least 4096");
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

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
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
