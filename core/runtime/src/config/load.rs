//! From the sources to the struct.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::{
    environment::{self, Meaning, PREFIX},
    shape::{Kind, Shape},
};

/// A configuration file larger than this is none.
const MAX_FILE: u64 = 1 << 20;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the default.
    Default,
    /// In the configuration file.
    File(PathBuf),
    /// By an environment variable.
    Environment(String),
    /// By a flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One value set by a flag.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As on the command line, `--listen`.
    pub name: String,
    /// The key that it sets, `edge.listen`.
    pub key: String,
    /// As an environment variable would say it.
    pub value: String,
}

/// Where a configuration comes from, the weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables, ours and others.
    pub environment: Vec<(OsString, OsString)>,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// A file, this process's environment, and flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        Self {
            file,
            environment: std::env::vars_os().collect(),
            flags,
        }
    }
}

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// What looks like a mistake and is none for certain: variables of ours that name no key.
    pub warnings: Vec<String>,
    /// Which key was set where; what is missing has its default.
    pub origins: BTreeMap<String, Origin>,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read, or is no TOML.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} ({origin}); known here: {}", known.join(", "))]
    UnknownKey {
        /// With all its levels, `edge.limits.bodies`.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The keys that exist at its place.
        known: Vec<String>,
    },
    /// A value that does not do.
    #[error("{key}: {reason} ({origin})")]
    Value {
        /// With all its levels.
        key: String,
        /// What was expected.
        reason: String,
        /// Where it stands.
        origin: Origin,
    },
}

/// Reads a configuration. `validate` checks what types cannot, and names the key, with all its levels, and the reason.
///
/// # Errors
/// At the first unknown key in the file and the first value that does not do, wherever it stands.
pub fn load<T>(
    sources: &Sources,
    validate: impl FnOnce(&T) -> Result<(), (String, String)>,
) -> Result<Loaded<T>, ConfigError>
where
    T: DeserializeOwned + JsonSchema,
{
    let mut merge = Merge {
        shape: Shape::of::<T>(),
        tree: Table::new(),
        origins: BTreeMap::new(),
        warnings: Vec::new(),
    };
    if let Some(path) = &sources.file {
        merge.file(path)?;
        // A mistake in the file is one also where something stronger would hide it.
        merge.read::<T>()?;
    }
    merge.environment(&sources.environment)?;
    for flag in &sources.flags {
        let path: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
        merge.text(path, &flag.value, &Origin::Flag(flag.name.clone()))?;
    }
    let config: T = merge.read()?;
    let Merge {
        origins, warnings, ..
    } = merge;
    validate(&config).map_err(|(key, reason)| {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        ConfigError::Value {
            origin: origin(&origins, &path),
            key,
            reason,
        }
    })?;
    Ok(Loaded {
        config,
        warnings,
        origins,
    })
}

struct Merge {
    shape: Shape,
    tree: Table,
    origins: BTreeMap<String, Origin>,
    warnings: Vec<String>,
}

impl Merge {
    /// What has been merged so far.
    fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(self.tree.clone())).map_err(|error| {
            let path = keys(error.path());
            let reason = error.inner().to_string();
            fault(&self.shape, &self.origins, &path, reason.trim_end())
        })
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let fault = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let table: Table = read(path)
            .map_err(fault)?
            .parse()
            .map_err(|error: toml::de::Error| fault(error.to_string().trim_end().to_owned()))?;
        let origin = Origin::File(path.to_owned());
        check_keys(&table, &self.shape, &mut Vec::new(), &origin)?;
        mark(&table, &mut Vec::new(), &origin, &mut self.origins);
        self.tree = table;
        Ok(())
    }

    fn environment(&mut self, variables: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        // In the order of their names, so that the same environment has the same first mistake.
        let mut ours: Vec<(&str, &OsString)> = variables
            .iter()
            .filter_map(|(name, value)| {
                name.to_str()
                    .filter(|name| name.starts_with(PREFIX))
                    .map(|name| (name, value))
            })
            .collect();
        ours.sort_unstable();
        for (name, value) in ours {
            let origin = Origin::Environment(name.to_owned());
            let path = match environment::meaning(name, &self.shape) {
                Meaning::None => continue,
                Meaning::Unknown => {
                    self.warnings
                        .push(format!("the environment variable {name} names no key"));
                    continue;
                }
                Meaning::Value(path) | Meaning::File(path) => path,
            };
            let fault = |reason: String| ConfigError::Value {
                key: path.join("."),
                reason,
                origin: origin.clone(),
            };
            let text = value.to_str().ok_or_else(|| fault("is not UTF-8".to_owned()))?;
            if matches!(environment::meaning(name, &self.shape), Meaning::File(_)) {
                let mut content =
                    read(Path::new(text)).map_err(|reason| fault(format!("{text}: {reason}")))?;
                let end = content.trim_end_matches(['\r', '\n']).len();
                content.truncate(end);
                self.text(path, &content, &origin)?;
            } else {
                self.text(path, text, &origin)?;
            }
        }
        Ok(())
    }

    /// Sets one key from text.
    fn text(&mut self, path: Vec<String>, text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let key = path.join(".");
        let Some(place) = self.shape.at(&path) else {
            return Err(ConfigError::UnknownKey {
                key,
                origin: origin.clone(),
                known: known(&self.shape),
            });
        };
        let value = environment::parse(text, place).map_err(|reason| ConfigError::Value {
            key: key.clone(),
            reason,
            origin: origin.clone(),
        })?;
        let mut table = &mut self.tree;
        let (last, levels) = path.split_last().expect("a key has a level");
        for level in levels {
            let next = table
                .entry(level.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if !next.is_table() {
                // The file has a plain value where a table belongs; what stands nearer to the user wins.
                *next = Value::Table(Table::new());
            }
            table = next.as_table_mut().expect("made a table above");
        }
        table.insert(last.clone(), value);
        self.origins.insert(key, origin.clone());
        Ok(())
    }
}

