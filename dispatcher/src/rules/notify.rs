//! The notification of a rule: a request with places for what an event says.

use std::collections::BTreeMap;

use carillon_domain::Priority;
use carillon_runtime::http::FieldError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::sources::{
    Action, Body, ContentParts, Path, Pattern, Scene, Tree, collapse_key, data_of, digest_key, targets_of,
};

/// The longest text of which a key is made.
const MAX_KEY: usize = 2_048;
/// The longest category, and one more: so that a longer one is refused and not cut.
const MAX_CATEGORY: usize = 65;
/// The longest time, with room for fractions of seconds.
const MAX_TIME: usize = 64;

/// The notification of a rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notify {
    targets: Vec<Tree>,
    category: Option<Pattern>,
    content: Option<ContentPattern>,
    template: Option<Value>,
    data: Option<BTreeMap<String, Tree>>,
    channels: Option<Value>,
    plan: Option<Value>,
    priority: Option<Priority>,
    collapse_key: Option<Pattern>,
    digest_key: Option<Pattern>,
    ttl: Option<i64>,
    send_at: Option<Pattern>,
}

/// What the notification says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContentPattern {
    title: Pattern,
    body: Option<Body>,
    url: Option<Pattern>,
    icon: Option<Pattern>,
    actions: Option<Vec<Action>>,
    data: Option<BTreeMap<String, Tree>>,
}

impl Notify {
    /// The request that an event becomes.
    ///
    /// # Errors
    /// What the event lacks.
    pub(super) fn request(&self, scene: Scene<'_>) -> Result<Value, String> {
        let mut request = Map::new();
        let targets = targets_of(&self.targets, scene);
        if targets.is_empty() {
            return Err("no target: nothing stands where the rule's targets are looked for".to_owned());
        }
        request.insert("targets".to_owned(), Value::Array(targets));
        if let Some(content) = &self.content {
            let parts = ContentParts {
                title: Some(&content.title),
                body: content.body.as_ref(),
                url: content.url.as_ref(),
                icon: content.icon.as_ref(),
                actions: content.actions.as_deref(),
            };
            let data = content.data.iter().flatten();
            let content = parts.render(data, scene).map_err(|path| needs("title", path))?;
            request.insert("content".to_owned(), Value::Object(content));
        }
        if let Some(template) = &self.template {
            let data = data_of(self.data.iter().flatten(), scene)
                .ok_or("the template's data would be larger than 32768 bytes")?;
            request.insert("template".to_owned(), template.clone());
            request.insert("data".to_owned(), Value::Object(data));
        }
        if let Some(category) = &self.category {
            let category = category.render(scene, MAX_CATEGORY);
            request.insert(
                "category".to_owned(),
                category.map_err(|path| needs("category", path))?.into(),
            );
        }
        if let Some(send_at) = &self.send_at {
            let send_at = send_at.render(scene, MAX_TIME);
            request.insert(
                "send_at".to_owned(),
                send_at.map_err(|path| needs("send_at", path))?.into(),
            );
        }
        if let Some(Ok(key)) = self.collapse_key.as_ref().map(|key| key.render(scene, MAX_KEY)) {
            request.insert("collapse_key".to_owned(), collapse_key(&key).into());
        }
        if let Some(Ok(key)) = self.digest_key.as_ref().map(|key| key.render(scene, MAX_KEY)) {
            request.insert("digest_key".to_owned(), digest_key(&key).into());
        }
        self.as_it_is(&mut request);
        if scene.budget.is_spent() {
            return Err(
                "the rule makes too much of this event: its places name large parts of it, again and again"
                    .to_owned(),
            );
        }
        Ok(Value::Object(request))
    }

