//! Everything durable about rules: what makes notifications of domain events.

mod rows;

use async_trait::async_trait;
use carillon_domain::{DomainEventId, RuleName, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(super) use rows::*;

/// A rule to write.
#[derive(Debug, Clone)]
pub(crate) struct RuleWrite {
    pub(crate) name: RuleName,
    /// JSON, always the same for the same rule.
    pub(crate) body: String,
}

/// What became of a rule that was put, with the version that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutRule {
    Made(u64),
    Changed(u64),
    /// It was so already.
    Same(u64),
    /// The tenant has too many.
    Full,
}

/// A rule with one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleRow {
    pub(crate) name: RuleName,
    pub(crate) version: u64,
    /// JSON.
    pub(crate) body: String,
    /// When the rule was made.
    pub(crate) created_at: Timestamp,
    /// When this version was.
    pub(crate) updated_at: Timestamp,
}

/// What a rule could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleErrorRow {
    pub(crate) event: DomainEventId,
    /// Of the rule.
    pub(crate) version: u64,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// Which state a tenant's rules are in: another one after each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Versions that were ever made of the rules that are kept.
    pub(crate) versions: u64,
    /// Rules that are not deleted.
    pub(crate) rules: u64,
    /// The last change.
    pub(crate) at: Timestamp,
}

/// The durable state of rules.
#[async_trait]
pub(crate) trait RuleStore: Send + Sync + 'static {
    /// Writes a rule's next version, unless it is so already or the tenant has `most` others, counting those that were
    /// deleted and are kept for their events. The newest `keep` versions stay.
    async fn put_rule(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        rule: &RuleWrite,
        most: u64,
        keep: u64,
    ) -> Result<PutRule, StoreError>;

    /// Rules by name, each with its newest version, without those that were deleted.
    async fn rules(
        &self,
        tenant: &TenantId,
        after: Option<&RuleName>,
        limit: u32,
    ) -> Result<Vec<RuleRow>, StoreError>;

    /// A rule that was not deleted, with its newest version or the one that is named.
    async fn rule(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        version: Option<u64>,
    ) -> Result<Option<RuleRow>, StoreError>;

    /// The versions that are kept of a rule that was not deleted, newest first, below `before`.
    async fn rule_versions(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RuleRow>, StoreError>;

    /// Deletes a rule; answers whether there was one.
    async fn delete_rule(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        name: &RuleName,
    ) -> Result<bool, StoreError>;

    /// Tells two states of a tenant's rules apart without reading them.
    async fn rules_revision(&self, tenant: &TenantId) -> Result<Revision, StoreError>;

    /// What a rule could not do, newest event first.
    async fn rule_errors(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        limit: u32,
    ) -> Result<Vec<RuleErrorRow>, StoreError>;
}
