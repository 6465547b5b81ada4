use std::{net::IpAddr, path::PathBuf, time::Duration};

use carillon_runtime::config::{Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{canonical, domain_to_ascii};

/// Section `channels.email`: the one SMTP relay that takes our mail, and who it is from. Without `host` there is no
/// channel `email`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmailConfig {
    /// The relay's host name or IP address; its certificate must be for it. None: there is no channel `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The relay's port; by default what `security` usually has: 587 for `starttls`, 465 for `tls`, 25 for `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is secured: `starttls` (required, never optional), `tls` from the first byte, or `none`, which
    /// only a relay on the loopback interface may have.
    pub security: Security,
    /// Lets `security = "none"` pass for a relay elsewhere: mail and passwords then travel readable.
    pub allow_plaintext: bool,
    /// A PEM file with further certificate authorities to trust, for a relay of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How we sign in to the relay.
    pub auth: AuthMechanism,
    /// Who signs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, or for `xoauth2` the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file with the password or access token instead. It is read again for each connection, so whoever renews the
    /// token writes it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The sender's address. Required when `host` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The sender's name, as shown beside the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// Where answers of people go, when not to the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Where bounces go, when not to the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_path: Option<String>,
    /// The domain in each `Message-ID` and in `EHLO`; by default the sender's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id_domain: Option<String>,
    /// Connections to the relay that may be open at a time.
    pub connections: usize,
    /// Messages that go over one connection before it is replaced.
    pub messages_per_connection: u32,
    /// How long an unused connection is kept.
    pub idle_timeout: Span,
    /// How long connecting may take: TCP, TLS, greeting and sign-in together.
    pub connect_timeout: Span,
    /// How long one attempt may take in all, from 1 s to 10 min.
    pub timeout: Span,
    /// Whether an address must be verified before notifications go there.
    pub verified: bool,
    /// Signatures of the sender's domain on what is sent.
    pub dkim: DkimConfig,
}

/// How the connection to the relay is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// In the clear until `STARTTLS`, which must succeed.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None.
    None,
}

/// How we sign in to the relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMechanism {
    /// Not at all.
    #[default]
    None,
    /// `AUTH PLAIN` (RFC 4616).
    Plain,
    /// `AUTH LOGIN`.
    Login,
    /// `AUTH XOAUTH2` with an access token.
    Xoauth2,
}

/// Section `channels.email.dkim`: signing (RFC 6376), on when all of `selector`, `domain` and a key are there.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DkimConfig {
    /// The selector: the public key is the TXT record of `SELECTOR._domainkey.DOMAIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The domain that signs: the sender's, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The private key, PKCS#8 in PEM: RSA of at least 2048 bits, or Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// A file with the private key instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            security: Security::default(),
            allow_plaintext: false,
            ca_file: None,
            auth: AuthMechanism::default(),
            username: None,
            password: None,
            password_file: None,
            from: None,
            from_name: None,
            reply_to: None,
            return_path: None,
            message_id_domain: None,
            // What is in flight shares a commit: with 8 an email costs twice the time of the processor that it costs with 24.
            connections: 24,
            messages_per_connection: 500,
            idle_timeout: Span::from_secs(30),
            connect_timeout: Span::from_secs(15),
            timeout: Span::from_secs(60),
            verified: false,
            dkim: DkimConfig::default(),
        }
    }
}

impl EmailConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let Some(host) = &self.host else {
            return Ok(());
        };
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if host.parse::<IpAddr>().is_err() && domain_to_ascii(host).is_err() {
            return fail("host", "expected a host name or an IP address, without a port");
        }
        if self.port == Some(0) {
            return fail("port", "must be between 1 and 65535");
        }
        if self.security == Security::None && !self.allow_plaintext && !is_loopback(host) {
            return fail(
                "security",
                "none is for a relay on the loopback interface; allow_plaintext = true lets it pass",
            );
        }
        self.validate_credentials()?;
        self.validate_sender()?;
        if !(1..=1_000).contains(&self.connections) {
            return fail("connections", "must be between 1 and 1000");
        }
        if !(1..=100_000).contains(&self.messages_per_connection) {
            return fail("messages_per_connection", "must be between 1 and 100000");
        }
        let second = Duration::from_secs(1);
        for (key, span, most) in [
            ("idle_timeout", self.idle_timeout, 600),
            ("connect_timeout", self.connect_timeout, 600),
            ("timeout", self.timeout, 600),
        ] {
            if !(second..=second * most).contains(&span.duration()) {
                return fail(key, "must be between 1s and 10m");
            }
        }
        if self.connect_timeout > self.timeout {
            return fail("connect_timeout", "must not be above timeout");
        }
        self.dkim
            .validate()
            .map_err(|(key, reason)| (format!("dkim.{key}"), reason))
    }

    fn validate_credentials(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if self.password.is_some() && self.password_file.is_some() {
            return fail("password_file", "password is set as well; only one may be");
        }
        let (name, password) = (
            self.username.is_some(),
            self.password.is_some() || self.password_file.is_some(),
        );
        match self.auth {
            AuthMechanism::None if name || password => {
                fail("auth", "must say how to sign in, since there are credentials")
            }
            AuthMechanism::None => Ok(()),
            _ if !name => fail("username", "must be set to sign in"),
            _ if !password => fail("password", "must be set to sign in, or password_file"),
            _ => Ok(()),
        }
    }

    fn validate_sender(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if self.from.is_none() {
            return fail("from", "must be set when host is");
        }
        for (key, address) in [
            ("from", &self.from),
            ("reply_to", &self.reply_to),
            ("return_path", &self.return_path),
        ] {
            if let Some(Err(invalid)) = address.as_deref().map(canonical) {
                return fail(key, invalid.0);
            }
        }
        if let Some(name) = &self.from_name
            && (name.len() > 255 || name.chars().any(char::is_control))
        {
            return fail(
                "from_name",
                "expected at most 255 bytes without control characters",
            );
        }
        if let Some(domain) = &self.message_id_domain
            && domain_to_ascii(domain).is_err()
        {
            return fail("message_id_domain", "expected a domain name");
        }
        Ok(())
    }

    /// The relay's port.
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Starttls => 587,
            Security::Tls => 465,
            Security::None => 25,
        })
    }
}

