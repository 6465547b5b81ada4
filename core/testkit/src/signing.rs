use std::sync::atomic::{AtomicU64, Ordering};

use carillon_domain::ports::{NewSigningKey, SigningKey, SigningKeys, SigningKind, Unavailable};

/// The port's in-process version: keys that differ and are counted, and sign nothing.
#[derive(Debug, Default)]
pub struct CountedKeys(AtomicU64);

impl SigningKeys for CountedKeys {
    fn make(&self, kind: SigningKind) -> Result<NewSigningKey, Unavailable> {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(match kind {
            SigningKind::Hmac => NewSigningKey {
                secret: SigningKey::new(format!("whsec_{number}")),
                public: None,
            },
            SigningKind::Ed25519 => NewSigningKey {
                secret: SigningKey::new(format!("whsk_{number}")),
                public: Some(format!("whpk_{number}")),
            },
        })
    }
}
