mod categories;
mod opt_outs;
mod templates;

use async_trait::async_trait;
use carillon_domain::{Category, TemplateName, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::SqliteStore;
use crate::store::catalog::{
    CatalogStore, CategoryRow, CategoryWrite, OptOut, Put, TemplateRow, TemplateVersionRow, TemplateWrite,
};

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn put_category(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        category: &CategoryWrite,
        most: u64,
    ) -> Result<Put, StoreError> {
        Self::put_category(self, now, tenant, category, most).await
    }

    async fn categories(
        &self,
        tenant: &TenantId,
        after: Option<&Category>,
        limit: u32,
    ) -> Result<Vec<CategoryRow>, StoreError> {
        Self::categories(self, tenant, after, limit).await
    }

    async fn category(&self, tenant: &TenantId, name: &Category) -> Result<Option<CategoryRow>, StoreError> {
        Self::category(self, tenant, name).await
    }

    async fn delete_category(&self, tenant: &TenantId, name: &Category) -> Result<bool, StoreError> {
        Self::delete_category(self, tenant, name).await
    }

    async fn opt_out(&self, now: Timestamp, opt_out: &OptOut, off: bool) -> Result<(), StoreError> {
        Self::opt_out(self, now, opt_out, off).await
    }

    async fn opted_out(&self, opt_out: &OptOut) -> Result<bool, StoreError> {
        Self::opted_out(self, opt_out).await
    }

    async fn put_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        template: &TemplateWrite,
        most: u64,
        keep: u64,
    ) -> Result<Option<u64>, StoreError> {
        Self::put_template(self, now, tenant, template, most, keep).await
    }

    async fn templates(
        &self,
        tenant: &TenantId,
        after: Option<&TemplateName>,
        limit: u32,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        Self::templates(self, tenant, after, limit).await
    }

    async fn template(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        version: Option<u64>,
    ) -> Result<Option<TemplateVersionRow>, StoreError> {
        Self::template(self, tenant, name, version).await
    }

    async fn template_versions(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        limit: u32,
    ) -> Result<Vec<u64>, StoreError> {
        Self::template_versions(self, tenant, name, limit).await
    }

    async fn delete_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        name: &TemplateName,
    ) -> Result<bool, StoreError> {
        Self::delete_template(self, now, tenant, name).await
    }
}
