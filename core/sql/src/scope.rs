use carillon_domain::TenantId;

/// Whose rows a transaction touches. Made from an authenticated principal's tenant, never from a request's field.
#[derive(Debug, Clone, Copy)]
pub struct TenantScope<'a>(&'a TenantId);

impl<'a> TenantScope<'a> {
    /// The rows of `tenant`.
    pub const fn new(tenant: &'a TenantId) -> Self {
        Self(tenant)
    }

    /// As bound to statements.
    pub fn tenant(&self) -> &'a str {
        self.0.as_str()
    }
}
