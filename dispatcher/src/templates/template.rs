use std::collections::BTreeMap;

use carillon_domain::{
    Timestamp,
    ports::{TemplateFault, TemplateSource, Unavailable},
};
use carillon_runtime::http::Problem;
use carillon_sql::StoreError;

use crate::store::catalog::TemplateVersionRow;

/// One version of a template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) version: u64,
    pub(crate) default_locale: String,
    pub(crate) locales: BTreeMap<String, TemplateSource>,
    pub(crate) created_at: Timestamp,
    bytes: usize,
}

/// Why a template was not found, checked or rendered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("no template engine is built in")]
    NoEngine,
    #[error("the template has no form in its default locale")]
    NoLocale,
    #[error("the template does not render: {0}")]
    Fault(#[from] TemplateFault),
    #[error("the templates could not be read or written")]
    Store(#[from] StoreError),
    #[error("what a template needs could not be looked up")]
    Away(#[from] Unavailable),
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::Fault(fault) => Self::field("/data", fault.to_string()),
            TemplateError::Store(error) => Unavailable::from(error).into(),
            TemplateError::Away(error) => error.into(),
            TemplateError::NoEngine | TemplateError::NoLocale => Self::internal(&error),
        }
    }
}

impl Template {
    /// From its row.
    pub(crate) fn read(row: TemplateVersionRow) -> Result<Self, StoreError> {
        let locales = serde_json::from_str(&row.locales)
            .map_err(|error| StoreError::Corrupt(format!("a template's locales: {error}")))?;
        Ok(Self {
            version: row.version,
            default_locale: row.default_locale,
            locales,
            created_at: row.created_at,
            bytes: row.locales.len(),
        })
    }

    /// About how many bytes it holds.
    pub(crate) const fn bytes(&self) -> usize {
        // Each text stands in a buffer of its own.
        2 * self.bytes + 512
    }

    /// The form for a locale: the same one, else its language's, else the default's.
    pub(crate) fn choose(&self, locale: Option<&str>) -> Option<(&str, &TemplateSource)> {
        let language = locale.and_then(|locale| locale.split('-').next());
        locale
            .into_iter()
            .chain(language)
            .find_map(|wanted| {
                self.locales
                    .iter()
                    .find(|(locale, _)| locale.eq_ignore_ascii_case(wanted))
            })
            .or_else(|| self.locales.get_key_value(&self.default_locale))
            .map(|(locale, source)| (locale.as_str(), source))
    }
}

/// Whether it has the form of a language tag (BCP 47): parts of 1-8 letters and digits, the first one of letters, at most
/// 35 bytes.
pub(crate) fn is_locale(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    text.len() <= 35
        && matches!(language.len(), 2..=8)
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts
            .all(|part| matches!(part.len(), 1..=8) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_same_locale_is_chosen_then_its_language_then_the_default() {
        let row = TemplateVersionRow {
            version: 1,
            default_locale: "en".to_owned(),
            locales: Arc::from(
                r#"{"en": {"in_app": {"title": "en"}}, "de": {"in_app": {"title": "de"}}, "de-AT": {"in_app": {"title": "at"}}}"#,
            ),
            created_at: Timestamp::from_seconds(1_700_000_000),
        };
        let template = Template::read(row).expect("reads");
        for (wanted, chosen) in [
            (Some("de-AT"), "de-AT"),
            (Some("DE-at"), "de-AT"),
            (Some("de-CH"), "de"),
            (Some("fr-CH"), "en"),
            (None, "en"),
        ] {
            assert_eq!(
                template.choose(wanted).map(|(locale, _)| locale),
                Some(chosen),
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn locales_have_the_form_of_language_tags() {
        for good in ["en", "de-AT", "zh-Hant-TW", "es-419", "sl-rozaj-biske-1994"] {
            assert!(is_locale(good), "{good}");
        }
        for bad in [
            "",
            "e",
            "de_AT",
            "de-",
            "-de",
            "12",
            "de-abcdefghi",
            "deutsch-deutsch-deutsch-deutsch-deutsch",
        ] {
            assert!(!is_locale(bad), "{bad}");
        }
    }
}
