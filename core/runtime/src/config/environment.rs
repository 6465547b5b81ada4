//! Environment variables: their names, and how their text becomes a value.

use toml::Value;

use super::shape::{Kind, Shape};

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "CARILLON_";

/// Variables with this prefix that are no configuration: the command line's own, and the tests'.
const OTHERS: [&str; 3] = ["CARILLON_CONFIG", "CARILLON_URL", "CARILLON_KEY"];
const TESTS: &str = "CARILLON_TEST_";

/// What a variable's name means.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    /// Not ours to look at.
    None,
    /// A key's value.
    Value(Vec<String>),
    /// The file that holds a key's value.
    File(Vec<String>),
    /// It looks like ours and names no key.
    Unknown,
}

pub(super) fn meaning(name: &str, shape: &Shape) -> Meaning {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Meaning::None;
    };
    if OTHERS.contains(&name) || name.starts_with(TESTS) {
        return Meaning::None;
    }
    let path = |text: &str| {
        text.to_ascii_lowercase()
            .split("__")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let is_value = |path: &[String]| {
        !path.is_empty()
            && shape
                .at(path)
                .is_some_and(|at| !matches!(at.kind, Kind::Table(_)))
    };
    let whole = path(rest);
    if is_value(&whole) {
        return Meaning::Value(whole);
    }
    match rest.strip_suffix("_FILE").map(path) {
        Some(path) if is_value(&path) => Meaning::File(path),
        _ => Meaning::Unknown,
    }
}

/// The variable that sets a key.
pub(super) fn variable(path: &[impl AsRef<str>]) -> String {
    let levels: Vec<String> = path.iter().map(|key| key.as_ref().to_ascii_uppercase()).collect();
    format!("{PREFIX}{}", levels.join("__"))
}

/// Reads text as what stands at a place. Lists are separated by commas, or written as TOML.
///
/// # Errors
/// What was expected.
pub(super) fn parse(text: &str, shape: &Shape) -> Result<Value, String> {
    let trimmed = text.trim();
    let expected = || format!("expected {}, not \"{trimmed}\"", shape.expected());
    match &shape.kind {
        Kind::Text { .. } | Kind::Choice(_) => Ok(Value::String(text.to_owned())),
        Kind::Integer { .. } => trimmed
            .replace('_', "")
            .parse()
            .map(Value::Integer)
            .map_err(|_| expected()),
        Kind::Number => trimmed.parse().map(Value::Float).map_err(|_| expected()),
        Kind::Boolean => trimmed.parse().map(Value::Boolean).map_err(|_| expected()),
        Kind::List(_) if trimmed.starts_with('[') => expression(trimmed),
        Kind::List(_) if trimmed.is_empty() => Ok(Value::Array(Vec::new())),
        Kind::List(item) => trimmed
            .split(',')
            .map(|part| parse(part.trim(), item))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Kind::Map(_) | Kind::Table(_) => expression(trimmed),
        Kind::Any => Ok(expression(trimmed).unwrap_or_else(|_| Value::String(text.to_owned()))),
    }
}

fn expression(text: &str) -> Result<Value, String> {
    let document = format!("value = {text}");
    let mut table: toml::Table = document.parse().map_err(|_| "expected a TOML value".to_owned())?;
    match (table.remove("value"), table.is_empty()) {
        (Some(value), true) => Ok(value),
        _ => Err("expected one TOML value".to_owned()),
    }
}
