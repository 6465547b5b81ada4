//! What a source is set to, as it is stored.

use std::borrow::Cow;

use carillon_domain::Priority;
use carillon_runtime::http::{FieldError, parse_part};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    kind::SourceKind,
    mapping::{Base, Mapping},
};

/// The longest mapping, as JSON.
const MAX_MAPPING: usize = 32 * 1024;

/// What a source is set to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// As `targets` of a notification.
    pub(crate) targets: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<String>,
    /// As `channels` of a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) channels: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<Priority>,
    /// In the place of the kind's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mapping: Option<Box<RawValue>>,
}

impl Settings {
    /// The mapping that counts.
    ///
    /// # Errors
    /// What is wrong with it, and where in the settings.
    pub(super) fn mapping(&self, kind: SourceKind) -> Result<Mapping, Vec<FieldError>> {
        let at = "/mapping";
        let text: Cow<'_, RawValue> = match (&self.mapping, kind.mapping()) {
            (Some(own), _) => Cow::Borrowed(own),
            (None, Some(known)) => Cow::Owned(
                RawValue::from_string(known.to_owned())
                    .map_err(|error| vec![FieldError::new(at, error.to_string())])?,
            ),
            (None, None) => return Err(vec![FieldError::new(at, "required for this kind")]),
        };
        if text.get().len() > MAX_MAPPING {
            return Err(vec![FieldError::new(at, "must be at most 32768 bytes")]);
        }
        let mapping: Mapping = parse_part(&text, at).map_err(|error| vec![error])?;
        let errors = mapping.check(at);
        if errors.is_empty() {
            Ok(mapping)
        } else {
            Err(errors)
        }
    }

    /// What all its notifications have; they belong to the category of the source's name unless told otherwise.
    pub(super) fn base<'a>(&'a self, name: &'a str) -> Base<'a> {
        Base {
            targets: &self.targets,
            category: self.category.as_deref().unwrap_or(name),
            fixed_category: self.category.is_some(),
            channels: self.channels.as_ref(),
            priority: self.priority,
        }
    }

    /// What a source that makes no notifications was set to all the same.
    pub(super) fn superfluous(&self) -> Vec<FieldError> {
        let given = [
            (
                "/targets",
                self.targets.as_array().is_none_or(|targets| !targets.is_empty()),
            ),
            ("/category", self.category.is_some()),
            ("/channels", self.channels.is_some()),
            ("/priority", self.priority.is_some()),
            ("/mapping", self.mapping.is_some()),
        ];
        let given = given.into_iter().filter(|(_, given)| *given);
        given
            .map(|(pointer, _)| FieldError::new(pointer, "this kind makes no notifications"))
            .collect()
    }

    /// A notification that says nothing much: what is wrong with it is wrong with the settings.
    pub(super) fn probe(&self) -> Value {
        let mut probe = json!({"targets": self.targets, "content": {"title": "probe"}});
        if let Some(category) = &self.category {
            probe["category"] = category.as_str().into();
        }
        if let Some(channels) = &self.channels {
            probe["channels"] = channels.clone();
        }
        probe
    }
}
