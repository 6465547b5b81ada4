use carillon_domain::TenantId;
use carillon_sql::StoreError;
use serde::Serialize;

use crate::store::ledger::encode;

/// A JSON list for `json_each`.
pub(super) fn json_list<T: Serialize>(items: impl Iterator<Item = T>) -> Result<String, StoreError> {
    encode(&items.collect::<Vec<_>>())
}

/// A JSON list of pairs of a tenant and an id for `json_each`.
pub(super) fn pairs<'a, I: Serialize>(
    keys: impl Iterator<Item = (&'a TenantId, I)>,
) -> Result<String, StoreError> {
    json_list(keys.map(|(tenant, id)| (tenant.as_str(), id)))
}