/// A file's whole text; why not, in words, otherwise.
fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Finds the first key that does not exist.
fn check_keys(
    table: &Table,
    shape: &Shape,
    path: &mut Vec<String>,
    origin: &Origin,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        path.push(key.clone());
        let inner = match &shape.kind {
            Kind::Table(fields) => fields.get(key).ok_or_else(|| ConfigError::UnknownKey {
                key: path.join("."),
                origin: origin.clone(),
                known: known(shape),
            })?,
            Kind::Map(item) => item,
            // A value of the wrong type, or free: reading it will tell.
            _ => return Ok(()),
        };
        if let Value::Table(table) = value {
            check_keys(table, inner, path, origin)?;
        }
        path.pop();
    }
    Ok(())
}

fn known(shape: &Shape) -> Vec<String> {
    match &shape.kind {
        Kind::Table(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Writes down where each value of a table comes from.
fn mark(table: &Table, path: &mut Vec<String>, origin: &Origin, into: &mut BTreeMap<String, Origin>) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Table(inner) if !inner.is_empty() => mark(inner, path, origin, into),
            _ => {
                into.insert(path.join("."), origin.clone());
            }
        }
        path.pop();
    }
}

fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Unknown => None,
        })
        .collect()
}

/// The origin of a key, or of what contains it.
fn origin(origins: &BTreeMap<String, Origin>, path: &[String]) -> Origin {
    let above = (1..=path.len())
        .rev()
        .find_map(|length| origins.get(&path[..length].join(".")));
    let below = || {
        let start = format!("{}.", path.join("."));
        origins
            .iter()
            .find(|(key, _)| key.starts_with(&start))
            .map(|(_, origin)| origin)
    };
    above.or_else(below).cloned().unwrap_or(Origin::Default)
}

/// Keys with these words in their names hold secrets, whatever their types say.
const SECRETS: [&str; 3] = ["secret", "password", "private"];

/// A type's name, such as `usize`, says nothing to who writes a configuration: what the place takes does.
fn in_words(place: Option<&Shape>, reason: &str) -> String {
    let found = ["invalid type: ", "invalid value: "]
        .into_iter()
        .find_map(|start| reason.strip_prefix(start))
        .and_then(|rest| rest.rsplit_once(", expected "));
    let (Some(place), Some((found, _))) = (place, found) else {
        return reason.to_owned();
    };
    let found = match found.split_once(' ') {
        Some(("string", text)) => text.to_owned(),
        Some(("integer" | "boolean", value)) => value.replace('`', ""),
        Some(("floating", value)) => value.trim_start_matches("point ").replace('`', ""),
        _ if found == "sequence" => "a list".to_owned(),
        _ if found == "map" => "a table".to_owned(),
        _ => found.to_owned(),
    };
    format!("expected {}, not {found}", place.expected())
}

/// What to say about a value that could not be read.
fn fault(shape: &Shape, origins: &BTreeMap<String, Origin>, path: &[String], reason: &str) -> ConfigError {
    // A list's item is spoken of by its list; `[2]` is no key.
    let length = path
        .iter()
        .take_while(|key| key.parse::<usize>().is_err())
        .count();
    let place = shape.at(&path[..length]);
    let origin = origin(origins, &path[..length]);
    let mut key = path[..length].join(".");
    for index in &path[length..] {
        key.push_str(&format!("[{index}]"));
    }
    let named = path[..length]
        .last()
        .is_some_and(|key| SECRETS.iter().any(|word| key.contains(word)));
    let reason = if named || place.is_some_and(Shape::is_secret) {
        // serde quotes what it read.
        "not acceptable".to_owned()
    } else {
        let item = path.len() - length;
        in_words(
            place.map(|place| place.item(item)),
            reason.lines().next().unwrap_or_default(),
        )
    };
    ConfigError::Value {
        key: if key.is_empty() {
            "the configuration".to_owned()
        } else {
            key
        },
        reason,
        origin,
    }
}
