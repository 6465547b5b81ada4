use std::{collections::BTreeMap, time::Duration};

use carillon_domain::TenantId;
use carillon_runtime::{
    config::{Secret, Span},
    http::SecureCookies,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest `ttl` of `POST /v1/tokens`.
pub(crate) const MAX_TOKEN_TTL: Duration = Duration::from_secs(2_592_000);

/// A shared secret that is shorter than its HMAC's output weakens it (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// A secret of fewer different bytes than this was typed, not generated.
const MIN_SECRET_VARIETY: usize = 8;

/// Credentials: the issuer of users' tokens, shared secrets, tickets and revocations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The claim `iss` of the tokens that Carillon issues and accepts as its own.
    pub issuer: String,
    /// The claim `aud` of the tokens that Carillon issues and accepts as its own.
    pub audience: String,
    /// How long a token lives when `POST /v1/tokens` names no `ttl`; at most 30 days.
    pub token_ttl: Span,
    /// How long a signing key signs before the next one takes over.
    pub key_rotation: Span,
    /// How long before it signs a key is shown in `/.well-known/jwks.json`, so that verifiers have it in time.
    pub key_lead: Span,
    /// How far clocks may differ: tolerated on `iat` and `nbf`, and on the `exp` of our own tokens.
    pub leeway: Span,
    /// How long a ticket for `/v1/stream` waits to be used; at most 30 s.
    pub ticket_ttl: Span,
    /// How long a stream cookie lives; never longer than the token that it stands for.
    pub cookie_ttl: Span,
    /// Whether the stream cookie is marked `Secure`: `auto` (when the request came over TLS), `always`, `never`.
    pub cookie_secure: SecureCookies,
    /// How long a revocation is kept. A revoked token without `exp`, or with one later than this, is valid again
    /// afterwards: give tokens an `exp`. At least 31 days.
    pub revocation_retention: Span,
    /// How long a revoked API key stays in the list of keys.
    pub revoked_key_retention: Span,
    /// How many verified tokens of our own are remembered, so that a storm of reconnects does not verify their signatures again.
    pub verified_tokens: u64,
    /// How many API keys are remembered, so that a request costs no read of the store.
    pub cached_keys: u64,
    /// The tenant `default`'s shared secret for HS256 tokens with Centrifugo's claims, at least 32 bytes. None: such
    /// tokens are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_secret: Option<Secret>,
    /// The secret before `hmac_secret`, still accepted while tokens signed with it are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_previous_secret: Option<Secret>,
    /// When set, HS256 tokens need this `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_issuer: Option<String>,
    /// When set, HS256 tokens need this `aud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_audience: Option<String>,
    /// The same for further tenants, by name.
    pub tenants: BTreeMap<String, TenantAuthConfig>,
    /// Set by `serve --dev`: short secrets are let pass.
    #[serde(skip)]
    pub allow_weak_secrets: bool,
}

/// One tenant's shared secret.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantAuthConfig {
    /// The shared secret for HS256 tokens with Centrifugo's claims, at least 32 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_secret: Option<Secret>,
    /// The secret before it, still accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_previous_secret: Option<Secret>,
    /// When set, HS256 tokens need this `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_issuer: Option<String>,
    /// When set, HS256 tokens need this `aud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_audience: Option<String>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: "carillon".to_owned(),
            audience: "carillon".to_owned(),
            token_ttl: Span::from_secs(3_600),
            key_rotation: Span::from_days(30),
            key_lead: Span::from_days(1),
            leeway: Span::from_secs(60),
            ticket_ttl: Span::from_secs(30),
            cookie_ttl: Span::from_days(1),
            cookie_secure: SecureCookies::Auto,
            revocation_retention: Span::from_days(400),
            revoked_key_retention: Span::from_days(30),
            verified_tokens: 50_000,
            cached_keys: 10_000,
            hmac_secret: None,
            hmac_previous_secret: None,
            hmac_issuer: None,
            hmac_audience: None,
            tenants: BTreeMap::new(),
            allow_weak_secrets: false,
        }
    }
}

