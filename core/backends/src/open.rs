//! One URL per backend picks it, so that a wrong combination cannot be written.

use std::{path::PathBuf, sync::Arc};

use carillon_domain::ports::{Bus, Queue};
use carillon_sql::{Database, Postgres, PostgresOptions, Sqlite, SqliteOptions, StoreError};
use secrecy::{ExposeSecret as _, SecretString};

use crate::embedded::{EmbeddedBus, EmbeddedQueue};

/// The URLs as configured.
#[derive(Debug, Clone)]
pub struct BackendUrls {
    /// `sqlite:` (files in the data folder), `sqlite:FOLDER` or `postgres://...`.
    pub store: SecretString,
    /// `embedded:`.
    pub queue: SecretString,
    /// `embedded:`.
    pub bus: SecretString,
}

/// How stores are opened.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Where `sqlite:` keeps its files.
    pub data: PathBuf,
    /// Connections per service: readers of a SQLite file, or all of a PostgreSQL pool.
    pub connections: u32,
}

/// Why a backend cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL's scheme is none of ours. The rest of the URL may hold a password: it is not shown.
    #[error("{key}: `{scheme}` is not known; expected {expected}")]
    Url {
        /// The configuration key.
        key: &'static str,
        /// What stands before the colon, if it can be a scheme.
        scheme: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The scheme is ours and the rest is no URL. It may hold a password: it is not shown.
    #[error("{key}: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Malformed {
        /// The configuration key.
        key: &'static str,
    },
    /// The data folder cannot be made.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database says no.
    #[error("store.url: cannot open the {service} store: {source}")]
    Store {
        /// Whose store.
        service: &'static str,
        /// Why not.
        source: StoreError,
    },
}

enum Kind {
    Sqlite { folder: Option<PathBuf> },
    Postgres,
    Embedded,
    Other,
}

/// The one match on URL schemes.
fn kind(url: &SecretString) -> Kind {
    match url.expose_secret().split_once(':') {
        Some(("sqlite", rest)) => {
            let folder = rest.trim_start_matches("//");
            Kind::Sqlite {
                folder: (!folder.is_empty()).then(|| PathBuf::from(folder)),
            }
        }
        Some(("postgres" | "postgresql", _)) => Kind::Postgres,
        Some(("embedded", "")) => Kind::Embedded,
        _ => Kind::Other,
    }
}

/// A URL's scheme (RFC 3986, 3.1), for a message; nothing where there is none.
fn scheme(url: &SecretString) -> String {
    let scheme = url
        .expose_secret()
        .split_once(':')
        .map_or("", |(scheme, _)| scheme);
    let valid = scheme.len() <= 32
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if valid { scheme.to_owned() } else { String::new() }
}

/// Opens what the URLs name.
#[derive(Debug, Clone)]
pub struct Backends {
    urls: BackendUrls,
    settings: StoreSettings,
}

impl Backends {
    /// Checks the URLs; connects nothing yet.
    ///
    /// # Errors
    /// Names the key whose URL is none of ours.
    pub fn new(urls: BackendUrls, settings: StoreSettings) -> Result<Self, OpenError> {
        let kind_of_store = kind(&urls.store);
        if matches!(kind_of_store, Kind::Postgres) && !PostgresOptions::is_url(&urls.store) {
            return Err(OpenError::Malformed { key: "store.url" });
        }
        if !matches!(kind_of_store, Kind::Sqlite { .. } | Kind::Postgres) {
            return Err(OpenError::Url {
                key: "store.url",
                scheme: scheme(&urls.store),
                expected: "sqlite:, sqlite:FOLDER or postgres://...",
            });
        }
        for (key, url) in [("queue.url", &urls.queue), ("bus.url", &urls.bus)] {
            if !matches!(kind(url), Kind::Embedded) {
                return Err(OpenError::Url {
                    key,
                    scheme: scheme(url),
                    expected: "embedded:",
                });
            }
        }
        Ok(Self { urls, settings })
    }

    /// One service's database: a file `<service>.sqlite` or a schema `carillon_<service>`, not yet migrated.
    ///
    /// # Errors
    /// When the folder or the database cannot be opened.
    pub async fn database(&self, service: &'static str) -> Result<Database, OpenError> {
        let opened = match kind(&self.urls.store) {
            Kind::Sqlite { folder } => {
                let folder = folder.unwrap_or_else(|| self.settings.data.clone());
                make_private_folder(&folder)?;
                let options = SqliteOptions {
                    path: folder.join(format!("{service}.sqlite")),
                    readers: self.settings.connections,
                };
                Sqlite::open(&options).await.map(Database::Sqlite)
            }
            _ => {
                let options = PostgresOptions {
                    url: self.urls.store.clone(),
                    schema: match service {
                        "dispatcher" => "carillon_dispatcher",
                        "auth" => "carillon_auth",
                        _ => "carillon_user",
                    },
                    connections: self.settings.connections,
                };
                Postgres::open(&options).await.map(Database::Postgres)
            }
        };
        opened.map_err(|source| OpenError::Store { service, source })
    }

    /// Whether the store is a SQLite file, which only one process may serve from.
    pub fn store_is_embedded(&self) -> bool {
        matches!(kind(&self.urls.store), Kind::Sqlite { .. })
    }

    /// The queue.
    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(EmbeddedQueue::default())
    }

    /// The bus.
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(EmbeddedBus::default())
    }
}

/// Makes a folder that only we may enter; an existing one stays as it is.
fn make_private_folder(path: &std::path::Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::Folder {
            path: path.to_path_buf(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(store: &str) -> Result<Backends, OpenError> {
        let urls = BackendUrls {
            store: store.to_owned().into(),
            queue: "embedded:".to_owned().into(),
            bus: "embedded:".to_owned().into(),
        };
        let settings = StoreSettings {
            data: PathBuf::from("/nowhere"),
            connections: 1,
        };
        Backends::new(urls, settings)
    }

    #[test]
    fn a_url_that_cannot_be_one_is_named_by_its_key_and_not_shown() {
        assert!(open("sqlite:").is_ok() && open("postgres://ada:s3cret@db:5432/carillon").is_ok());
        for wrong in [
            "postgres://ada:s3cret@db:port/carillon",
            "postgres://ada:s3cret@[db/carillon",
            "mysql://ada:s3cret@db",
        ] {
            let error = open(wrong)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(
                error.starts_with("store.url: ") && !error.contains("s3cret"),
                "{wrong}: {error}"
            );
        }
    }
}
