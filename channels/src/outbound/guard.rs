//! Which addresses may be called.

use std::net::IpAddr;

use carillon_domain::{Invalid, ports::Lane};
use http::Uri;
use url::{Host, Url};

use super::{Network, OutboundConfig, Ports, is_public};

/// The longest URL, in bytes.
const LONGEST_URL: usize = 2_048;
/// The longest name in the DNS, in bytes as text.
const LONGEST_NAME: usize = 253;
/// The longest part of a name between two dots.
const LONGEST_LABEL: usize = 63;
/// The longest lane, which is host and port.
const LONGEST_LANE: usize = 255;

/// Names that mean something else in every network: they are internal wherever they resolve at all.
const INTERNAL_SUFFIXES: [&str; 10] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
];

/// Dots of other scripts, which IDNA takes for dots.
const FOREIGN_DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

const NOT_A_URL: Invalid = Invalid("expected an absolute https URL");
const SPELLING: Invalid = Invalid("the host must be spelt plainly: a name, or an address in its usual form");
const NOT_ALLOWED: Invalid = Invalid("this host is not allowed");

/// The rules, made once from the configuration.
#[derive(Debug)]
pub struct Guard {
    ports: Vec<Ports>,
    networks: Vec<Network>,
    hosts: Vec<String>,
    own: Vec<String>,
}

/// A URL that may be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The canonical spelling.
    pub url: String,
    /// Host and port, which fail together.
    pub lane: Lane,
}

/// Where a connection goes, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: TargetHost,
    pub(super) port: u16,
    pub(super) tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TargetHost {
    Name(String),
    Address(IpAddr),
}

impl Guard {
    /// The rules of a configuration. `own` are the names under which Carillon itself is reached: what it sends never
    /// comes back to it that way.
    pub fn new(config: &OutboundConfig, own: impl IntoIterator<Item = String>) -> Self {
        Self {
            ports: config.ports.clone(),
            networks: config.allow_networks.clone(),
            hosts: config.allow_hosts.clone(),
            own: own.into_iter().map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// Checks a URL that somebody wants saved. Pure: no name is resolved.
    ///
    /// # Errors
    /// Why it is refused, fit to show to the caller.
    pub fn check(&self, text: &str) -> Result<Checked, Invalid> {
        if text.len() > LONGEST_URL {
            return Err(Invalid("a URL is at most 2048 bytes"));
        }
        // Parsers of URLs drop some of these and read others as slashes, each in its own way.
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(Invalid("a URL has no spaces, control characters or backslashes"));
        }
        let host = written_host(text)?;
        let url = Url::parse(text).map_err(|_| NOT_A_URL)?;
        if !is_plain(host, &url) {
            return Err(SPELLING);
        }
        let target = self.check_url(&url)?;
        let lane = match &target.host {
            TargetHost::Name(name) => format!("{name}:{}", target.port),
            TargetHost::Address(IpAddr::V4(v4)) => format!("{v4}:{}", target.port),
            TargetHost::Address(IpAddr::V6(v6)) => format!("[{v6}]:{}", target.port),
        };
        let url = String::from(url);
        // What a request is made of must be able to hold it.
        if url.len() > LONGEST_URL || lane.len() > LONGEST_LANE || Uri::try_from(url.as_str()).is_err() {
            return Err(Invalid(
                "this URL is too long, or has characters that no request can carry",
            ));
        }
        Ok(Checked {
            url,
            lane: lane.into(),
        })
    }

    /// The part of [`Self::check`] that needs no spelling.
    pub(super) fn check_url(&self, url: &Url) -> Result<Target, Invalid> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(NOT_A_URL),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid("a URL must not carry a user or a password"));
        }
        if url.fragment().is_some() {
            return Err(Invalid("a URL must not have a fragment"));
        }
        let host = match url.host().ok_or(NOT_A_URL)? {
            Host::Ipv4(v4) => TargetHost::Address(v4.into()),
            Host::Ipv6(v6) => TargetHost::Address(v6.into()),
            Host::Domain(name) => TargetHost::Name(name.to_owned()),
        };
        self.check_target(Target {
            host,
            port: url.port_or_known_default().ok_or(NOT_A_URL)?,
            tls,
        })
    }

    /// The same rules at connect, where they may have changed since the URL was saved.
    pub(super) fn check_uri(&self, uri: &Uri) -> Result<Target, Invalid> {
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NOT_A_URL),
        };
        let authority = uri.authority().ok_or(NOT_A_URL)?;
        if authority.as_str().contains('@') {
            return Err(NOT_A_URL);
        }
        let host = authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
            .parse();
        self.check_target(Target {
            host: address.map_or_else(
                |_| TargetHost::Name(host.to_ascii_lowercase()),
                TargetHost::Address,
            ),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
    }

    fn check_target(&self, target: Target) -> Result<Target, Invalid> {
        if !self.ports.iter().any(|ports| ports.contains(target.port)) {
            return Err(Invalid("this port is not allowed"));
        }
        let by_name = match &target.host {
            TargetHost::Address(address) => {
                if !self.admits(*address) {
                    return Err(NOT_ALLOWED);
                }
                self.networks.iter().any(|network| network.contains(*address))
            }
            TargetHost::Name(name) => {
                if !is_name(name) {
                    return Err(SPELLING);
                }
                let named = self.hosts.iter().any(|pattern| covers(pattern, name));
                if !named && (is_internal(name) || self.own.contains(name)) {
                    return Err(NOT_ALLOWED);
                }
                named
            }
        };
        if !target.tls && !by_name {
            return Err(Invalid("only https is allowed"));
        }
        Ok(target)
    }

    /// Whether a connection may go to this address.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.networks.iter().any(|network| network.contains(address))
    }
}

/// The host as it was written: between `//` and its port.
fn written_host(text: &str) -> Result<&str, Invalid> {
    let (scheme, rest) = text.split_once("://").ok_or(NOT_A_URL)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(NOT_A_URL);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Invalid("a URL must not carry a user or a password"));
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, _)| host),
        None => authority.split(':').next(),
    };
    host.filter(|host| !host.is_empty()).ok_or(NOT_A_URL)
}

/// Whether what was written is what was understood: an address in its one usual form, a name without escapes.
fn is_plain(written: &str, url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.to_string() == written,
        Some(Host::Ipv6(v6)) => written.parse() == Ok(v6),
        Some(Host::Domain(_)) => !written.contains('%') && !written.contains(FOREIGN_DOTS),
        None => false,
    }
}

/// Whether it is a host's name: labels of letters, digits, `-` and `_`, without a dot at the end.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('.').all(|label| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        })
        // The last label of a name is no number: `127.1` and `0x7f.0x1` are addresses to some resolvers.
        && name
            .rsplit('.')
            .next()
            .is_some_and(|last| !last.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether a name belongs to some network of its own: a bare word, or an internal suffix.
fn is_internal(name: &str) -> bool {
    !name.contains('.')
        || INTERNAL_SUFFIXES
            .iter()
            .any(|suffix| ends_with_label(name, suffix))
}

/// Whether a pattern of `allow_hosts` covers a name. `*.` stands for one label or more.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => name != suffix && ends_with_label(name, suffix),
        None => pattern == name,
    }
}

fn ends_with_label(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether it can stand in `allow_hosts`.
pub(super) fn is_host_pattern(pattern: &str) -> bool {
    is_name(pattern.strip_prefix("*.").unwrap_or(pattern))
}
