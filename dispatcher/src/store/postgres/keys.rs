use carillon_domain::TenantId;

/// Pairs of a tenant and an id as two arrays for `UNNEST`.
pub(super) fn pairs<'a, I: ToString>(
    keys: impl Iterator<Item = (&'a TenantId, I)>,
) -> (Vec<String>, Vec<String>) {
    keys.map(|(tenant, id)| (tenant.to_string(), id.to_string()))
        .unzip()
}

/// Triples of a tenant, a user and something of his as three arrays for `UNNEST`.
pub(super) fn triples<'a, A: ToString, B: ToString>(
    keys: impl Iterator<Item = (&'a TenantId, A, B)>,
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut tenants, mut users, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant, user, other) in keys {
        tenants.push(tenant.to_string());
        users.push(user.to_string());
        others.push(other.to_string());
    }
    (tenants, users, others)
}
