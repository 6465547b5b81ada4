//! Mappings: what notifications a tool's payload becomes. Pure; the built-in ones are `kinds/*.json`.

use std::collections::BTreeMap;

use carillon_domain::Priority;
use carillon_runtime::http::FieldError;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    budget::Budget,
    condition::When,
    content::{Action, Body, ContentParts, MAX_TITLE, collapse_key, digest_key, targets_of},
    path::{Found, Path, Scene},
    pattern::Pattern,
    tree::Tree,
};
use crate::digest::sha256;

/// The most notifications that one payload becomes.
pub(super) const MAX_ITEMS: usize = 1_000;
/// The most rules of a mapping.
const MAX_RULES: usize = 64;
/// The most conditions of a rule.
const MAX_CONDITIONS: usize = 16;
/// The longest key.
const MAX_KEY: usize = 2_048;

const TOO_MUCH: &str =
    "the mapping makes too much of this payload: its places name large parts of it, again and again";

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
    digest_key: Option<Pattern>,
    category: Option<Pattern>,
    priority: Option<Priority>,
    ttl: Option<i64>,
    actions: Option<Vec<Action>>,
    data: Option<BTreeMap<String, Tree>>,
    /// In the place of the source's.
    targets: Option<Vec<Tree>>,
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
    /// What stands for it where a signature vouches for it, whatever became of it.
    pub(super) bound: Option<String>,
}

impl Mapped {
    fn new(at: String, what: What) -> Self {
        Self {
            at,
            what,
            bound: None,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// A request as `POST /v1/notifications` takes it.
    Notify { request: Value, key: Option<String> },
    /// Nothing is sent, and why.
    Ignored(String),
    /// The mapping does not find what it needs.
    Unfit(FieldError),
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
            if let Some(detail) = rule.body.as_ref().and_then(Body::wrong) {
                fail(format!("{at}/rules/{index}/body"), detail);
            }
        }
        errors
    }

    /// Keys for what a signature vouches for: it covers the body and no header. A key that reads headers would be another
    /// with each header that somebody writes over a body that he has seen; so the body itself is the key then. Also of what
    /// is ignored: under another header it might not be.
    pub(super) fn bind_keys(&self, body: &[u8], mapped: &mut [Mapped]) {
        if self.key.as_ref().is_none_or(Pattern::reads_headers) {
            let digest = hex::encode(sha256(body));
            for Mapped { at, bound, .. } in mapped {
                *bound = Some(format!("{digest}{at}"));
            }
        }
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
        let budget = Budget::new();
        let whole = Scene {
            headers,
            payload,
            item: payload,
            budget: &budget,
        };
        let Some(each) = &self.each else {
            let mapped = self.item(String::new(), whole, base);
            if budget.is_spent() {
                return Err(vec![FieldError::new("", TOO_MUCH)]);
            }
            return mapped.map(|mapped| vec![mapped]).map_err(|error| vec![error]);
        };
        let list = each.list();
        let at = list.pointer();
        let items = match list.find(whole) {
            Found::Values(values) => values.into_iter().next().and_then(Value::as_array),
            Found::Header(_) => None,
        };
        let items =
            items.ok_or_else(|| vec![FieldError::new(at.clone(), "the mapping expects a list here")])?;
        let mut mapped = Vec::with_capacity(items.len().min(MAX_ITEMS));
        for (index, item) in items.iter().take(MAX_ITEMS).enumerate() {
            let at = format!("{at}/{index}");
            let one = self.item(at.clone(), Scene { item, ..whole }, base);
            if budget.is_spent() {
                return Err(vec![FieldError::new(at, TOO_MUCH)]);
            }
            mapped.push(one.unwrap_or_else(|error| Mapped::new(at, What::Unfit(error))));
        }
        if items.len() > MAX_ITEMS {
            mapped.push(Mapped::new(
                format!("{at}/{MAX_ITEMS}"),
                What::Ignored(format!(
                    "from here on: at most {MAX_ITEMS} items are taken at once"
                )),
            ));
        }
        Ok(mapped)
    }

