//! Values that are read and never written.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is printed in a secret's place.
pub(super) const REDACTED: &str = "[redacted]";

/// A secret in a configuration: a password, a key, a URL that holds one. Neither printed nor logged, unless it is a
/// [`Self::built_in`] default.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    built_in: bool,
}

impl Secret {
    /// A default that everybody can read in the source: it is printed, so that the reference says what it is.
    pub fn built_in(text: &'static str) -> Self {
        Self {
            text: SecretString::from(text),
            built_in: true,
        }
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// As secrecy's type.
    pub fn inner(&self) -> &SecretString {
        &self.text
    }

    fn printed(&self) -> &str {
        if self.built_in { self.expose() } else { REDACTED }
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self {
            text: SecretString::from(text.into()),
            built_in: false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.printed())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.printed())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("secret")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "secret", "writeOnly": true})
    }
}

/// For a field of secrecy's type: `#[serde(serialize_with = "redacted")]`.
///
/// # Errors
/// Only the serializer's own.
pub fn redacted<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

/// For an optional field of secrecy's type: `#[serde(serialize_with = "redacted_option")]`.
///
/// # Errors
/// Only the serializer's own.
pub fn redacted_option<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(redacted_str(secret)),
        None => serializer.serialize_none(),
    }
}

fn redacted_str(_: &SecretString) -> &'static str {
    REDACTED
}
