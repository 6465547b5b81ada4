//! Topics that keep a history.

use bytes::Bytes;
use carillon_domain::{Epoch, Position, PublisherInfo, TenantId, Timestamp, TopicName};

/// A row of `topics`.
#[derive(Debug, Clone)]
pub(crate) struct TopicRow {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) epoch: Epoch,
    pub(crate) last_seq: u64,
    pub(crate) floor_seq: u64,
    pub(crate) oldest_at: Option<Timestamp>,
    pub(crate) used_at: Timestamp,
}

impl TopicRow {
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        }
    }
}

/// A row of `topic_log`.
#[derive(Debug, Clone)]
pub(crate) struct PublicationRow {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) seq: u64,
    pub(crate) data: Bytes,
    pub(crate) publisher: Option<PublisherInfo>,
    pub(crate) at: Timestamp,
}

/// Publications of one caller for topics that keep a history.
#[derive(Debug, Clone)]
pub(crate) struct TopicAppend {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) data: Bytes,
    pub(crate) publisher: Option<PublisherInfo>,
}
