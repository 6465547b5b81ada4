//! The forms of a template: where each stands in its source, how long it may become, and what it must be.

use carillon_domain::ports::{TemplateFault, TemplateSource};
use url::Url;

use super::fault::fault;

/// One form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Subject,
    Text,
    Html,
    Short,
    Title,
    Body,
    Url,
}

impl Form {
    pub(super) const ALL: [Self; 7] = [
        Self::Title,
        Self::Body,
        Self::Url,
        Self::Subject,
        Self::Text,
        Self::Html,
        Self::Short,
    ];

    /// As a JSON pointer below the source.
    pub(super) const fn pointer(self) -> &'static str {
        match self {
            Self::Subject => "/subject",
            Self::Text => "/text",
            Self::Html => "/html",
            Self::Short => "/short",
            Self::Title => "/in_app/title",
            Self::Body => "/in_app/body",
            Self::Url => "/in_app/url",
        }
    }

    /// Bytes that it may become.
    pub(super) const fn limit(self) -> usize {
        match self {
            Self::Subject | Self::Title | Self::Short => 1_024,
            Self::Body => 16 * 1_024,
            Self::Url => 2_048,
            Self::Text | Self::Html => 256 * 1_024,
        }
    }

    /// Its source.
    pub(super) fn source(self, source: &TemplateSource) -> Option<&str> {
        match self {
            Self::Subject => source.subject.as_deref(),
            Self::Text => source.text.as_deref(),
            Self::Html => source.html.as_deref(),
            Self::Short => source.short.as_deref(),
            Self::Title => Some(&source.in_app.title),
            Self::Body => source.in_app.body.as_deref(),
            Self::Url => source.in_app.url.as_deref(),
        }
    }

    /// What was printed, as the form wants it; nothing where an optional form is empty.
    pub(super) fn finish(self, printed: &str) -> Result<Option<String>, TemplateFault> {
        let text = match self {
            Self::Subject | Self::Title | Self::Url => one_line(printed),
            Self::Text | Self::Html | Self::Short | Self::Body => without_controls(printed),
        };
        match self {
            Self::Title if text.is_empty() => {
                Err(fault(self.pointer(), "gives nothing, and a title is needed"))
            }
            _ if text.is_empty() => Ok(None),
            Self::Url if !is_url(&text) => Err(fault(
                self.pointer(),
                "must give an http or https URL, or a path that begins with /",
            )),
            _ => Ok(Some(text)),
        }
    }
}

/// What a line break or a control character would be is one space: a value that brings one must not break a header.
fn one_line(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Line breaks and tabs stay, other control characters go.
fn without_controls(text: &str) -> String {
    let mut kept = text.replace("\r\n", "\n");
    kept.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    kept.trim().to_owned()
}

/// As a notification's own URLs are checked when it is accepted.
fn is_url(text: &str) -> bool {
    let path = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    !text.contains(' ')
        && (path
            || Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()))
}
