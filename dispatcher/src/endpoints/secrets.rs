//! Secrets that sign: made by a port, kept sealed, shown once.

use std::sync::Arc;

use carillon_domain::{
    ChannelKind, EndpointId, SecretId, TenantId, Timestamp,
    ports::{SigningKind, Unavailable},
};

use super::{EndpointError, Endpoints, Fresh};
use crate::{
    deliverer::compose::secret_place,
    store::{
        endpoints::SecretRow,
        outside::{LeasedDelivery, SealedSecret, Sources},
    },
};

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

    /// Adds to what was read what signs for plain URLs, where no key was made yet.
    pub(crate) async fn resolve(
        &self,
        deliveries: &[Arc<LeasedDelivery>],
        sources: &mut Sources,
    ) -> Result<(), Unavailable> {
        if self.channel.is_none() || self.seal.is_none() || self.keys.is_none() {
            return Ok(());
        }
        for delivery in deliveries {
            let is_plain = delivery.key.channel == ChannelKind::webhook()
                && delivery.address.as_str().parse::<EndpointId>().is_err();
            let place = (delivery.key.tenant.clone(), String::new());
            if !is_plain || sources.secrets.contains_key(&place) {
                continue;
            }
            let key = match self.tenant_key(&place.0).await {
                Ok(key) => key,
                Err(EndpointError::Unavailable(error)) => return Err(error),
                Err(error) => return Err(Unavailable::new("making a tenant's key", error)),
            };
            let secret = SealedSecret {
                id: key.id.to_string(),
                sealed: key.sealed,
            };
            sources.secrets.insert(place, vec![secret]);
        }
        Ok(())
    }

    /// Endpoints were disabled: it is said, in a notification too, and what waits for them ends.
    pub(crate) fn closed(&self, disabled: &[(TenantId, EndpointId, String)]) {
        for (tenant, endpoint, reason) in disabled {
            metrics::counter!("carillon_webhook_endpoints_disabled_total").increment(1);
            metrics::counter!("carillon_dispatcher_accepted_total").increment(1);
            tracing::warn!(%tenant, %endpoint, reason, "a webhook endpoint was disabled");
        }
        if !disabled.is_empty() {
            self.closer.wake();
            self.relay.wake();
        }
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
