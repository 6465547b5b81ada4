//! What can be set about the way out.

use std::path::PathBuf;

use carillon_runtime::config::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Network, Ports, guard::is_host_pattern};

/// Section `outbound`: requests to servers whose addresses came from callers. As it stands, only `https` on port 443 of
/// public addresses.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// Ports that may be reached: `443`, or ranges such as `8000-8999`.
    pub ports: Vec<Ports>,
    /// Private addresses that may be reached nevertheless, such as `10.20.0.0/16`. An address in them may be called over
    /// plain `http` too.
    pub allow_networks: Vec<Network>,
    /// Names that may be called over plain `http`, and that may be internal ones: `hooks.internal`, `*.svc.cluster.local`.
    /// Their addresses must be public or in `allow_networks`.
    pub allow_hosts: Vec<String>,
    /// PEM file with certificate authorities to trust beside the public ones.
    pub ca: Option<PathBuf>,
    /// Time to resolve a name, and again to connect and for the TLS handshake.
    pub connect: Span,
    /// How long the resolver's answers are kept, also that there is none. Zero asks anew at each connect.
    pub keep_names: Span,
    /// Time for a whole request, its answer included.
    pub total: Span,
    /// The largest head of an answer.
    pub head: ByteSize,
    /// Bytes of an answer's body that are read; the rest is never fetched.
    pub body: ByteSize,
    /// Bytes of an answer's body that attempt logs show; at most 1KiB.
    pub excerpt: ByteSize,
    /// How long an unused connection stays open. Shorter than most servers keep theirs, so that none is used just when
    /// its server closes it.
    pub idle: Span,
    /// Unused connections per host.
    pub idle_per_host: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            ports: vec![Ports::HTTPS],
            allow_networks: Vec::new(),
            allow_hosts: Vec::new(),
            ca: None,
            connect: Span::from_secs(5),
            keep_names: Span::from_secs(30),
            total: Span::from_secs(15),
            head: ByteSize::kib(16),
            body: ByteSize::kib(64),
            excerpt: ByteSize::kib(1),
            idle: Span::from_secs(4),
            idle_per_host: 32,
        }
    }
}

impl OutboundConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: String| Err((key.to_owned(), reason));
        if self.ports.is_empty() {
            return fail("ports", "at least one port is needed".to_owned());
        }
        for host in &self.allow_hosts {
            if !is_host_pattern(host) {
                return fail(
                    "allow_hosts",
                    format!(
                        "{host:?}: expected a lower-case name such as hooks.internal or *.svc.cluster.local"
                    ),
                );
            }
        }
        for (key, span, longest) in [
            ("connect", self.connect, Span::from_secs(60)),
            ("total", self.total, Span::from_secs(300)),
            ("idle", self.idle, Span::from_secs(3_600)),
        ] {
            if span.is_zero() || span > longest {
                return fail(key, format!("must be above zero and at most {longest}"));
            }
        }
        if self.keep_names > Span::from_secs(300) {
            return fail("keep_names", "must be at most 5m".to_owned());
        }
        if self.connect > self.total {
            return fail("connect", "must not be longer than total".to_owned());
        }
        for (key, size, smallest, largest) in [
            // Hyper's own smallest buffer is 8 KiB.
            ("head", self.head, ByteSize::kib(8), ByteSize::kib(256)),
            ("body", self.body, ByteSize::kib(1), ByteSize::mib(16)),
            ("excerpt", self.excerpt, ByteSize::new(0), ByteSize::kib(1)),
        ] {
            if size < smallest || size > largest {
                return fail(key, format!("must be from {smallest} to {largest}"));
            }
        }
        if self.idle_per_host > 1_024 {
            return fail("idle_per_host", "must be at most 1024".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(OutboundConfig::default().validate(), Ok(()));
        type Spoil = fn(&mut OutboundConfig);
        let cases: [(&str, Spoil); 9] = [
            ("keep_names", |config| config.keep_names = Span::from_secs(301)),
            ("ports", |config| config.ports.clear()),
            ("allow_hosts", |config| config.allow_hosts.push("*".to_owned())),
            ("allow_hosts", |config| {
                config.allow_hosts.push("Hooks.internal".to_owned())
            }),
            ("connect", |config| config.connect = Span::from_secs(16)),
            ("total", |config| config.total = Span::default()),
            ("head", |config| config.head = ByteSize::kib(4)),
            ("excerpt", |config| config.excerpt = ByteSize::kib(2)),
            ("idle_per_host", |config| config.idle_per_host = 5_000),
        ];
        for (key, spoil) in cases {
            let mut config = OutboundConfig::default();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|(key, _)| key), Err(key.to_owned()));
        }
    }
}
