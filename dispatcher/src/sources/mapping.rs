//! Mappings: what notifications a tool's payload becomes. Pure; the built-in ones are `kinds/*.json`.

use std::collections::BTreeMap;

use carillon_domain::Priority;
use carillon_runtime::http::FieldError;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    condition::When,
    path::{Found, Path, Scene},
    pattern::Pattern,
    tree::Tree,
};
use crate::{digest::sha256, validation::is_link};

/// The most notifications that one payload becomes.
pub(super) const MAX_ITEMS: usize = 1_000;
/// The most rules of a mapping.
const MAX_RULES: usize = 64;
/// The most conditions of a rule.
const MAX_CONDITIONS: usize = 16;
/// The most lines of a body.
const MAX_LINES: usize = 32;
/// The longest title, body, link, collapse key and key, in bytes.
const MAX_TITLE: usize = 1_024;
const MAX_BODY: usize = 16 * 1024;
const MAX_LINK: usize = 2_048;
const MAX_COLLAPSE_KEY: usize = 128;
const MAX_KEY: usize = 2_048;
/// The largest data, encoded.
const MAX_DATA: usize = 32 * 1024;

/// What notifications a payload becomes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    /// The list whose items become a notification each; the whole payload becomes one when absent.
    #[serde(default)]
    each: Option<Path>,
    /// The tool's own name for what it says: said again, it is not sent again. A payload for which it finds nothing is
    /// always sent.
    #[serde(default)]
    key: Option<Pattern>,
    /// What every rule says that does not say otherwise.
    #[serde(default)]
    defaults: Rule,
    /// The first one whose conditions hold counts; when none does, nothing is sent.
    rules: Vec<Rule>,
}

/// What an item becomes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    when: When,
    /// Why nothing is sent.
    ignore: Option<Pattern>,
    title: Option<Pattern>,
    body: Option<Body>,
    url: Option<Pattern>,
    icon: Option<Pattern>,
    collapse_key: Option<Pattern>,
    category: Option<Pattern>,
    priority: Option<Priority>,
    ttl: Option<i64>,
    actions: Option<Vec<Action>>,
    data: Option<BTreeMap<String, Tree>>,
    /// In the place of the source's.
    targets: Option<Vec<Tree>>,
}

/// One text, or lines; a line for which something is missing is left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Body {
    Text(Pattern),
    Lines(Vec<Pattern>),
}

/// A button; one without its link is left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    id: String,
    title: Pattern,
    url: Option<Pattern>,
}

/// What every notification of a source has.
pub(super) struct Base<'a> {
    pub(super) targets: &'a Value,
    pub(super) category: &'a str,
    /// Whether the category is asked for; else a mapping's comes first.
    pub(super) fixed_category: bool,
    pub(super) channels: Option<&'a Value>,
    /// Whatever the mapping says.
    pub(super) priority: Option<Priority>,
}

/// What became of one item.
#[derive(Debug, PartialEq)]
pub(super) struct Mapped {
    /// A JSON pointer to the item.
    pub(super) at: String,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// A request as `POST /v1/notifications` takes it.
    Notify { request: Value, key: Option<String> },
    /// Nothing is sent, and why.
    Ignored(String),
}

impl Mapping {
    /// What is wrong with it that its shape does not say; `at` is the pointer to it.
    pub(super) fn check(&self, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut fail = |place: String, detail: &'static str| errors.push(FieldError::new(place, detail));
        if !(1..=MAX_RULES).contains(&self.rules.len()) {
            fail(format!("{at}/rules"), "must have 1 to 64 items");
        }
        if self.each.as_ref().is_some_and(|each| each.header().is_some()) {
            fail(
                format!("{at}/each"),
                "must be a list in the payload, not a header",
            );
        }
        if !self.defaults.when.is_empty() || self.defaults.ignore.is_some() {
            fail(format!("{at}/defaults"), "must have neither when nor ignore");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.when.len() > MAX_CONDITIONS {
                fail(
                    format!("{at}/rules/{index}/when"),
                    "must have at most 16 conditions",
                );
            }
            if rule.ignore.is_none() && rule.title.is_none() && self.defaults.title.is_none() {
                fail(
                    format!("{at}/rules/{index}/title"),
                    "required, here or in defaults",
                );
            }
            if matches!(&rule.body, Some(Body::Lines(lines)) if lines.len() > MAX_LINES) {
                fail(format!("{at}/rules/{index}/body"), "must have at most 32 lines");
            }
        }
        errors
    }

