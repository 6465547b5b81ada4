use async_trait::async_trait;
use carillon_domain::{ExternalUserId, SegmentName, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;
use serde_json::{Map, Value};

use super::{corrupt, devices::attributes, external_id, user_id};

/// Saved filters, and the users whom they are asked of. Each method is one transaction.
#[async_trait]
pub(crate) trait SegmentStore: Send + Sync + 'static {
    /// Makes or replaces a segment, unless the tenant has `most` others.
    async fn put_segment(
        &self,
        tenant: &TenantId,
        segment: &SegmentWrite,
        most: i64,
        now: Timestamp,
    ) -> Result<Put, StoreError>;

    /// A segment.
    async fn segment(&self, tenant: &TenantId, name: &SegmentName) -> Result<Option<SegmentRow>, StoreError>;

    /// Segments behind `after`, by name.
    async fn segments(
        &self,
        tenant: &TenantId,
        after: Option<&SegmentName>,
        limit: usize,
    ) -> Result<Vec<SegmentRow>, StoreError>;

    /// Removes a segment; `false` when there is none.
    async fn remove_segment(&self, tenant: &TenantId, name: &SegmentName) -> Result<bool, StoreError>;

    /// Users behind `after`, by internal id.
    async fn people(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<PersonRecord>, StoreError>;
}

/// A segment to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SegmentWrite {
    pub(crate) name: SegmentName,
    pub(crate) title: Option<String>,
    pub(crate) filter: Value,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Made,
    Replaced,
    /// The tenant has enough.
    Full,
}

/// A segment as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SegmentRow {
    pub(crate) name: SegmentName,
    pub(crate) title: Option<String>,
    pub(crate) filter: Value,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What a filter is asked of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PersonRecord {
    pub(crate) id: UserId,
    pub(crate) user: ExternalUserId,
    pub(crate) created_at: Timestamp,
    pub(crate) locale: Option<String>,
    pub(crate) timezone: Option<String>,
    pub(crate) attributes: Map<String, Value>,
}

/// name, title, filter, created_at, updated_at
pub(super) type Row = (String, Option<String>, String, i64, i64);

pub(super) fn segment((name, title, filter, created_at, updated_at): Row) -> Result<SegmentRow, StoreError> {
    Ok(SegmentRow {
        name: name.parse().map_err(|_| corrupt("a segment's name"))?,
        title,
        filter: serde_json::from_str(&filter).map_err(|_| corrupt("a segment's filter"))?,
        created_at: Timestamp::from_micros(created_at),
        updated_at: Timestamp::from_micros(updated_at),
    })
}

/// id, external, created_at, locale, timezone, attributes
pub(super) type Person = (
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(super) fn person(row: Person) -> Result<PersonRecord, StoreError> {
    let (id, user, created_at, locale, timezone, stored) = row;
    Ok(PersonRecord {
        id: user_id(&id)?,
        user: external_id(&user)?,
        created_at: Timestamp::from_micros(created_at),
        locale,
        timezone,
        attributes: attributes(stored.as_deref())?,
    })
}
