//! What the hub counts. The handles are looked up once: a broadcast to thousands of sockets must not search for
//! its counter each time.

use metrics::{Counter, Gauge, counter, gauge};

pub(crate) struct Metrics {
    pub(crate) websockets: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) feeds: Gauge,
    pub(crate) envelopes: Counter,
    pub(crate) frames: Counter,
    pub(crate) commands: Counter,
    pub(crate) slow: Counter,
    pub(crate) catch_ups: Counter,
    pub(crate) recovered: Counter,
    pub(crate) not_recovered: Counter,
    pub(crate) gaps: Counter,
    pub(crate) revoked: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            websockets: gauge!("carillon_hub_connections", "transport" => "websocket"),
            streams: gauge!("carillon_hub_connections", "transport" => "sse"),
            feeds: gauge!("carillon_hub_feeds"),
            envelopes: counter!("carillon_hub_envelopes_total"),
            frames: counter!("carillon_hub_frames_total"),
            commands: counter!("carillon_hub_commands_total"),
            slow: counter!("carillon_hub_cut_off_total", "reason" => "slow"),
            catch_ups: counter!("carillon_hub_catch_ups_total"),
            recovered: counter!("carillon_hub_recoveries_total", "recovered" => "true"),
            not_recovered: counter!("carillon_hub_recoveries_total", "recovered" => "false"),
            gaps: counter!("carillon_hub_gaps_total"),
            revoked: counter!("carillon_hub_cut_off_total", "reason" => "revoked"),
        }
    }
}
