//! Whether a data folder holds a store yet. Only `serve` and `migrate` make one: a path that was mistyped must not
//! become a second, empty Carillon that accepts what nobody will ever deliver.

use std::path::{Path, PathBuf};

use super::exit::Failure;
use crate::config::Config;

/// The file whose presence says that a folder holds stores in SQLite: what is accepted stands there.
const FILE: &str = "dispatcher.sqlite";

/// Refuses a data folder that does not exist, and a folder of SQLite files without any.
///
/// # Errors
/// [`Failure::Misconfigured`], naming the folder.
pub(super) fn require(config: &Config) -> Result<(), Failure> {
    match missing(config) {
        None => Ok(()),
        Some(what) => Err(Failure::Misconfigured(format!(
            "{what}; carillon migrate makes one"
        ))),
    }
}

/// What is not there, in words, if anything is not.
pub(super) fn missing(config: &Config) -> Option<String> {
    let data = &config.data.path;
    if !data.is_dir() {
        return Some(format!("data.path: there is no data folder {}", data.display()));
    }
    let folder = sqlite_folder(config)?;
    (!folder.join(FILE).is_file())
        .then(|| format!("{}: there is no store in {}", key(config), folder.display()))
}

/// Where the SQLite files are; `None` when the store is a server's.
pub(super) fn sqlite_folder(config: &Config) -> Option<PathBuf> {
    let rest = named(config)?;
    Some(if rest.is_empty() {
        config.data.path.clone()
    } else {
        Path::new(rest).to_owned()
    })
}

fn named(config: &Config) -> Option<&str> {
    let rest = config.store.url.expose().strip_prefix("sqlite:")?;
    Some(rest.trim_start_matches("//"))
}

fn key(config: &Config) -> &'static str {
    if named(config).is_none_or(str::is_empty) {
        "data.path"
    } else {
        "store.url"
    }
}
