//! What a configuration type looks like, from its JSON schema: keys, types and comments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// How deep structs may nest; a type that contains itself would go on for ever.
const MAX_DEPTH: u8 = 16;

/// One place in a configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) description: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Fixed keys.
    Table(BTreeMap<String, Shape>),
    /// Free keys.
    Map(Box<Shape>),
    List(Box<Shape>),
    Text {
        /// `duration`, `size`, `secret`, ... or nothing.
        format: Option<String>,
    },
    /// One of these words.
    Choice(Vec<String>),
    /// The smallest and the largest that it may be, where the type has such.
    Integer {
        least: Option<i64>,
        most: Option<i64>,
    },
    Number,
    Boolean,
    /// Anything that TOML can say.
    Any,
}

impl Shape {
    pub(super) fn of<T: JsonSchema>() -> Self {
        let schema = schemars::schema_for!(T);
        let root = schema.as_value();
        let none = Map::new();
        let definitions = root.get("$defs").and_then(Value::as_object).unwrap_or(&none);
        Self::read(root, definitions, 0)
    }

    fn read(schema: &Value, definitions: &Map<String, Value>, depth: u8) -> Self {
        let description = |schema: &Value| {
            schema
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .replace('\n', " ")
        };
        let own = description(schema);
        let target = follow(schema, definitions);
        // A field's comment is nearer than its type's.
        let description = if own.is_empty() { description(target) } else { own };
        let kind = if depth >= MAX_DEPTH {
            Kind::Any
        } else {
            read_kind(target, definitions, depth)
        };
        Self { description, kind }
    }

    /// What is at a path of keys, if anything may be.
    pub(super) fn at(&self, path: &[impl AsRef<str>]) -> Option<&Self> {
        let Some((key, rest)) = path.split_first() else {
            return Some(self);
        };
        match &self.kind {
            Kind::Table(fields) => fields.get(key.as_ref())?.at(rest),
            Kind::Map(item) => item.at(rest),
            Kind::Any => Some(self),
            _ => None,
        }
    }

    /// The item of a list, `depth` lists deep.
    pub(super) fn item(&self, depth: usize) -> &Self {
        match &self.kind {
            Kind::List(item) if depth > 0 => item.item(depth - 1),
            _ => self,
        }
    }

    pub(super) fn is_secret(&self) -> bool {
        matches!(&self.kind, Kind::Text { format: Some(format) } if format == "secret")
    }

    /// The type in words, for people.
    pub(super) fn type_name(&self) -> String {
        match &self.kind {
            Kind::Table(_) | Kind::Map(_) => "table".to_owned(),
            Kind::List(item) => format!("list of {}", item.type_name()),
            Kind::Text { format: Some(format) } => format.clone(),
            Kind::Text { format: None } => "text".to_owned(),
            Kind::Choice(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Integer { .. } => "whole number".to_owned(),
            Kind::Number => "number".to_owned(),
            Kind::Boolean => "`true` or `false`".to_owned(),
            Kind::Any => "any".to_owned(),
        }
    }
}

impl Shape {
    /// What has to stand here, for a sentence that begins with "expected".
    pub(super) fn expected(&self) -> String {
        match &self.kind {
            Kind::Table(_) | Kind::Map(_) => "a table of keys".to_owned(),
            Kind::List(_) => format!("a {} in square brackets", self.type_name()),
            Kind::Text { format: Some(format) } => format!("text in quotes ({format})"),
            Kind::Text { format: None } => "text in quotes".to_owned(),
            Kind::Choice(_) => self.type_name(),
            Kind::Integer { least, most } => match (least, most) {
                (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
                (Some(least), None) => format!("a whole number, {least} or more"),
                (None, Some(most)) => format!("a whole number, {most} or less"),
                (None, None) => "a whole number".to_owned(),
            },
            Kind::Number => "a number".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Any => "a value".to_owned(),
        }
    }
}

/// Goes through references and optional values to what is meant.
fn follow<'s>(schema: &'s Value, definitions: &'s Map<String, Value>) -> &'s Value {
    let mut at = schema;
    for _ in 0..MAX_DEPTH {
        let next = if let Some(name) = at.get("$ref").and_then(Value::as_str) {
            name.strip_prefix("#/$defs/")
                .and_then(|name| definitions.get(name))
        } else if let Some([only]) = at.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some(only)
        } else if let Some(any) = at.get("anyOf").and_then(Value::as_array) {
            let mut real = any
                .iter()
                .filter(|option| option.get("type").and_then(Value::as_str) != Some("null"));
            real.next().filter(|_| real.next().is_none())
        } else {
            None
        };
        let Some(next) = next else { break };
        at = next;
    }
    at
}

fn read_kind(schema: &Value, definitions: &Map<String, Value>, depth: u8) -> Kind {
    if let Some(words) = choice(schema) {
        return Kind::Choice(words);
    }
    let of = |schema: &Value| Shape::read(schema, definitions, depth + 1);
    match type_of(schema) {
        Some("object") => match (
            schema.get("properties").and_then(Value::as_object),
            schema.get("additionalProperties"),
        ) {
            (Some(fields), _) => Kind::Table(
                fields
                    .iter()
                    .map(|(key, field)| (key.clone(), of(field)))
                    .collect(),
            ),
            (None, Some(item @ Value::Object(_))) => Kind::Map(Box::new(of(item))),
            (None, Some(Value::Bool(true)) | None) => Kind::Any,
            (None, Some(_)) => Kind::Table(BTreeMap::new()),
        },
        Some("array") => schema
            .get("items")
            .map_or(Kind::Any, |item| Kind::List(Box::new(of(item)))),
        Some("string") => {
            let secret = schema.get("writeOnly").and_then(Value::as_bool).unwrap_or(false);
            let format = schema
                .get("format")
                .and_then(Value::as_str)
                .or(secret.then_some("secret"));
            Kind::Text {
                format: format.map(str::to_owned),
            }
        }
        Some("integer") => {
            let bound = |name| schema.get(name).and_then(Value::as_i64);
            let of_type = match schema.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(i64::from(u32::MAX)),
                _ => None,
            };
            Kind::Integer {
                least: bound("minimum"),
                most: bound("maximum").or(of_type),
            }
        }
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ => Kind::Any,
    }
}

/// The one type that is not null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(one) => Some(one),
        Value::Array(several) => {
            let mut real = several
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| *name != "null");
            real.next().filter(|_| real.next().is_none())
        }
        _ => None,
    }
}

/// The words of an enum without fields.
fn choice(schema: &Value) -> Option<Vec<String>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words
            .iter()
            .filter(|word| !word.is_null())
            .map(|word| word.as_str().map(str::to_owned))
            .collect();
    }
    let options = schema.get("oneOf").and_then(Value::as_array)?;
    let mut words = Vec::new();
    for option in options {
        match (option.get("const").and_then(Value::as_str), choice(option)) {
            (Some(word), _) => words.push(word.to_owned()),
            (None, Some(several)) => words.extend(several),
            (None, None) => return None,
        }
    }
    Some(words)
}