    /// What a payload becomes, item by item.
    ///
    /// # Errors
    /// What is missing in the payload, and where.
    pub(super) fn apply(
        &self,
        headers: &HeaderMap,
        payload: &Value,
        base: &Base<'_>,
    ) -> Result<Vec<Mapped>, Vec<FieldError>> {
        let whole = Scene {
            headers,
            payload,
            item: payload,
        };
        let Some(each) = &self.each else {
            let mapped = self
                .item(String::new(), whole, base)
                .map_err(|error| vec![error])?;
            return Ok(vec![mapped]);
        };
        let list = each.list();
        let at = list.pointer();
        let items = match list.find(whole) {
            Found::Values(values) => values.into_iter().next().and_then(Value::as_array),
            Found::Header(_) => None,
        };
        let items =
            items.ok_or_else(|| vec![FieldError::new(at.clone(), "the mapping expects a list here")])?;
        let mut errors = Vec::new();
        let mut mapped = Vec::with_capacity(items.len().min(MAX_ITEMS));
        for (index, item) in items.iter().take(MAX_ITEMS).enumerate() {
            match self.item(format!("{at}/{index}"), Scene { item, ..whole }, base) {
                Ok(one) => mapped.push(one),
                Err(error) => errors.push(error),
            }
        }
        if items.len() > MAX_ITEMS {
            mapped.push(Mapped {
                at: format!("{at}/{MAX_ITEMS}"),
                what: What::Ignored(format!(
                    "from here on: at most {MAX_ITEMS} items are taken at once"
                )),
            });
        }
        if errors.is_empty() {
            Ok(mapped)
        } else {
            Err(errors)
        }
    }

    fn item(&self, at: String, scene: Scene<'_>, base: &Base<'_>) -> Result<Mapped, FieldError> {
        let Some(rule) = self.rules.iter().find(|rule| rule.when.holds(scene)) else {
            let what = What::Ignored("no rule of the mapping is for it".to_owned());
            return Ok(Mapped { at, what });
        };
        if let Some(why) = &rule.ignore {
            let why = why
                .render(scene, MAX_TITLE)
                .unwrap_or_else(|_| "the mapping ignores it".to_owned());
            return Ok(Mapped {
                at,
                what: What::Ignored(why),
            });
        }
        let request = rule.request(&self.defaults, scene, base).map_err(|missing| {
            let place = if missing.is_of_payload() {
                missing.pointer()
            } else {
                format!("{at}{}", missing.pointer())
            };
            FieldError::new(
                place,
                format!("the mapping's title needs `{missing}`, and nothing stands there"),
            )
        })?;
        let key = self.key.as_ref().and_then(|key| key.render(scene, MAX_KEY).ok());
        Ok(Mapped {
            at,
            what: What::Notify { request, key },
        })
    }
}

