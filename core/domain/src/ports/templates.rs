use std::{collections::BTreeMap, sync::Arc};

use super::Forms;
use crate::Content;

/// Checks and renders templates. Pure and bounded: fuel, depth and output are limited, nothing outside is reachable.
pub trait Templates: Send + Sync + 'static {
    /// Whether a template may be saved; every fault with the form that has it.
    fn check(&self, source: &TemplateSource) -> Result<(), Vec<TemplateFault>>;

    /// Renders a source that [`Self::check`] let through for a channel's forms and the in-app form. `data` is the caller's JSON object; `content` of the answer
    /// is what in-app shows.
    fn render(&self, source: &TemplateSource, data: &serde_json::Value) -> Result<Rendered, TemplateFault>;
}

/// One locale of one version of a template.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateSource {
    /// An email's subject; the in-app title serves when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Plain text of an email.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// HTML of an email; what data brings in is escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// A push's short text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// The in-app form; required.
    pub in_app: InAppSource,
    /// Blocks that the forms may include by name, at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partials: BTreeMap<String, String>,
}

/// The in-app form, and what channels without a form use.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InAppSource {
    /// Renders to [`Content::title`].
    pub title: String,
    /// Renders to [`Content::body`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Renders to [`Content::url`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What rendering gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// For in-app and for channels without a form.
    pub content: Arc<Content>,
    /// For the others.
    pub forms: Forms,
}

/// What is wrong with a template, or with its data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{form}: {detail}")]
pub struct TemplateFault {
    /// The form as a JSON pointer below the source, for example `/html` or `/in_app/title`.
    pub form: String,
    /// What is wrong, with the line, fit to show to the tenant.
    pub detail: String,
}
