//! Values that templates have beside the data of the request.

use serde_json::{Value, json};

/// What they stand under; whatever the data has there is not seen.
const NAME: &str = "carillon";

/// Where a recipient turns off what he gets; nothing where there is no such link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnValues<'a> {
    pub(crate) unsubscribe: Option<&'a str>,
    pub(crate) preferences: Option<&'a str>,
}

impl OwnValues<'_> {
    /// What a preview shows: links that lead nowhere.
    pub(crate) const SAMPLES: Self = Self {
        unsubscribe: Some("https://carillon.invalid/v1/unsubscribe/sample"),
        preferences: Some("https://carillon.invalid/v1/preferences/sample"),
    };

    /// The data with them. Always there, so that a template may ask for them: empty where there is no link.
    pub(crate) fn beside(self, mut data: Value) -> Value {
        if let Some(data) = data.as_object_mut() {
            let own = json!({
                "unsubscribe_url": self.unsubscribe.unwrap_or_default(),
                "preferences_url": self.preferences.unwrap_or_default(),
            });
            data.insert(NAME.to_owned(), own);
        }
        data
    }
}
