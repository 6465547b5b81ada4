//! The whole configuration: each section stands beside the code that it configures, only the composition is here.

use std::path::PathBuf;

use carillon_auth::AuthConfig;
use carillon_channels::outbound::OutboundConfig;
use carillon_dispatcher::DispatcherConfig;
use carillon_hub::HubConfig;
use carillon_runtime::{
    config::{Secret, Span},
    edge::EdgeConfig,
    telemetry::LogConfig,
};
use carillon_user::UserConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channels::ChannelsConfig;

/// Carillon's configuration. Every key is also an environment variable: `CARILLON_`, the key in capitals, levels joined
/// by two underscores; with `_FILE` behind it the value is read from a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where everything durable lies: databases, keys, the internal socket.
    pub(crate) data: DataConfig,
    /// The public listener and its limits.
    pub(crate) server: EdgeConfig,
    /// The internal listener: metrics and administration.
    pub(crate) internal: InternalConfig,
    /// How the process ends.
    pub(crate) shutdown: ShutdownConfig,
    /// Where rows are kept.
    pub(crate) store: StoreConfig,
    /// What carries work between the rooms.
    pub(crate) queue: QueueConfig,
    /// What carries envelopes between nodes.
    pub(crate) bus: BusConfig,
    /// Identity.
    pub(crate) auth: AuthConfig,
    /// Users.
    pub(crate) user: UserConfig,
    /// Connections.
    pub(crate) hub: HubConfig,
    /// Notifications, inboxes and topics.
    pub(crate) dispatcher: DispatcherConfig,
    /// The media beside the mailbox.
    pub(crate) channels: ChannelsConfig,
    /// The way out to other people's servers: what may be called, and within which bounds.
    pub(crate) outbound: OutboundConfig,
    /// Logs.
    pub(crate) log: LogConfig,
}

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, with all its levels, and the reason.
    pub(crate) fn validate(&self) -> Result<(), (String, String)> {
        let within = |section: &'static str| move |(key, reason)| (format!("{section}.{key}"), reason);
        if self.store.connections == 0 {
            return Err(("store.connections".to_owned(), "must be at least 1".to_owned()));
        }
        if self.shutdown.grace.duration() < self.shutdown.drain.duration() {
            return Err((
                "shutdown.grace".to_owned(),
                "must not be shorter than shutdown.drain".to_owned(),
            ));
        }
        self.server.validate().map_err(within("server"))?;
        self.auth.validate().map_err(within("auth"))?;
        self.user.validate().map_err(within("user"))?;
        self.hub.validate().map_err(within("hub"))?;
        self.dispatcher.validate().map_err(within("dispatcher"))?;
        self.channels.email.validate().map_err(within("channels.email"))?;
        self.outbound.validate().map_err(within("outbound"))?;
        self.log.validate().map_err(within("log"))
    }

    /// The internal socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data.path.join("carillon.sock")
    }
}

/// Where everything durable lies.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DataConfig {
    /// The data folder; made with mode 0700 when absent. `--data` sets it.
    pub(crate) path: PathBuf,
    /// The key that wraps stored secrets, instead of the file `master.key` in the data folder: 64 hexadecimal digits, or
    /// several lines of them, the newest first.
    pub(crate) master_key: Option<Secret>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data"),
            master_key: None,
        }
    }
}

/// The internal listener. It is always a Unix socket `carillon.sock` (mode 0600) in the data folder: whoever may open
/// it administers this server.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InternalConfig {
    /// Also listen here by TCP, for a metrics collector; metrics and health only. None by default.
    pub(crate) listen: Option<std::net::SocketAddr>,
}

/// How the process ends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShutdownConfig {
    /// After SIGTERM, connections are closed spread over this time, so that clients do not all come back at once.
    pub(crate) drain: Span,
    /// After this time the process ends, whatever is still open.
    pub(crate) grace: Span,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            drain: Span::from_secs(10),
            grace: Span::from_secs(25),
        }
    }
}

/// Where rows are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreConfig {
    /// `sqlite:` (the default: files in the data folder), `sqlite:FOLDER`, or `postgres://user:password@host/database`.
    pub(crate) url: Secret,
    /// Connections per service: readers of a SQLite file, or all connections of a PostgreSQL pool.
    pub(crate) connections: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: Secret::built_in("sqlite:"),
            connections: 8,
        }
    }
}

/// What carries work between the rooms.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueConfig {
    /// `embedded:`, the default.
    pub(crate) url: Secret,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            url: Secret::built_in("embedded:"),
        }
    }
}

/// What carries envelopes between nodes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BusConfig {
    /// `embedded:`, the default.
    pub(crate) url: Secret,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: Secret::built_in("embedded:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use carillon_runtime::config::{Loaded, Sources, document, load, print, reference_toml};

    use super::*;

    const PRODUCTION: &str = include_str!("../deployments/production.toml");

    #[test]
    fn what_is_built_in_is_no_secret_and_what_is_given_is_one() {
        let page = document::<Config>();
        assert!(
            page.contains("| `store.url` | `CARILLON_STORE__URL` | secret | `\"sqlite:\"` |"),
            "{page}"
        );
        assert!(reference_toml::<Config>().contains("#url = \"sqlite:\""));
        let mut config = Config::default();
        config.store.url = "postgres://ada:hunter2@db.example/carillon".into();
        assert!(
            print(&config).contains("url = \"[redacted]\""),
            "{}",
            print(&config)
        );
        assert!(!print(&config).contains("hunter2") && !format!("{config:?}").contains("hunter2"));
    }

    fn read(text: &str) -> Loaded<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carillon.toml");
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        load(&sources, Config::validate).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn the_production_profile_is_a_configuration_as_it_stands_and_with_its_choices_made() {
        let loaded = read(PRODUCTION);
        assert_eq!(loaded.config.hub.connections_per_user, 10);
        assert_eq!(loaded.config.server.limits.connections_per_address, 200);
        assert!(loaded.config.server.tls.certificate.is_none());
        // A key behind `#` is there to be uncommented; prose has a space behind it.
        let chosen: String = PRODUCTION
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let loaded = read(&chosen);
        assert!(loaded.config.server.tls.certificate.is_some());
        assert_eq!(loaded.config.server.cors.origins.len(), 1);
        assert_eq!(loaded.config.hub.allowed_origins.len(), 1);
    }
}
