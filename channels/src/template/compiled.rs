//! A template ready to render: checked, and compiled once.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use carillon_domain::{
    Content,
    ports::{Forms, Rendered, TemplateFault, TemplateSource},
};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::{
    MAX_DATA, MAX_PARTIALS, MAX_SOURCE,
    fault::{engine_fault, fault},
    filters,
    forms::Form,
    grammar::Grammar,
    html,
    print::{Bounded, print},
};

/// Steps that one form may take: some ten thousand values printed.
const FUEL: u64 = 50_000;

/// Includes within includes: each counts ten.
const DEPTH: usize = 150;

/// All forms of one source.
pub(super) struct Compiled {
    /// Everything but HTML: nothing is escaped.
    plain: Environment<'static>,
    /// HTML, and the partials as HTML has them.
    html: Environment<'static>,
    present: Vec<Form>,
    weight: u32,
}

impl Compiled {
    /// Checks everything, and compiles; everything that is wrong at once.
    pub(super) fn checked(source: &TemplateSource) -> Result<Self, Vec<TemplateFault>> {
        Self::make(source, html::check)
    }

    /// Compiles what was checked when it was saved. What keeps the process from harm is looked at again: a store could
    /// have been written by somebody else. Where values stand in HTML is not: it harms nobody here, and a rule that is
    /// made later must not stop what was allowed.
    pub(super) fn saved(source: &TemplateSource) -> Result<Self, Vec<TemplateFault>> {
        Self::make(source, |_| None)
    }

    fn make(
        source: &TemplateSource,
        last: impl FnOnce(&Grammar<'_>) -> Option<TemplateFault>,
    ) -> Result<Self, Vec<TemplateFault>> {
        let mut faults = sizes(source);
        if !faults.is_empty() {
            return Err(faults);
        }
        let grammar = Grammar::new(source);
        faults.extend(grammar.faults());
        if faults.is_empty() {
            faults.extend(last(&grammar));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut compiled = Self {
            plain: environment(AutoEscape::None),
            html: environment(AutoEscape::Html),
            present: Vec::new(),
            weight: weight(source),
        };
        for (name, text) in &source.partials {
            for environment in [&mut compiled.plain, &mut compiled.html] {
                add(environment, name, text, &mut faults);
            }
        }
        for form in Form::ALL {
            if let Some(text) = form.source(source) {
                let environment = match form {
                    Form::Html => &mut compiled.html,
                    _ => &mut compiled.plain,
                };
                add(environment, form.pointer(), text, &mut faults);
                compiled.present.push(form);
            }
        }
        if faults.is_empty() {
            Ok(compiled)
        } else {
            Err(faults)
        }
    }

    /// About what it takes in memory.
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Renders all forms.
    pub(super) fn render(&self, data: &serde_json::Value) -> Result<Rendered, TemplateFault> {
        if !data.is_object() {
            return Err(fault("/data", "must be a JSON object"));
        }
        if encoded_len(data) > MAX_DATA {
            return Err(fault(
                "/data",
                format!("must be at most {MAX_DATA} bytes encoded"),
            ));
        }
        let data = super::data::data(data);
        let render = |form: Form| -> Result<Option<String>, TemplateFault> {
            if !self.present.contains(&form) {
                return Ok(None);
            }
            let environment = match form {
                Form::Html => &self.html,
                _ => &self.plain,
            };
            let failed = |error| engine_fault(form.pointer(), form.limit(), &error);
            let template = environment.get_template(form.pointer()).map_err(failed)?;
            let mut out = Bounded::new(form.limit());
            template
                .render_captured_to(data.clone(), &mut out)
                .map_err(failed)?;
            form.finish(&out.into_text())
        };
        let content = Content {
            title: render(Form::Title)?.unwrap_or_default(),
            body: render(Form::Body)?,
            url: render(Form::Url)?,
            icon: None,
            actions: Vec::new(),
            data: None,
        };
        let forms = Forms {
            subject: render(Form::Subject)?,
            text: render(Form::Text)?,
            html: render(Form::Html)?,
            short: render(Form::Short)?,
        };
        Ok(Rendered {
            content: Arc::new(content),
            forms,
        })
    }
}

/// What a source is known by.
pub(super) fn digest(source: &TemplateSource) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut part = |text: Option<&str>| {
        // An absent form is not an empty one, and no text runs into the next.
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(text.unwrap_or_default().as_bytes());
    };
    for form in Form::ALL {
        part(form.source(source));
    }
    for (name, text) in &source.partials {
        part(Some(name));
        part(Some(text));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn sizes(source: &TemplateSource) -> Vec<TemplateFault> {
    let mut faults = Vec::new();
    let mut check = |pointer: &str, text: &str| {
        if text.len() > MAX_SOURCE {
            faults.push(fault(pointer, format!("must be at most {MAX_SOURCE} bytes")));
        }
    };
    for form in Form::ALL {
        check(form.pointer(), form.source(source).unwrap_or_default());
    }
    for (name, text) in source.partials.iter().take(MAX_PARTIALS) {
        check(&format!("/partials/{name}"), text);
    }
    if source.partials.len() > MAX_PARTIALS {
        faults.push(fault("/partials", format!("must be at most {MAX_PARTIALS}")));
    }
    if source.in_app.title.trim().is_empty() {
        faults.push(fault("/in_app/title", "is required"));
    }
    for name in source.partials.keys() {
        let valid = matches!(name.len(), 1..=64)
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
            });
        if !valid {
            faults.push(fault(
                "/partials",
                "a name is 1-64 characters of a-z, 0-9, _ and -",
            ));
        }
    }
    faults
}

fn environment(escape: AutoEscape) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_auto_escape_callback(move |_| escape.clone());
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // Faults name the value that is missing.
    environment.set_debug(true);
    environment.set_formatter(print);
    filters::add(&mut environment);
    environment
}

fn add(environment: &mut Environment<'static>, name: &str, text: &str, faults: &mut Vec<TemplateFault>) {
    if let Err(error) = environment.add_template_owned(name.to_owned(), text.to_owned()) {
        faults.push(engine_fault(name, 0, &error));
    }
}

/// Instructions are some ten times their source, partials are compiled twice, and each environment has its own filters.
fn weight(source: &TemplateSource) -> u32 {
    let forms: usize = Form::ALL
        .iter()
        .filter_map(|form| form.source(source))
        .map(str::len)
        .sum();
    let partials: usize = source.partials.values().map(String::len).sum();
    u32::try_from(16 * 1_024 + 16 * (forms + 2 * partials)).unwrap_or(u32::MAX)
}

fn encoded_len(data: &serde_json::Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, data) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}
