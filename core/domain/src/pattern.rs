//! What a token lets its bearer subscribe and publish to.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Invalid, TopicName, topic::is_topic_byte};

/// A topic name in which `*` stands for any run of characters, also none: `room.*`, `room.*.typing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

impl TopicPattern {
    /// Whether `topic` is covered. Linear in the two lengths for one `*`; bounded by 255 x 255 steps for many.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let (pattern, name) = (self.0.as_bytes(), topic.as_str().as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to come back to when the run behind the last `*` turns out to be too short.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                retry = Some((p, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                p += 1;
                n += 1;
            } else if let Some((star, taken)) = retry {
                retry = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if matches!(text.len(), 1..=255) && text.bytes().all(|b| b == b'*' || is_topic_byte(b)) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid(
                "a topic pattern is 1-255 characters of a topic name and *",
            ))
        }
    }
}

impl Serialize for TopicPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for TopicPattern {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .min_length(Some(1))
            .max_length(Some(255))
            .into()
    }
}

impl utoipa::ToSchema for TopicPattern {}

/// The claim `topics`: what may be subscribed and published to. Nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicGrants {
    /// Patterns that may be subscribed to. At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<TopicPattern>,
    /// Patterns that may be published to. At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<TopicPattern>,
}

impl TopicGrants {
    /// Whether `topic` may be subscribed to.
    pub fn may_subscribe(&self, topic: &TopicName) -> bool {
        self.subscribe.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether `topic` may be published to.
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        self.publish.iter().any(|pattern| pattern.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        let covers = |pattern: &str, name: &str| {
            pattern
                .parse::<TopicPattern>()
                .expect("pattern")
                .matches(&name.parse().expect("topic"))
        };
        assert!(covers("room.*", "room.1") && covers("*", "x") && covers("a*b*c", "aXbYbc"));
        assert!(!covers("room.*", "rooms") && !covers("room", "room.1") && !covers("a*b", "abx"));
    }
}
