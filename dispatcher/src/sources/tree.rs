//! JSON whose texts are patterns.

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::{path::Scene, pattern::Pattern};

/// The most bytes of one text in it.
const MAX_TEXT: usize = 4 * 1024;

/// JSON whose texts are patterns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Text(Pattern),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    Plain(Value),
}

impl Tree {
    /// The JSON. What finds nothing in the payload is left out of its list or object, and so is what is too large.
    pub(crate) fn render(&self, scene: Scene<'_>) -> Option<Value> {
        if !scene.budget.visit(2) {
            return None;
        }
        match self {
            Self::Text(pattern) => pattern.value(scene, MAX_TEXT).filter(|value| !value.is_null()),
            Self::List(items) => Some(items.iter().filter_map(|item| item.render(scene)).collect()),
            Self::Object(members) => {
                let rendered = members
                    .iter()
                    .filter_map(|(name, member)| Some((named(name, scene)?, member.render(scene)?)));
                Some(Value::Object(rendered.collect::<Map<_, _>>()))
            }
            Self::Plain(value) => scene.budget.copy(value, &mut { usize::MAX }),
        }
    }

    /// As [`Self::render`], but nothing at all when anything in it finds nothing.
    pub(crate) fn render_whole(&self, scene: Scene<'_>) -> Option<Value> {
        match self {
            Self::List(items) => items.iter().map(|item| item.render_whole(scene)).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, member)| Some((named(name, scene)?, member.render_whole(scene)?)))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object),
            Self::Text(_) | Self::Plain(_) => self.render(scene),
        }
    }

    /// The JSON where nothing in it has places.
    pub(crate) fn literal(&self) -> Option<Value> {
        match self {
            Self::Text(pattern) => pattern.literal().map(Value::String),
            Self::List(items) => items.iter().map(Self::literal).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, member)| Some((name.clone(), member.literal()?)))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object),
            Self::Plain(value) => Some(value.clone()),
        }
    }

    /// A member of an object.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// Whether anything in it reads headers of the request.
    pub(crate) fn reads_headers(&self) -> bool {
        match self {
            Self::Text(pattern) => pattern.reads_headers(),
            Self::List(items) => items.iter().any(Self::reads_headers),
            Self::Object(members) => members.iter().any(|(_, member)| member.reads_headers()),
            Self::Plain(_) => false,
        }
    }

    fn from_json(value: Value) -> Result<Self, super::pattern::NoPattern> {
        Ok(match value {
            Value::String(text) => Self::Text(text.parse()?),
            Value::Array(items) => {
                Self::List(items.into_iter().map(Self::from_json).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(name, member)| Ok((name, Self::from_json(member)?)))
                    .collect::<Result<_, super::pattern::NoPattern>>()?,
            ),
            plain => Self::Plain(plain),
        })
    }
}

/// A member's name, paid for.
fn named(name: &str, scene: Scene<'_>) -> Option<String> {
    scene.budget.pay(name.len()).then(|| name.to_owned())
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
