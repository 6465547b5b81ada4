//! Which server a command is about.

use std::path::PathBuf;

use carillon_domain::TenantId;
use carillon_runtime::config::{Flag, Loaded, Sources};
use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::{client::Client, exit::Failure};
use crate::config::Config;

/// Which server: the one of a data folder on this machine, or one at a URL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which server")]
pub(super) struct Target {
    #[command(flatten)]
    pub(super) place: Place,

    /// A server's address; wins over --config, loses against --data
    #[arg(long, value_name = "URL", env = "CARILLON_URL")]
    url: Option<Url>,

    /// The API key for --url; better given by the variable, which `ps` does not show
    #[arg(long, value_name = "KEY", env = "CARILLON_KEY", hide_env_values = true)]
    key: Option<SecretString>,

    /// The tenant
    #[arg(long, value_name = "TENANT", default_value = TenantId::DEFAULT)]
    tenant: TenantId,
}

/// Where the data and the configuration of a server on this machine are.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The data folder: a server that runs on it is asked, otherwise the store is opened directly
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,

    /// The configuration file
    #[arg(long, value_name = "FILE", env = "CARILLON_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

impl Place {
    /// Reads the configuration; `flags` are a flag's name, the key that it sets, and the value.
    ///
    /// # Errors
    /// At the first key or value that does not do.
    pub(super) fn load(&self, flags: Vec<(&str, &str, String)>) -> Result<Loaded<Config>, Failure> {
        let data = self
            .data
            .as_ref()
            .map(|path| ("--data", "data.path", path.display().to_string()));
        let flags = data
            .into_iter()
            .chain(flags)
            .map(|(name, key, value)| Flag {
                name: name.to_owned(),
                key: key.to_owned(),
                value,
            })
            .collect();
        carillon_runtime::config::load(&Sources::of_process(self.config.clone(), flags), Config::validate)
            .map_err(|error| Failure::Misconfigured(error.to_string()))
    }
}

impl Target {
    /// Finds the server.
    ///
    /// # Errors
    /// When the URL is none of HTTP, or nothing can be opened.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        match &self.url {
            Some(url) if self.place.data.is_none() => {
                Client::remote(url, self.key.clone(), self.tenant.clone())
            }
            _ => Client::local(&self.place, self.tenant.clone()).await,
        }
    }
}
