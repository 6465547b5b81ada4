use carillon_domain::{KeyId, Scope, TenantId, ports::Unavailable};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::{
    Auth,
    digest::sha256,
    store::{KeyOwner, KeyRecord},
};

/// What every tenant's API key begins with.
const PREFIX: &str = "crk_";

/// What every worker's key for all tenants begins with.
const WORKER_PREFIX: &str = "crw_";

/// Hexadecimal digits of the key's id.
const ID_DIGITS: usize = 32;

/// Random bytes of the secret half, written as twice as many hexadecimal digits.
const SECRET_BYTES: usize = 24;

/// Live keys that a tenant may have; so many may serve all tenants.
const MAX_KEYS: i64 = 1_000;

/// Channels that one key may bring.
const MAX_CHANNELS: usize = 32;

/// Why no API key was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// The name is empty, too long, or has control characters.
    #[error("a key's name is 1-255 bytes without control characters")]
    Name,
    /// It would be good for nothing.
    #[error("a key needs at least one scope")]
    NoScope,
    /// It names too many channels.
    #[error("a key brings at most {MAX_CHANNELS} channels")]
    TooManyChannels,
    /// It would serve all tenants, and do more than bring channels.
    #[error("a key for all tenants has only scopes channel:{{kind}}")]
    OnlyChannels,
    /// There are enough.
    #[error("there are at most {MAX_KEYS} keys that are not revoked")]
    TooMany,
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// The store is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A key's text, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyText {
    /// A tenant's.
    Tenant(KeyId),
    /// One for all tenants.
    Worker(KeyId),
}

/// Whether a credential means to be a key at all.
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX) || text.starts_with(WORKER_PREFIX)
}

/// What a key's text says; `None` for what is no key. One key has one spelling.
pub(crate) fn parse(text: &str) -> Option<KeyText> {
    let (digits, of): (_, fn(KeyId) -> KeyText) = match text.strip_prefix(PREFIX) {
        Some(digits) => (digits, KeyText::Tenant),
        None => (text.strip_prefix(WORKER_PREFIX)?, KeyText::Worker),
    };
    let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != ID_DIGITS + 2 * SECRET_BYTES || !digits.bytes().all(lower_hex) {
        return None;
    }
    Uuid::try_parse(&digits[..ID_DIGITS])
        .ok()
        .map(|uuid| of(KeyId::from_uuid(uuid)))
}

/// Each once, in one order.
fn tidy(scopes: &[Scope]) -> Result<Vec<Scope>, CreateKeyError> {
    let mut channels: Vec<_> = scopes
        .iter()
        .filter_map(|scope| match scope {
            Scope::Channel(kind) => Some(kind.clone()),
            _ => None,
        })
        .collect();
    channels.sort_unstable();
    channels.dedup();
    if channels.len() > MAX_CHANNELS {
        return Err(CreateKeyError::TooManyChannels);
    }
    let tidy: Vec<Scope> = Scope::ALL
        .into_iter()
        .filter(|scope| scopes.contains(scope))
        .chain(channels.into_iter().map(Scope::Channel))
        .collect();
    if tidy.is_empty() {
        return Err(CreateKeyError::NoScope);
    }
    Ok(tidy)
}

impl Auth {
    /// Makes an API key for `tenant`, which begins to exist by this at the latest. The second part of the answer is the
    /// key itself: it is shown this once and stored only as a digest.
    ///
    /// # Errors
    /// When the name or the scopes do not fit, the tenant has too many keys, or the store is away.
    pub async fn create_key(
        &self,
        tenant: &TenantId,
        name: &str,
        scopes: &[Scope],
    ) -> Result<(KeyId, SecretString), CreateKeyError> {
        let owner = KeyOwner::Tenant(tenant.clone());
        let (record, key) = self.make_key(&owner, name, scopes).await?;
        Ok((record.id, key))
    }

    pub(crate) async fn make_key(
        &self,
        owner: &KeyOwner,
        name: &str,
        scopes: &[Scope],
    ) -> Result<(KeyRecord, SecretString), CreateKeyError> {
        if !matches!(name.len(), 1..=255) || name.chars().any(char::is_control) {
            return Err(CreateKeyError::Name);
        }
        let scopes = tidy(scopes)?;
        let prefix = match owner {
            KeyOwner::Tenant(_) => PREFIX,
            KeyOwner::AllTenants => WORKER_PREFIX,
        };
        let brings = |scope: &Scope| matches!(scope, Scope::Channel(_));
        if *owner == KeyOwner::AllTenants && !scopes.iter().all(brings) {
            return Err(CreateKeyError::OnlyChannels);
        }
        let now = self.clock.now();
        let id = KeyId::at(now);
        let mut secret = zeroize::Zeroizing::new([0_u8; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| CreateKeyError::Random)?;
        let key = SecretString::from(format!(
            "{prefix}{}{}",
            id.as_uuid().as_simple(),
            hex::encode(*secret)
        ));
        let record = KeyRecord {
            id,
            name: name.to_owned(),
            digest: sha256(&[key.expose_secret().as_bytes()]),
            scopes,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        };
        let made = self
            .store
            .create_key(owner, &record, MAX_KEYS)
            .await
            .map_err(Unavailable::from)?;
        if made {
            Ok((record, key))
        } else {
            Err(CreateKeyError::TooMany)
        }
    }

    /// Ends an API key at once; `false` when the owner has no such key.
    pub(crate) async fn revoke_key(&self, owner: &KeyOwner, id: KeyId) -> Result<bool, Unavailable> {
        let found = self.store.revoke_key(owner, id, self.clock.now()).await?;
        self.keys.forget(id).await;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let id = "0190d6a5c0de70008000000000000000";
        let good = format!("crk_{id}{}", "0a".repeat(SECRET_BYTES));
        let id: KeyId = format!("key_{id}").parse().expect("an id");
        assert_eq!(parse(&good), Some(KeyText::Tenant(id)));
        assert_eq!(
            parse(&good.replacen("crk_", "crw_", 1)),
            Some(KeyText::Worker(id))
        );
        let bad = [
            String::new(),
            "crk_".to_owned(),
            good.to_uppercase(),
            good.replace("0a", "0A"),
            good.replacen("crk_", "key_", 1),
            good.replacen("0190d6a5", "0190d6a5-", 1),
            format!("{good}0"),
            good[..good.len() - 1].to_owned(),
            format!(" {good}"),
            good.replacen('0', "\u{660}", 1),
        ];
        for bad in bad {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }
}
