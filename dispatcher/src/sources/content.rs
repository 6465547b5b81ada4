//! What notifications say and whom they are for, made of a payload: texts and targets with places in them.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    path::{Path, Scene},
    pattern::Pattern,
    tree::Tree,
};
use crate::{digest::sha256, validation::is_link};

/// The most lines of a body.
const MAX_LINES: usize = 32;
/// The longest title, body, link, collapse key and key, in bytes.
pub(super) const MAX_TITLE: usize = 1_024;
pub(super) const MAX_BODY: usize = 16 * 1024;
const MAX_LINK: usize = 2_048;
const MAX_COLLAPSE_KEY: usize = 128;
/// And a digest key; as long as a digest in hex.
const MAX_DIGEST_KEY: usize = 64;
/// The largest data, encoded.
const MAX_DATA: usize = 32 * 1024;
/// The most targets of a notification.
pub(super) const MAX_TARGETS: usize = 1_000;

/// One text, or lines; a line for which something is missing is left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Body {
    Text(Pattern),
    Lines(Vec<Pattern>),
}

/// A button; one without its link is left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    pub(crate) id: String,
    pub(crate) title: Pattern,
    pub(crate) url: Option<Pattern>,
}

/// What a notification says, but for what it carries along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContentParts<'p> {
    pub(crate) title: Option<&'p Pattern>,
    pub(crate) body: Option<&'p Body>,
    pub(crate) url: Option<&'p Pattern>,
    pub(crate) icon: Option<&'p Pattern>,
    pub(crate) actions: Option<&'p [Action]>,
}

impl<'p> ContentParts<'p> {
    /// `content` as a notification has it. A line, link, button or value that misses something is left out.
    ///
    /// # Errors
    /// The path of the title that finds nothing.
    pub(crate) fn render<'d>(
        &self,
        data: impl Iterator<Item = (&'d String, &'d Tree)>,
        scene: Scene<'_>,
    ) -> Result<Map<String, Value>, &'p Path> {
        let text = |pattern: Option<&Pattern>, most| pattern.and_then(|p| p.render(scene, most).ok());
        let link = |pattern: Option<&Pattern>| text(pattern, MAX_LINK + 1).filter(|link| is_link(link));
        let mut content = Map::new();
        if let Some(title) = self.title {
            content.insert(
                "title".to_owned(),
                one_line(&title.render(scene, MAX_TITLE + 1)?).into(),
            );
        }
        if let Some(body) = self.body.and_then(|body| body.render(scene)) {
            content.insert("body".to_owned(), body.into());
        }
        for (name, link) in [("url", link(self.url)), ("icon", link(self.icon))] {
            if let Some(link) = link {
                content.insert(name.to_owned(), link.into());
            }
        }
        if let Some(actions) = self.actions {
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
        // Too much of what is only carried along must not keep anybody from being told.
        if let Some(data) = data_of(data, scene)
            && !data.is_empty()
        {
            content.insert("data".to_owned(), Value::Object(data));
        }
        Ok(content)
    }
}

impl Body {
    /// What is wrong with it that its shape does not say.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        matches!(self, Self::Lines(lines) if lines.len() > MAX_LINES).then_some("must have at most 32 lines")
    }

    fn render(&self, scene: Scene<'_>) -> Option<String> {
        let mut body = self.printed(scene)?;
        // Tools colour what they say for terminals.
        body.retain(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
        Some(body)
    }

    fn printed(&self, scene: Scene<'_>) -> Option<String> {
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

/// What is carried along; nothing where it is more than may be.
pub(crate) fn data_of<'d>(
    members: impl Iterator<Item = (&'d String, &'d Tree)>,
    scene: Scene<'_>,
) -> Option<Map<String, Value>> {
    let mut data = Map::new();
    let mut length = 2;
    for (name, tree) in members {
        if let Some(value) = tree.render(scene) {
            // Two quotes, a colon and a comma.
            length += name.len() + encoded_len(&value)? + 4;
            if length > MAX_DATA {
                return None;
            }
            data.insert(name.clone(), value);
        }
    }
    // A name that occurs twice is there once, and its quotes may be escaped: the encoding itself counts.
    let encoded = serde_json::to_vec(&data).ok()?;
    (encoded.len() <= MAX_DATA).then_some(data)
}

/// How long a value is as JSON. What was copied is bounded.
fn encoded_len(value: &Value) -> Option<usize> {
    serde_json::to_vec(value).ok().map(|encoded| encoded.len())
}

/// A name may stand for several: `{"user": "{assignees[*].login}"}`. Nobody is named twice; of more than a notification
/// can have, one more is given, so that it is refused.
pub(crate) fn targets_of(trees: &[Tree], scene: Scene<'_>) -> Vec<Value> {
    let mut targets: Vec<Value> = Vec::new();
    let mut known = HashSet::new();
    for target in trees.iter().map_while(|tree| {
        let whole = tree.render_whole(scene);
        (!scene.budget.is_spent()).then_some(whole)
    }) {
        let Some(target) = target else { continue };
        let several = match target {
            Value::Object(mut members) if members.len() == 1 => {
                let name = members.keys().next().cloned().unwrap_or_default();
                match members.remove(&name).unwrap_or_default() {
                    Value::Array(values) => values
                        .into_iter()
                        .map(|value| Value::Object(Map::from_iter([(name.clone(), value)])))
                        .collect(),
                    one => vec![Value::Object(Map::from_iter([(name, one)]))],
                }
            }
            target => vec![target],
        };
        for target in several {
            if targets.len() > MAX_TARGETS {
                return targets;
            }
            let text = target.to_string();
            if scene.budget.pay(text.len()) && known.insert(text) {
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
pub(crate) fn collapse_key(text: &str) -> String {
    key(text, MAX_COLLAPSE_KEY)
}

/// The same of a digest key.
pub(crate) fn digest_key(text: &str) -> String {
    key(text, MAX_DIGEST_KEY)
}

fn key(text: &str, most: usize) -> String {
    if text.len() <= most && !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    hex::encode(sha256(text.as_bytes()))
}