impl Rule {
    /// The request, or the path of the title that finds nothing.
    fn request<'r>(
        &'r self,
        defaults: &'r Self,
        scene: Scene<'_>,
        base: &Base<'_>,
    ) -> Result<Value, &'r Path> {
        let text = |pattern: Option<&Pattern>, most| pattern.and_then(|p| p.render(scene, most).ok());
        let link = |pattern: Option<&Pattern>| text(pattern, MAX_LINK + 1).filter(|link| is_link(link));
        let mut content = Map::new();
        if let Some(title) = self.title.as_ref().or(defaults.title.as_ref()) {
            content.insert(
                "title".to_owned(),
                one_line(&title.render(scene, MAX_TITLE + 1)?).into(),
            );
        }
        if let Some(body) = self.body.as_ref().or(defaults.body.as_ref())
            && let Some(body) = body.render(scene)
        {
            content.insert("body".to_owned(), body.into());
        }
        for (name, link) in [
            ("url", link(self.url.as_ref().or(defaults.url.as_ref()))),
            ("icon", link(self.icon.as_ref().or(defaults.icon.as_ref()))),
        ] {
            if let Some(link) = link {
                content.insert(name.to_owned(), link.into());
            }
        }
        if let Some(actions) = self.actions.as_ref().or(defaults.actions.as_ref()) {
            let actions = actions.iter().filter_map(|action| {
                let title = one_line(&text(Some(&action.title), 256)?);
                match &action.url {
                    None => Some(json!({"id": action.id, "title": title})),
                    Some(_) => {
                        let url = link(action.url.as_ref())?;
                        Some(json!({"id": action.id, "title": title, "url": url}))
                    }
                }
            });
            content.insert("actions".to_owned(), actions.collect());
        }
        let mut data = Map::new();
        for (name, tree) in defaults.data.iter().chain(&self.data).flatten() {
            if let Some(value) = tree.render(scene) {
                data.insert(name.clone(), value);
            }
        }
        // Too much of what is only carried along must not keep anybody from being told.
        if serde_json::to_vec(&data).is_ok_and(|encoded| !data.is_empty() && encoded.len() <= MAX_DATA) {
            content.insert("data".to_owned(), Value::Object(data));
        }
        let targets = self.targets.as_ref().or(defaults.targets.as_ref());
        let targets = targets
            .map(|trees| targets_of(trees, scene))
            .filter(|found| !found.is_empty());
        let mut request = Map::new();
        request.insert("content".to_owned(), Value::Object(content));
        request.insert(
            "targets".to_owned(),
            targets.map_or_else(|| base.targets.clone(), Value::Array),
        );
        let category = self.category.as_ref().or(defaults.category.as_ref());
        let category = text(category.filter(|_| !base.fixed_category), 65);
        request.insert(
            "category".to_owned(),
            category.unwrap_or_else(|| base.category.to_owned()).into(),
        );
        if let Some(priority) = base.priority.or(self.priority).or(defaults.priority) {
            request.insert("priority".to_owned(), priority.as_str().into());
        }
        if let Some(ttl) = self.ttl.or(defaults.ttl) {
            request.insert("ttl".to_owned(), ttl.into());
        }
        if let Some(channels) = base.channels {
            request.insert("channels".to_owned(), channels.clone());
        }
        let key = self.collapse_key.as_ref().or(defaults.collapse_key.as_ref());
        if let Some(key) = text(key, MAX_KEY) {
            request.insert("collapse_key".to_owned(), collapse_key(&key).into());
        }
        Ok(Value::Object(request))
    }
}

impl Body {
    fn render(&self, scene: Scene<'_>) -> Option<String> {
        match self {
            Self::Text(pattern) => pattern.render(scene, MAX_BODY).ok(),
            Self::Lines(lines) => {
                let mut body = String::new();
                for line in lines {
                    let Ok(line) = line.render(scene, MAX_BODY) else {
                        continue;
                    };
                    if !body.is_empty() {
                        body.push('\n');
                    }
                    body.push_str(&line);
                    if body.len() > MAX_BODY {
                        body.truncate(body.floor_char_boundary(MAX_BODY));
                        break;
                    }
                }
                Some(body).filter(|body| !body.is_empty())
            }
        }
    }
}

/// A name may stand for several: `{"user": "{assignees[*].login}"}`. Nobody is named twice.
fn targets_of(trees: &[Tree], scene: Scene<'_>) -> Vec<Value> {
    let mut targets: Vec<Value> = Vec::new();
    for target in trees.iter().filter_map(|tree| tree.render_whole(scene)) {
        let named = match &target {
            Value::Object(members) if members.len() == 1 => members.iter().next(),
            _ => None,
        };
        let several: Vec<Value> = match named {
            Some((name, Value::Array(values))) => {
                let each = |value: &Value| Value::Object(Map::from_iter([(name.clone(), value.clone())]));
                values.iter().map(each).collect()
            }
            _ => vec![target],
        };
        for target in several {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    targets
}

/// One line of at most [`MAX_TITLE`] bytes.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() > MAX_TITLE {
        const MORE: &str = "\u{2026}";
        line.truncate(line.floor_char_boundary(MAX_TITLE - MORE.len()));
        line.push_str(MORE);
    }
    line
}

/// As it is where it can be one, else a digest of it.
fn collapse_key(text: &str) -> String {
    if text.len() <= MAX_COLLAPSE_KEY && !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    hex::encode(sha256(text.as_bytes()))
}
