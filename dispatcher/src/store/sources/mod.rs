//! Everything durable about sources: tools whose events become notifications.

mod rows;

use async_trait::async_trait;
use carillon_domain::{SourceName, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(super) use rows::{SourceColumns, source};

/// A source to write.
#[derive(Debug, Clone)]
pub(crate) struct SourceWrite {
    pub(crate) tenant: TenantId,
    pub(crate) name: SourceName,
    pub(crate) kind: &'static str,
    /// JSON.
    pub(crate) settings: String,
    pub(crate) sealed: Option<String>,
    pub(crate) at: Timestamp,
}

/// A row of `sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceRow {
    pub(crate) name: SourceName,
    pub(crate) kind: String,
    /// JSON.
    pub(crate) settings: String,
    /// What its signature or token is checked with.
    pub(crate) sealed: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What became of a source that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutSource {
    Made,
    Replaced,
    /// The tenant has too many.
    Full,
}

/// The durable state of sources.
#[async_trait]
pub(crate) trait SourceStore: Send + Sync + 'static {
    /// Makes or replaces a source, unless it is new and the tenant has `most`.
    async fn put_source(&self, row: &SourceWrite, most: u64) -> Result<PutSource, StoreError>;

    /// One source.
    async fn source(&self, tenant: &TenantId, name: &SourceName) -> Result<Option<SourceRow>, StoreError>;

    /// Sources by name.
    async fn sources(
        &self,
        tenant: &TenantId,
        after: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<SourceRow>, StoreError>;

    /// Removes a source; answers whether there was one.
    async fn delete_source(&self, tenant: &TenantId, name: &SourceName) -> Result<bool, StoreError>;
}