    fn item(&self, at: String, scene: Scene<'_>, base: &Base<'_>) -> Result<Mapped, FieldError> {
        let Some(rule) = self.rules.iter().find(|rule| rule.when.holds(scene)) else {
            let what = What::Ignored("no rule of the mapping is for it".to_owned());
            return Ok(Mapped::new(at, what));
        };
        if let Some(why) = &rule.ignore {
            let why = why
                .render(scene, MAX_TITLE)
                .unwrap_or_else(|_| "the mapping ignores it".to_owned());
            return Ok(Mapped::new(at, What::Ignored(why)));
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
        Ok(Mapped::new(at, What::Notify { request, key }))
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
        let content = ContentParts {
            title: self.title.as_ref().or(defaults.title.as_ref()),
            body: self.body.as_ref().or(defaults.body.as_ref()),
            url: self.url.as_ref().or(defaults.url.as_ref()),
            icon: self.icon.as_ref().or(defaults.icon.as_ref()),
            actions: self.actions.as_deref().or(defaults.actions.as_deref()),
        };
        let data = defaults.data.iter().chain(&self.data).flatten();
        let content = content.render(data, scene)?;
        let targets = self.targets.as_ref().or(defaults.targets.as_ref());
        let targets = targets
            .map(|trees| targets_of(trees, scene))
            .filter(|found| !found.is_empty());
        let mut request = Map::new();
        request.insert("content".to_owned(), Value::Object(content));
        let targets = match targets {
            Some(targets) => Value::Array(targets),
            None => scene
                .budget
                .copy(base.targets, &mut { usize::MAX })
                .unwrap_or_default(),
        };
        request.insert("targets".to_owned(), targets);
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
        let key = self.digest_key.as_ref().or(defaults.digest_key.as_ref());
        if let Some(key) = text(key, MAX_KEY) {
            request.insert("digest_key".to_owned(), digest_key(&key).into());
        }
        Ok(Value::Object(request))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::{
        super::content::{MAX_BODY, MAX_TARGETS},
        *,
    };

    /// Unoptimised, on a busy machine.
    const SOON: Duration = Duration::from_secs(10);

    fn apply(mapping: Value, payload: &Value) -> Result<Vec<Mapped>, Vec<FieldError>> {
        let mapping: Mapping = serde_json::from_value(mapping).expect("a mapping");
        assert!(mapping.check("").is_empty());
        let begun = Instant::now();
        let base = Base {
            targets: &json!([{"user": "ada"}]),
            category: "ci",
            fixed_category: false,
            channels: None,
            priority: None,
        };
        let mapped = mapping.apply(&HeaderMap::new(), payload, &base);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        mapped
    }

    fn first(mapped: Vec<Mapped>) -> Value {
        match mapped.into_iter().next().map(|one| one.what) {
            Some(What::Notify { request, .. }) => request,
            what => panic!("{what:?}"),
        }
    }

    fn too_much(mapped: Result<Vec<Mapped>, Vec<FieldError>>) {
        let errors = mapped.expect_err("too much");
        assert!(
            errors[0].detail.starts_with("the mapping makes too much"),
            "{errors:?}"
        );
    }

    #[test]
    fn the_whole_payload_under_many_names_is_not_made_many_times() {
        let payload = json!(vec![0; 1_000_000]);
        let named = |place: &str| -> Map<String, Value> {
            (0..2_800).map(|n| (format!("a{n}"), place.into())).collect()
        };
        let whole = apply(json!({"rules": [{"title": "t", "data": named("{$}")}]}), &payload);
        // Each is refused after as much as could be carried along; together they are too much all the same.
        too_much(whole);
        too_much(apply(
            json!({"each": "$[*]", "rules": [{"title": "t", "data": named("{$}")}]}),
            &payload,
        ));
        too_much(apply(
            json!({"each": "$[*]", "rules": [{"title": "t", "data": {"list": vec![0; 10_000]}}]}),
            &payload,
        ));
    }

    #[test]
    fn text_of_a_large_value_is_cut_before_it_is_made() {
        let payload =
            json!({"l": vec![0; 200_000], "o": {"k": "x".repeat(1_000_000)}, "each": vec![1; 1_000]});
        let lines = vec!["{$.l}{$.o | pairs}{$.l}"; 32];
        let rules = json!([{"title": "{$.l}{$.o}", "body": lines, "url": "{$.o}", "icon": "{$.l}"}]);
        let mapped = apply(json!({"rules": rules}), &payload);
        let request = first(mapped.expect("fits"));
        let body = request["content"]["body"].as_str().expect("a body");
        assert_eq!(body.len(), MAX_BODY);
        assert!(body.starts_with("[0,0,0"), "{body:.20}");
        too_much(apply(json!({"each": "$.each[*]", "rules": rules}), &payload));
    }

    #[test]
    fn data_that_is_too_much_is_left_out_and_the_rest_is_sent() {
        let payload = json!({"large": "x".repeat(40_000), "many": vec![1; 10_000], "ok": 7});
        let request = first(
            apply(
                json!({"rules": [{"title": "t", "data": {"ok": "{ok}"}}]}),
                &payload,
            )
            .expect("fits"),
        );
        assert_eq!(request["content"]["data"], json!({"ok": 7}));
        let request = first(
            apply(
                json!({"rules": [{"title": "t", "data": {"a": "{large}", "ok": "{ok}"}}]}),
                &payload,
            )
            .expect("fits"),
        );
        assert_eq!(request["content"], json!({"title": "t"}));
    }

    #[test]
    fn more_targets_than_a_notification_has_are_not_collected() {
        let items: Vec<Value> = (0..1_000)
            .map(|n| {
                (0..300)
                    .map(|m| (format!("a{m}"), Value::from(format!("u{m}-{n}"))))
                    .collect()
            })
            .collect();
        let trees: Vec<Value> = (0..300)
            .map(|m| json!({"user": format!("{{$.items[*].a{m}}}")}))
            .collect();
        let payload = json!({"items": items});
        let request =
            first(apply(json!({"rules": [{"title": "t", "targets": trees}]}), &payload).expect("fits"));
        let targets = request["targets"].as_array().expect("targets");
        assert_eq!(targets.len(), MAX_TARGETS + 1, "so that it is refused");
        assert_eq!(targets[0], json!({"user": "u0-0"}));
        // Nobody is named twice.
        let twice = json!([{"user": "{$.who[*]}"}, {"user": "{$.who[0]}"}, {"topic": "t"}]);
        let request = first(
            apply(
                json!({"rules": [{"title": "t", "targets": twice}]}),
                &json!({"who": ["ada", "bob", "ada"]}),
            )
            .expect("fits"),
        );
        assert_eq!(
            request["targets"],
            json!([{"user": "ada"}, {"user": "bob"}, {"topic": "t"}])
        );
    }

    #[test]
    fn colours_for_terminals_are_left_out_of_texts() {
        let payload = json!({"t": "\u{1b}[31mred", "b": "a\u{0}\u{1b}[0m\tb\r\nc"});
        let request =
            first(apply(json!({"rules": [{"title": "{t}", "body": "{b}"}]}), &payload).expect("fits"));
        assert_eq!(request["content"]["title"], " [31mred");
        assert_eq!(request["content"]["body"], "a[0m\tb\r\nc");
    }
}
