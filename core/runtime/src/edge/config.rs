//! What can be set about the edge.

use std::{borrow::Cow, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use carillon_domain::Invalid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::cors::Origin;
use crate::config::{ByteSize, Span};

/// The public listener: addresses, TLS, CORS and limits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    /// Where to listen: `address:port`, or `unix:/path` for a Unix socket with mode 0600.
    pub listen: Vec<ListenAddress>,
    /// What this server is called from outside, for links in messages: `https://bell.example.org`, with a path where a proxy
    /// adds one. Without it messages have no links back, such as the one that unsubscribes.
    pub public_url: Option<String>,
    /// Certificate and key; plain HTTP without them.
    pub tls: TlsConfig,
    /// Which other origins' pages may call the API.
    pub cors: CorsConfig,
    /// Deadlines and sizes.
    pub limits: LimitsConfig,
}

/// TLS. Both files are read again when they change, without dropping connections.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate and its intermediates.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// How often both files are looked at for changes.
    pub reload: Span,
}

/// Cross-origin access by browsers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Exact origins, such as `https://app.example.com`. `*` allows every origin, and only without credentials.
    pub origins: Vec<String>,
    /// Whether those pages may send cookies.
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer.
    pub max_age: Span,
}

/// Deadlines and sizes of connections and requests.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open connections in all; 0 is no limit.
    pub connections: u32,
    /// Open connections of one address; loopback is spared; 0 is no limit.
    pub connections_per_address: u32,
    /// Time for the TLS handshake.
    pub handshake: Span,
    /// Time from the connection's beginning to its first byte.
    pub first_byte: Span,
    /// Time for a request's head once its first byte has come.
    pub header: Span,
    /// How long a connection may stay open between requests.
    pub idle: Span,
    /// Time for a request's whole body.
    pub body_total: Span,
    /// From this time on a body must have come in at `body_rate` on average.
    pub body_grace: Span,
    /// Per second.
    pub body_rate: ByteSize,
    /// How long a client may take none of an answer's bytes.
    pub write: Span,
    /// The largest body. Routes that take more say so (a batch: 8 MiB).
    pub body: ByteSize,
    /// The largest head of a request without its first line. The number of headers is limited to 100.
    pub headers: ByteSize,
    /// The longest URI.
    pub uri: ByteSize,
    /// Concurrent requests on one HTTP/2 connection.
    pub http2_streams: u32,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            public_url: None,
            tls: TlsConfig::default(),
            cors: CorsConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            reload: Span::from_secs(5),
        }
    }
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            credentials: false,
            max_age: Span::from_secs(600),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_address: 4_096,
            handshake: Span::from_secs(10),
            first_byte: Span::from_secs(10),
            header: Span::from_secs(10),
            idle: Span::from_secs(75),
            body_total: Span::from_secs(15),
            body_grace: Span::from_secs(5),
            body_rate: ByteSize::kib(1),
            write: Span::from_secs(30),
            body: ByteSize::kib(256),
            headers: ByteSize::kib(16),
            uri: ByteSize::kib(8),
            http2_streams: 200,
        }
    }
}

impl EdgeConfig {
    /// [`Self::public_url`] as a URL whose path ends with `/`, so that links can be joined to it.
    pub fn public_url(&self) -> Option<url::Url> {
        let mut url = url::Url::parse(self.public_url.as_deref()?).ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return None;
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Some(url)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key below this section and the reason.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fault = |key: &str, reason: String| Err((key.to_owned(), reason));
        if self.listen.is_empty() {
            return fault("listen", "at least one address is needed".to_owned());
        }
        if self.public_url.is_some() && self.public_url().is_none() {
            return fault(
                "public_url",
                "expected an http or https URL without a query, such as https://bell.example.org".to_owned(),
            );
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return fault("tls", "certificate and key belong together".to_owned());
        }
        if self.tls.reload.is_zero() {
            return fault("tls.reload", "must be more than nothing".to_owned());
        }
        for origin in &self.cors.origins {
            match origin.parse() {
                Err(reason) => return fault("cors.origins", format!("{origin:?}: {reason}")),
                Ok(Origin::Any) if self.cors.credentials => {
                    return fault(
                        "cors.origins",
                        "* cannot be combined with cors.credentials".to_owned(),
                    );
                }
                Ok(_) => {}
            }
        }
        let limits = &self.limits;
        for (key, span) in [
            ("handshake", limits.handshake),
            ("first_byte", limits.first_byte),
            ("header", limits.header),
            ("idle", limits.idle),
            ("body_total", limits.body_total),
            ("write", limits.write),
        ] {
            if span.is_zero() {
                return fault(&format!("limits.{key}"), "must be more than nothing".to_owned());
            }
        }
        for (key, size, smallest, largest) in [
            ("body", limits.body, ByteSize::kib(1), ByteSize::mib(64)),
            ("headers", limits.headers, ByteSize::kib(4), ByteSize::kib(256)),
            ("uri", limits.uri, ByteSize::kib(1), ByteSize::kib(60)),
        ] {
            if size < smallest || size > largest {
                return fault(
                    &format!("limits.{key}"),
                    format!("must be from {smallest} to {largest}"),
                );
            }
        }
        if limits.http2_streams == 0 {
            return fault("limits.http2_streams", "must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: Invalid =
            Invalid("expected address:port, such as 127.0.0.1:8080 or [::]:8080, or unix:/path");
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(EXPECTED)
            };
        }
        let numeric = text.replacen(
            "localhost:",
            "127.0.0.1:",
            usize::from(text.starts_with("localhost:")),
        );
        numeric.parse().map(Self::Tcp).map_err(|_| EXPECTED)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for ListenAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("address")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "address"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::LogConfig;

    #[test]
    fn the_production_profile_fits() {
        let text = include_str!("../../../../deployments/production.toml");
        let mut profile: toml::Table = text.parse().expect("TOML");
        let server: EdgeConfig = profile
            .remove("server")
            .expect("a section")
            .try_into()
            .expect("known keys");
        server.validate().expect("good values");
        let log: LogConfig = profile
            .remove("log")
            .expect("a section")
            .try_into()
            .expect("known keys");
        log.validate().expect("good values");
    }
}
