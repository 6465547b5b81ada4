//! Every tenant's rules as they are now, kept in memory until they change.

use std::sync::Arc;

use carillon_domain::{TenantId, ports::Unavailable};
use moka::future::Cache;

use super::{MOST, Rule};
use crate::store::{Store, rules::Revision};

/// Bytes of rules that are kept in memory, as they are stored.
const BYTES: u64 = 64 * 1_024 * 1_024;

/// A tenant's rules that count, in their order.
pub(crate) type Rules = Arc<[Arc<Rule>]>;

/// Every tenant's rules.
pub(crate) struct RuleBook {
    cache: Cache<TenantId, Kept>,
    store: Arc<dyn Store>,
}

#[derive(Clone)]
struct Kept {
    revision: Revision,
    rules: Rules,
}

impl RuleBook {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let weigh = |_: &TenantId, kept: &Kept| {
            let bytes: usize = kept.rules.iter().map(|rule| rule.size + 512).sum();
            u32::try_from(bytes + 256).unwrap_or(u32::MAX)
        };
        Self {
            cache: Cache::builder().weigher(weigh).max_capacity(BYTES).build(),
            store,
        }
    }

    /// The rules that count now: the newest versions of those that are enabled.
    pub(crate) async fn of(&self, tenant: &TenantId) -> Result<Rules, Unavailable> {
        // Before the rules: what changes in between is read again next time.
        let revision = self.store.rules_revision(tenant).await?;
        if let Some(kept) = self.cache.get(tenant).await
            && kept.revision == revision
        {
            return Ok(kept.rules);
        }
        let most = u32::try_from(MOST).unwrap_or(u32::MAX);
        let rows = self.store.rules(tenant, None, most).await?;
        let mut rules = Vec::with_capacity(rows.len());
        for row in &rows {
            match Rule::read(row) {
                Ok(rule) if rule.enabled => rules.push(Arc::new(rule)),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%tenant, rule = %row.name, error, "a rule cannot be read");
                }
            }
        }
        rules.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        let rules: Rules = rules.into();
        let kept = Kept {
            revision,
            rules: Arc::clone(&rules),
        };
        self.cache.insert(tenant.clone(), kept).await;
        Ok(rules)
    }
}
