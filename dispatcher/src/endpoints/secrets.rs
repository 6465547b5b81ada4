//! Secrets that sign: made by a port, kept sealed, shown once.

use carillon_domain::{
    EndpointId, SecretId, TenantId, Timestamp,
    ports::{SigningKind, Unavailable},
};

use super::{EndpointError, Endpoints, Fresh};
use crate::{deliverer::compose::secret_place, store::endpoints::SecretRow};

impl Endpoints {
    /// A new secret, sealed for where it will be kept.
    pub(super) fn fresh(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        endpoint: Option<EndpointId>,
        kind: SigningKind,
    ) -> Result<Fresh, EndpointError> {
        let (Some(seal), Some(keys)) = (&self.seal, &self.keys) else {
            let error = Unavailable::new("making a signing key", "nothing here makes or seals keys");
            return Err(EndpointError::Unavailable(error));
        };
        let made = keys.make(kind)?;
        let id = SecretId::at(now);
        let owner = endpoint.map_or_else(String::new, |id| id.to_string());
        let place = secret_place(tenant, &owner, &id.to_string());
        let sealed = seal.seal(&place, made.secret.expose().as_bytes())?;
        Ok(Fresh {
            row: SecretRow {
                tenant: tenant.clone(),
                endpoint,
                id,
                kind,
                public: made.public,
                sealed,
                created_at: now,
                expires_at: None,
            },
            secret: made.secret,
        })
    }

    /// The tenant's own key, which signs what goes to plain URLs; made on first use.
    pub(crate) async fn tenant_key(&self, tenant: &TenantId) -> Result<SecretRow, EndpointError> {
        if let Some(known) = self.store.known_tenant_secret(tenant).await? {
            return Ok(known);
        }
        let fresh = self.fresh(self.clock.now(), tenant, None, SigningKind::Ed25519)?;
        Ok(self.store.tenant_secret(&fresh.row).await?)
    }
}