impl DkimConfig {
    fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if self.key.is_some() && self.key_file.is_some() {
            return fail("key_file", "key is set as well; only one may be");
        }
        let key = self.key.is_some() || self.key_file.is_some();
        match (&self.selector, &self.domain, key) {
            (None, None, false) => Ok(()),
            (None, ..) => fail("selector", "must be set to sign"),
            (_, None, _) => fail("domain", "must be set to sign"),
            (.., false) => fail("key", "must be set to sign, or key_file"),
            (Some(selector), Some(domain), true) => {
                if domain_to_ascii(selector).is_err() {
                    return fail("selector", "expected letters, digits, dashes and dots");
                }
                if domain_to_ascii(domain).is_err() {
                    return fail("domain", "expected a domain name");
                }
                Ok(())
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> EmailConfig {
        EmailConfig {
            host: Some("smtp.example.org".into()),
            from: Some("hub@example.org".into()),
            ..EmailConfig::default()
        }
    }

    fn bad_key(config: &EmailConfig) -> String {
        config.validate().expect_err("invalid").0
    }

    #[test]
    fn no_relay_is_valid_and_a_relay_needs_only_a_sender() {
        assert_eq!(EmailConfig::default().validate(), Ok(()));
        assert_eq!(relay().validate(), Ok(()));
        assert_eq!(
            bad_key(&EmailConfig {
                from: None,
                ..relay()
            }),
            "from"
        );
    }

    #[test]
    fn plaintext_is_for_loopback_unless_asked_for() {
        let none = EmailConfig {
            security: Security::None,
            ..relay()
        };
        assert_eq!(bad_key(&none), "security");
        for host in ["127.0.0.1", "::1", "localhost"] {
            let local = EmailConfig {
                host: Some(host.into()),
                ..none.clone()
            };
            assert_eq!(local.validate(), Ok(()), "{host}");
        }
        let asked = EmailConfig {
            allow_plaintext: true,
            ..none
        };
        assert_eq!(asked.validate(), Ok(()));
    }

    #[test]
    fn a_bad_value_is_named() {
        let cases: [(&str, EmailConfig); 9] = [
            (
                "host",
                EmailConfig {
                    host: Some("a:25".into()),
                    ..relay()
                },
            ),
            (
                "from",
                EmailConfig {
                    from: Some("a@b\r\nBcc: c@d.example".into()),
                    ..relay()
                },
            ),
            (
                "from_name",
                EmailConfig {
                    from_name: Some("a\nb".into()),
                    ..relay()
                },
            ),
            (
                "username",
                EmailConfig {
                    auth: AuthMechanism::Plain,
                    ..relay()
                },
            ),
            (
                "password",
                EmailConfig {
                    auth: AuthMechanism::Plain,
                    username: Some("hub".into()),
                    ..relay()
                },
            ),
            (
                "auth",
                EmailConfig {
                    password: Some("pw".into()),
                    ..relay()
                },
            ),
            (
                "timeout",
                EmailConfig {
                    timeout: Span::from_secs(601),
                    ..relay()
                },
            ),
            (
                "connections",
                EmailConfig {
                    connections: 0,
                    ..relay()
                },
            ),
            (
                "dkim.domain",
                EmailConfig {
                    dkim: DkimConfig {
                        selector: Some("s1".into()),
                        ..DkimConfig::default()
                    },
                    ..relay()
                },
            ),
        ];
        for (key, config) in cases {
            assert_eq!(bad_key(&config), key);
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let config = EmailConfig {
            auth: AuthMechanism::Plain,
            username: Some("hub".into()),
            password: Some("canary-1".into()),
            dkim: DkimConfig {
                key: Some("canary-2".into()),
                ..DkimConfig::default()
            },
            ..relay()
        };
        let printed = format!("{config:?}{}", serde_json::to_string(&config).expect("writes"));
        assert!(
            printed.contains("redacted") && !printed.contains("canary"),
            "{printed}"
        );
    }
}
