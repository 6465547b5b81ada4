//! The credentials of the quickstart page.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use carillon_auth::{Auth, MintRequest};
use carillon_domain::{
    DeviceName, ExternalUserId, Scope, TenantId, TopicGrants,
    ports::{Authenticate as _, Unavailable},
};
use secrecy::ExposeSecret as _;

use crate::quickstart::Guests;

/// Mints for the page.
pub(crate) struct DevGuests {
    auth: Arc<Auth>,
    key: String,
}

impl DevGuests {
    /// Uses the key that an earlier start left in the data folder (mode 0600), or makes one.
    ///
    /// # Errors
    /// When the key can be neither made nor kept.
    pub(crate) async fn open(auth: Arc<Auth>, data: &Path) -> Result<Self> {
        let tenant = TenantId::default();
        let path = data.join("quickstart.key");
        let kept = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .trim()
            .to_owned();
        if !kept.is_empty() && auth.bearer(&tenant, &kept).await.is_ok() {
            return Ok(Self { auth, key: kept });
        }
        let (_, key) = auth
            .create_key(&tenant, "quickstart", &Scope::BACKEND)
            .await
            .context("cannot make the quickstart page's key")?;
        let key = key.expose_secret().to_owned();
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{key}"))
            .with_context(|| format!("cannot keep the quickstart page's key in {}", path.display()))?;
        Ok(Self { auth, key })
    }

    /// The key, for the `curl` line that is printed.
    pub(crate) fn key_text(&self) -> &str {
        &self.key
    }
}

#[async_trait]
impl Guests for DevGuests {
    async fn key(&self) -> Result<String, Unavailable> {
        Ok(self.key.clone())
    }

    async fn token(
        &self,
        user: &ExternalUserId,
        device: &DeviceName,
        life: Duration,
    ) -> Result<String, Unavailable> {
        let everything = || "*".parse().map(|pattern| vec![pattern]).unwrap_or_default();
        let request = MintRequest {
            user: user.clone(),
            ttl: Some(life),
            device: Some(device.clone()),
            topics: TopicGrants {
                subscribe: everything(),
                publish: everything(),
            },
        };
        let minted = self
            .auth
            .mint(&TenantId::default(), &request)
            .await
            .map_err(|error| Unavailable::new("minting the quickstart page's token", error))?;
        Ok(minted.token.expose_secret().to_owned())
    }
}
