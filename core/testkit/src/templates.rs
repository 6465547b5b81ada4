use std::sync::Arc;

use carillon_domain::{
    Content,
    ports::{Forms, Rendered, TemplateFault, TemplateSource, Templates},
};
use serde_json::Value;

/// The smallest template language: `{{ name }}` stands for the text of that name in the data, `{{ a.b }}` for one within
/// an object, and nothing else is special.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainTemplates;

impl Templates for PlainTemplates {
    fn check(&self, source: &TemplateSource) -> Result<(), Vec<TemplateFault>> {
        let faults: Vec<TemplateFault> = forms(source)
            .into_iter()
            .filter(|(_, text)| text.matches("{{").count() != text.matches("}}").count())
            .map(|(form, _)| fault(form, "a {{ has no }}"))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn render(&self, source: &TemplateSource, data: &Value) -> Result<Rendered, TemplateFault> {
        let optional = |form: &str, text: &Option<String>| {
            text.as_deref().map(|text| fill(form, text, data)).transpose()
        };
        Ok(Rendered {
            content: Arc::new(Content {
                title: fill("/in_app/title", &source.in_app.title, data)?,
                body: optional("/in_app/body", &source.in_app.body)?,
                url: optional("/in_app/url", &source.in_app.url)?,
                icon: None,
                actions: Vec::new(),
                data: None,
            }),
            forms: Forms {
                subject: optional("/subject", &source.subject)?,
                text: optional("/text", &source.text)?,
                html: optional("/html", &source.html)?,
                short: optional("/short", &source.short)?,
            },
        })
    }
}

fn forms(source: &TemplateSource) -> Vec<(&'static str, &str)> {
    let optional = [
        ("/subject", &source.subject),
        ("/text", &source.text),
        ("/html", &source.html),
        ("/short", &source.short),
        ("/in_app/body", &source.in_app.body),
        ("/in_app/url", &source.in_app.url),
    ];
    std::iter::once(("/in_app/title", source.in_app.title.as_str()))
        .chain(
            optional
                .into_iter()
                .filter_map(|(form, text)| Some((form, text.as_deref()?))),
        )
        .collect()
}

fn fill(form: &str, text: &str, data: &Value) -> Result<String, TemplateFault> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .ok_or_else(|| fault(form, "a {{ has no }}"))?;
        let value = name
            .trim()
            .split('.')
            .try_fold(data, |value, name| value.get(name))
            .and_then(Value::as_str)
            .ok_or_else(|| fault(form, "the data has no such text"))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn fault(form: &str, detail: &str) -> TemplateFault {
    TemplateFault {
        form: form.to_owned(),
        detail: detail.to_owned(),
    }
}
