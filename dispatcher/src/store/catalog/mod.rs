//! What a tenant sets up for its notifications: categories, templates, and what recipients turned off.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{Category, TemplateName, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of what a tenant sets up.
#[async_trait]
pub(crate) trait CatalogStore: Send + Sync + 'static {
    /// Makes or replaces a category, unless the tenant has `most` others.
    async fn put_category(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        category: &CategoryWrite,
        most: u64,
    ) -> Result<Put, StoreError>;

    /// Categories by name.
    async fn categories(
        &self,
        tenant: &TenantId,
        after: Option<&Category>,
        limit: u32,
    ) -> Result<Vec<CategoryRow>, StoreError>;

    /// One category.
    async fn category(&self, tenant: &TenantId, name: &Category) -> Result<Option<CategoryRow>, StoreError>;

    /// Removes a category; answers whether there was one.
    async fn delete_category(&self, tenant: &TenantId, name: &Category) -> Result<bool, StoreError>;

    /// Turns a category and channel off for a recipient, or on again. Twice is once.
    async fn opt_out(&self, now: Timestamp, opt_out: &OptOut, off: bool) -> Result<(), StoreError>;

    /// Whether it is turned off.
    async fn opted_out(&self, opt_out: &OptOut) -> Result<bool, StoreError>;

    /// Writes a template's next version, unless the tenant has `most` others. Of its older versions `keep` stay, and
    /// those that a notification was accepted with.
    async fn put_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        template: &TemplateWrite,
        most: u64,
        keep: u64,
    ) -> Result<Option<u64>, StoreError>;

    /// Templates by name, without those that were deleted.
    async fn templates(
        &self,
        tenant: &TenantId,
        after: Option<&TemplateName>,
        limit: u32,
    ) -> Result<Vec<TemplateRow>, StoreError>;

    /// A version of a template: the newest of one that was not deleted, or the one that is named, for as long as it is
    /// kept.
    async fn template(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        version: Option<u64>,
    ) -> Result<Option<TemplateVersionRow>, StoreError>;

    /// The versions that are kept of a template, newest first, at most `limit`.
    async fn template_versions(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        limit: u32,
    ) -> Result<Vec<u64>, StoreError>;

    /// Deletes a template; answers whether there was one. Its versions stay for what was accepted before.
    async fn delete_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        name: &TemplateName,
    ) -> Result<bool, StoreError>;
}