    /// What no event changes.
    fn as_it_is(&self, request: &mut Map<String, Value>) {
        for (name, value) in [("channels", &self.channels), ("plan", &self.plan)] {
            if let Some(value) = value {
                request.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(priority) = self.priority {
            request.insert("priority".to_owned(), priority.as_str().into());
        }
        if let Some(ttl) = self.ttl {
            request.insert("ttl".to_owned(), ttl.into());
        }
    }

    /// What is wrong with it that its shape does not say; `at` is the pointer to it.
    pub(super) fn check(&self, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut fail = |place: &str, detail: &'static str| {
            errors.push(FieldError::new(format!("{at}{place}"), detail));
        };
        match (&self.content, &self.template) {
            (None, None) => fail("/content", "is missing: a notification has content or a template"),
            (Some(_), Some(_)) => fail("/template", "must not stand beside content"),
            (Some(_), None) if self.data.is_some() => {
                fail("/data", "goes with a template; content has data of its own");
            }
            _ => {}
        }
        if let Some(content) = &self.content {
            if let Some(detail) = content.body.as_ref().and_then(Body::wrong) {
                fail("/content/body", detail);
            }
            if content.actions.as_ref().is_some_and(|actions| actions.len() > 8) {
                fail("/content/actions", "must have at most 8 items");
            }
        }
        for (index, target) in self.targets.iter().enumerate() {
            if !names_one(target) {
                fail(
                    &format!("/targets/{index}"),
                    "must name either a user or a topic or an address",
                );
            }
        }
        for (place, pattern) in self.patterns() {
            if pattern.reads_headers() {
                fail(place, "an event has no headers: its attributes are $.name");
            }
        }
        let data = [
            ("/data", &self.data),
            (
                "/content/data",
                self.content.as_ref().map_or(&None, |content| &content.data),
            ),
        ];
        for (place, data) in data {
            if data.iter().flatten().any(|(_, tree)| tree.reads_headers()) {
                fail(place, "an event has no headers: its attributes are $.name");
            }
        }
        for (index, target) in self.targets.iter().enumerate() {
            if target.reads_headers() {
                fail(
                    &format!("/targets/{index}"),
                    "an event has no headers: its attributes are $.name",
                );
            }
        }
        errors
    }

    fn patterns(&self) -> Vec<(&'static str, &Pattern)> {
        let mut all: Vec<(&'static str, Option<&Pattern>)> = vec![
            ("/category", self.category.as_ref()),
            ("/collapse_key", self.collapse_key.as_ref()),
            ("/digest_key", self.digest_key.as_ref()),
            ("/send_at", self.send_at.as_ref()),
        ];
        if let Some(content) = &self.content {
            all.extend([
                ("/content/title", Some(&content.title)),
                ("/content/url", content.url.as_ref()),
                ("/content/icon", content.icon.as_ref()),
            ]);
            match &content.body {
                Some(Body::Text(text)) => all.push(("/content/body", Some(text))),
                Some(Body::Lines(lines)) => {
                    all.extend(lines.iter().map(|line| ("/content/body", Some(line))));
                }
                None => {}
            }
            for action in content.actions.iter().flatten() {
                all.extend([
                    ("/content/actions", Some(&action.title)),
                    ("/content/actions", action.url.as_ref()),
                ]);
            }
        }
        all.into_iter()
            .filter_map(|(place, pattern)| Some((place, pattern?)))
            .collect()
    }

    /// The request as far as no event changes it, with stand-ins: what is wrong with it is wrong with the rule. Its
    /// pointers are those of the rule's.
    pub(super) fn probe(&self) -> Value {
        let targets = self.targets.iter().enumerate().map(|(index, target)| {
            target
                .literal()
                .unwrap_or_else(|| json!({"user": format!("carillon.stand-in.{index}")}))
        });
        let mut probe = Map::new();
        probe.insert("targets".to_owned(), targets.collect());
        let actions = self
            .content
            .iter()
            .flat_map(|content| content.actions.iter().flatten());
        let actions = actions
            .take(8)
            .map(|action| json!({"id": action.id, "title": "stand-in"}));
        probe.insert(
            "content".to_owned(),
            json!({"title": "stand-in", "actions": actions.collect::<Vec<_>>()}),
        );
        for (name, pattern) in [
            ("category", &self.category),
            ("collapse_key", &self.collapse_key),
            ("digest_key", &self.digest_key),
            ("send_at", &self.send_at),
        ] {
            if let Some(text) = pattern.as_ref().and_then(Pattern::literal) {
                probe.insert(name.to_owned(), text.into());
            }
        }
        self.as_it_is(&mut probe);
        Value::Object(probe)
    }

    /// The template's name as it was given.
    pub(super) fn template(&self) -> Option<&Value> {
        self.template.as_ref()
    }

    /// The channels of addresses that are filled in from the event, with their pointers.
    pub(super) fn filled_channels(&self) -> Vec<(String, String)> {
        let targets = self.targets.iter().enumerate();
        let named = targets.filter(|(_, target)| target.literal().is_none());
        let channels = named.filter_map(|(index, target)| {
            let channel = target.member("address")?.member("channel")?.literal()?;
            Some((
                format!("/targets/{index}/address/channel"),
                channel.as_str()?.to_owned(),
            ))
        });
        channels.collect()
    }
}

/// Whether a target is of one kind.
fn names_one(target: &Tree) -> bool {
    let kinds = ["user", "topic", "address", "segment"];
    let Tree::Object(members) = target else {
        return false;
    };
    let [(name, value)] = members.as_slice() else {
        return false;
    };
    let known = kinds.contains(&name.as_str());
    known && (name != "address" || (value.member("channel").is_some() && value.member("to").is_some()))
}

fn needs(what: &str, path: &Path) -> String {
    format!("the rule's {what} needs `{path}`, and nothing stands there")
}
