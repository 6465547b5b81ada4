//! A configuration written down: as it is, as a reference page, as a commented file.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use toml::{Table, Value};

use super::{
    environment,
    shape::{Kind, Shape},
};

/// As TOML, without secrets: fields of [`super::Secret`] and passwords in URLs are blotted out.
pub fn print<T: Serialize>(config: &T) -> String {
    toml::to_string_pretty(&table(config)).unwrap_or_default()
}

fn table<T: Serialize>(config: &T) -> Table {
    // Sections are structs, so only a type that TOML cannot say could fail; it would be found by any test that prints.
    let mut table = Table::try_from(config).unwrap_or_default();
    table.iter_mut().for_each(|(_, value)| blot(value));
    table
}

fn blot(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(mut url) = text.parse::<url::Url>()
                && url.password().is_some()
                && url.set_password(Some("redacted")).is_ok()
            {
                *text = url.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blot),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| blot(value)),
        _ => {}
    }
}

/// One line of the reference.
struct Line<'a> {
    path: Vec<&'a str>,
    shape: &'a Shape,
    default: Option<&'a Value>,
}

/// All keys below a table, its own first, then those of the tables in it.
fn lines<'a>(shape: &'a Shape, default: Option<&'a Value>, path: &[&'a str], into: &mut Vec<Line<'a>>) {
    let Kind::Table(fields) = &shape.kind else {
        into.push(Line {
            path: path.to_vec(),
            shape,
            default,
        });
        return;
    };
    let below = |key: &str| default.and_then(Value::as_table).and_then(|table| table.get(key));
    let is_table = |shape: &Shape| matches!(&shape.kind, Kind::Table(_));
    for tables in [false, true] {
        for (key, field) in fields.iter().filter(|(_, field)| is_table(field) == tables) {
            let mut path = path.to_vec();
            path.push(key);
            lines(field, below(key), &path, into);
        }
    }
}

/// The reference of all keys as Markdown: a table per section with key, environment variable, type, default and
/// description.
pub fn document<T: Serialize + JsonSchema + Default>() -> String {
    let (shape, defaults) = (Shape::of::<T>(), Value::Table(table(&T::default())));
    let mut out = String::new();
    for (name, section, default) in sections(&shape, &defaults) {
        let _ = writeln!(out, "## {name}\n");
        if !section.description.is_empty() {
            let _ = writeln!(out, "{}\n", section.description);
        }
        out.push_str("| key | environment variable | type | default | meaning |\n|---|---|---|---|---|\n");
        let mut all = Vec::new();
        lines(section, default, &[name], &mut all);
        for line in all {
            let _ = writeln!(
                out,
                "| `{}` | `{}` | {} | {} | {} |",
                line.path.join("."),
                environment::variable(&line.path),
                line.shape.type_name(),
                line.default
                    .map_or_else(|| "not set".to_owned(), |value| format!("`{value}`")),
                line.shape.description.replace('|', "\\|"),
            );
        }
        out.push('\n');
    }
    out
}

/// A file with every key, commented out at its default, each with its description.
pub fn reference_toml<T: Serialize + JsonSchema + Default>() -> String {
    let (shape, defaults) = (Shape::of::<T>(), Value::Table(table(&T::default())));
    let mut out = String::new();
    for (name, section, default) in sections(&shape, &defaults) {
        let mut all = Vec::new();
        lines(section, default, &[name], &mut all);
        let mut header = Vec::new();
        for line in all {
            let (key, table) = line.path.split_last().expect("a line has a key");
            if header != table || out.is_empty() {
                if !out.is_empty() {
                    out.push('\n');
                }
                comment(&mut out, shape.at(table).map_or("", |shape| &shape.description));
                if !table.is_empty() {
                    let _ = writeln!(out, "[{}]", table.join("."));
                }
                header = table.to_vec();
            }
            comment(&mut out, &line.shape.description);
            let _ = match line.default {
                Some(value) => writeln!(out, "#{key} = {value}"),
                None => writeln!(
                    out,
                    "# ({key}: {}, not set)",
                    line.shape.type_name().replace('`', "")
                ),
            };
        }
    }
    out
}

fn comment(out: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(out, "# {text}");
    }
}

/// The root's keys with their shapes and defaults, plain values first as TOML wants them.
fn sections<'a>(shape: &'a Shape, defaults: &'a Value) -> Vec<(&'a str, &'a Shape, Option<&'a Value>)> {
    let Kind::Table(fields) = &shape.kind else {
        return Vec::new();
    };
    let mut all: Vec<_> = fields
        .iter()
        .map(|(key, section)| (key.as_str(), section, defaults.get(key)))
        .collect();
    all.sort_by_key(|(_, section, _)| matches!(section.kind, Kind::Table(_)));
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::Root;
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        let page = document::<Root>();
        for row in [
            "| `edge.listen` | `CARILLON_EDGE__LISTEN` | list of address | `[\"127.0.0.1:8080\"]` | ",
            "| `edge.limits.body` | `CARILLON_EDGE__LIMITS__BODY` | size | `\"256KiB\"` | ",
            "| `edge.tls.key` | `CARILLON_EDGE__TLS__KEY` | text | not set | ",
            "| `store.mode` | `CARILLON_STORE__MODE` | `fast` or `safe` | `\"safe\"` | ",
            "| `store.password` | `CARILLON_STORE__PASSWORD` | secret | not set | ",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
    }

    #[test]
    fn the_reference_file_is_toml_and_says_the_defaults() {
        let text = reference_toml::<Root>();
        text.parse::<Table>().expect("TOML");
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let read: Root = toml::from_str(&uncommented).expect("TOML when uncommented");
        assert_eq!(print(&read), print(&Root::default()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut root = Root::default();
        root.store.password = Some("hunter2".into());
        root.store.url = "postgres://ada:hunter3@db.example/carillon".to_owned();
        let text = print(&root);
        assert!(
            text.contains("[redacted]") && text.contains("ada:redacted@db.example"),
            "{text}"
        );
        assert!(!text.contains("hunter"), "{text}");
        assert!(!format!("{root:?}").contains("hunter2"));
    }
}