impl AuthConfig {
    /// Whether everything fits together.
    ///
    /// # Errors
    /// The key, below `auth`, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        for (key, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if !matches!(text.len(), 1..=255) || text.chars().any(char::is_control) {
                return wrong(key, "expected 1-255 bytes without control characters");
            }
        }
        let between = |key: &str, span: Span, least: Duration, most: Duration| {
            if (least..=most).contains(&span.duration()) {
                return Ok(());
            }
            let reason = format!("expected {} to {}", span_text(least), span_text(most));
            Err((key.to_owned(), reason))
        };
        let (second, minute, day) = (
            Duration::from_secs(1),
            Duration::from_secs(60),
            Duration::from_secs(86_400),
        );
        between("token_ttl", self.token_ttl, second, MAX_TOKEN_TTL)?;
        between("key_rotation", self.key_rotation, minute, 3_660 * day)?;
        between("key_lead", self.key_lead, Duration::ZERO, 30 * day)?;
        if self.key_lead >= self.key_rotation {
            return wrong("key_lead", "must be shorter than key_rotation");
        }
        between("leeway", self.leeway, Duration::ZERO, 5 * minute)?;
        between("ticket_ttl", self.ticket_ttl, second, 30 * second)?;
        between("cookie_ttl", self.cookie_ttl, minute, 30 * day)?;
        between(
            "revocation_retention",
            self.revocation_retention,
            31 * day,
            3_660 * day,
        )?;
        between(
            "revoked_key_retention",
            self.revoked_key_retention,
            Duration::ZERO,
            3_660 * day,
        )?;
        if self.verified_tokens == 0 {
            return wrong("verified_tokens", "must be at least 1");
        }
        if self.cached_keys == 0 {
            return wrong("cached_keys", "must be at least 1");
        }
        for (prefix, tenant) in self.shared_secrets() {
            self.validate_secrets(&prefix, &tenant)?;
        }
        for name in self.tenants.keys() {
            if name == TenantId::DEFAULT {
                return wrong(
                    "tenants.default",
                    "the tenant default's secret is hmac_secret itself",
                );
            }
            if let Err(error) = name.parse::<TenantId>() {
                return Err((format!("tenants.{name}"), error.to_string()));
            }
        }
        Ok(())
    }

    /// Every tenant's settings with the prefix of their keys; the tenant `default`'s have none.
    fn shared_secrets(&self) -> impl Iterator<Item = (String, TenantAuthConfig)> {
        let default = (String::new(), self.of_default());
        let others = self
            .tenants
            .iter()
            .map(|(name, tenant)| (format!("tenants.{name}."), tenant.clone()));
        std::iter::once(default).chain(others)
    }

    fn of_default(&self) -> TenantAuthConfig {
        TenantAuthConfig {
            hmac_secret: self.hmac_secret.clone(),
            hmac_previous_secret: self.hmac_previous_secret.clone(),
            hmac_issuer: self.hmac_issuer.clone(),
            hmac_audience: self.hmac_audience.clone(),
        }
    }

    /// The tenants that have a shared secret.
    pub(crate) fn with_secrets(&self) -> Vec<(TenantId, TenantAuthConfig)> {
        let others = self
            .tenants
            .iter()
            .filter_map(|(name, tenant)| Some((name.parse().ok()?, tenant.clone())));
        std::iter::once((TenantId::default(), self.of_default()))
            .chain(others)
            .filter(|(_, tenant)| tenant.hmac_secret.is_some())
            .collect()
    }

    fn validate_secrets(&self, prefix: &str, tenant: &TenantAuthConfig) -> Result<(), (String, String)> {
        if tenant.hmac_secret.is_none() && tenant.hmac_previous_secret.is_some() {
            let reason = "needs hmac_secret beside it".to_owned();
            return Err((format!("{prefix}hmac_previous_secret"), reason));
        }
        let secrets = [
            ("hmac_secret", &tenant.hmac_secret),
            ("hmac_previous_secret", &tenant.hmac_previous_secret),
        ];
        for (key, secret) in secrets {
            if let Some(reason) = secret.as_ref().and_then(|secret| self.weakness(secret)) {
                return Err((format!("{prefix}{key}"), reason.to_owned()));
            }
        }
        Ok(())
    }

    fn weakness(&self, secret: &Secret) -> Option<&'static str> {
        let secret = secret.expose().as_bytes();
        if secret.is_empty() {
            return Some("must not be empty");
        }
        if self.allow_weak_secrets {
            return None;
        }
        if secret.len() < MIN_SECRET_BYTES {
            return Some("must be at least 32 bytes; `openssl rand -hex 32` makes one");
        }
        let mut seen = [false; 256];
        secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        let variety = seen.iter().filter(|seen| **seen).count();
        (variety < MIN_SECRET_VARIETY).then_some("is too regular; `openssl rand -hex 32` makes a good one")
    }
}

fn span_text(duration: Duration) -> String {
    Span::from_secs(duration.as_secs()).to_string()
}
