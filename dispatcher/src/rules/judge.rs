//! What a rule makes of an event. Pure.

use carillon_domain::RuleName;
use carillon_runtime::http::{FieldError, parse_part};
use http::HeaderMap;
use serde_json::{Value, value::to_raw_value};

use super::{document::RuleDocument, matcher::Matcher, notify::Notify};
use crate::{
    sources::{Budget, Scene, When},
    store::rules::RuleRow,
};

/// Bytes that one rule may make of one event and look at, about: some sixty times the largest event.
const BYTES: usize = 4 * 1024 * 1024;
/// The longest description.
const MAX_DESCRIPTION: usize = 1_024;
/// The longest type and source.
const MAX_TYPE: usize = 255;
const MAX_SOURCE: usize = 1_024;
/// The most conditions.
const MAX_CONDITIONS: usize = 16;
/// The longest rule, as JSON.
const MAX_RULE: usize = 32 * 1024;

/// A rule as it is worked with.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleName,
    pub(crate) version: u64,
    pub(crate) enabled: bool,
    pub(crate) order: i32,
    kind: Matcher,
    source: Matcher,
    /// What it says of an event that it is for; or why it cannot be read any more.
    makes: Result<Makes, String>,
    /// As stored, in bytes.
    pub(super) size: usize,
}

/// What a rule says of an event that it is for.
#[derive(Debug)]
pub(super) struct Makes {
    when: When,
    pub(super) notify: Notify,
}

/// What a rule makes of an event that it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judged {
    /// A request as `POST /v1/notifications` takes it.
    Notify(Value),
    /// A condition does not hold.
    Unmatched(String),
    /// It cannot.
    Failed(String),
}

impl Rule {
    /// Reads a rule that was checked when it was saved.
    ///
    /// # Errors
    /// Where it is not for any event, since its patterns cannot be read.
    pub(crate) fn read(row: &RuleRow) -> Result<Self, String> {
        let document: RuleDocument = serde_json::from_str(&row.body).map_err(|error| error.to_string())?;
        Ok(Self {
            name: row.name.clone(),
            version: row.version,
            enabled: document.enabled,
            order: document.order,
            kind: Matcher::read(&document.kind, MAX_TYPE)?,
            source: Matcher::read(&document.source, MAX_SOURCE)?,
            makes: Makes::read(&document).map_err(|errors| {
                let first = errors.into_iter().next();
                let first = first.map(|error| format!("{}: {}", error.pointer, error.detail));
                format!("the rule cannot be read: {}", first.unwrap_or_default())
            }),
            size: row.body.len(),
        })
    }

    /// Makes a rule of a document, which need not be saved; `at` is the pointer to it.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as it itself says.
    pub(super) fn compile(
        name: RuleName,
        document: &RuleDocument,
        at: &str,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut fail = |place: &str, detail: String| {
            errors.push(FieldError::new(format!("{at}{place}"), detail));
        };
        let size = serde_json::to_string(document).map_or(usize::MAX, |text| text.len());
        if size > MAX_RULE {
            fail("", format!("must be at most {MAX_RULE} bytes"));
        }
        if document
            .description
            .as_ref()
            .is_some_and(|text| text.len() > MAX_DESCRIPTION)
        {
            fail("/description", format!("must be at most {MAX_DESCRIPTION} bytes"));
        }
        let kind = Matcher::read(&document.kind, MAX_TYPE).map_err(|detail| fail("/type", detail));
        let source = Matcher::read(&document.source, MAX_SOURCE).map_err(|detail| fail("/source", detail));
        let makes = Makes::read(document).map_err(|wrong| {
            for error in wrong {
                fail(&error.pointer, error.detail.into_owned());
            }
        });
        match (kind, source, makes) {
            (Ok(kind), Ok(source), Ok(makes)) if errors.is_empty() => Ok(Self {
                name,
                version: 0,
                enabled: document.enabled,
                order: document.order,
                kind,
                source,
                makes: Ok(makes),
                size,
            }),
            _ => Err(errors),
        }
    }

    /// Whether it is for events of this type from this source.
    pub(crate) fn is_for(&self, kind: &str, source: &str) -> bool {
        self.kind.covers(kind) && self.source.covers(source)
    }

    /// What it makes of an event: one in the JSON format, with its data as JSON.
    pub(crate) fn judge(&self, event: &Value) -> Judged {
        let makes = match &self.makes {
            Ok(makes) => makes,
            Err(why) => return Judged::Failed(why.clone()),
        };
        let headers = HeaderMap::new();
        let budget = Budget::of(BYTES);
        let scene = Scene {
            headers: &headers,
            payload: event,
            item: event.get("data").unwrap_or(&Value::Null),
            budget: &budget,
        };
        if let Some(path) = makes.when.unmet(scene) {
            return Judged::Unmatched(format!("`{path}` is not what the rule asks for"));
        }
        match makes.notify.request(scene) {
            Ok(request) => Judged::Notify(request),
            Err(why) => Judged::Failed(why),
        }
    }

    /// The notification as the rule has it, where that can be read.
    pub(super) fn notify(&self) -> Option<&Notify> {
        self.makes.as_ref().ok().map(|makes| &makes.notify)
    }
}

impl Makes {
    fn read(document: &RuleDocument) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let when = if document.when.is_null() {
            Some(When::default())
        } else {
            part::<When>(&document.when, "/when", &mut errors)
        };
        if let Some(when) = &when {
            if when.len() > MAX_CONDITIONS {
                errors.push(FieldError::new("/when", "must have at most 16 conditions"));
            }
            if when.reads_headers() {
                errors.push(FieldError::new(
                    "/when",
                    "an event has no headers: its attributes are $.name",
                ));
            }
        }
        let notify = part::<Notify>(&document.notify, "/notify", &mut errors);
        if let Some(notify) = &notify {
            errors.extend(notify.check("/notify"));
        }
        match (when, notify) {
            (Some(when), Some(notify)) if errors.is_empty() => Ok(Self { when, notify }),
            _ => Err(errors),
        }
    }
}

fn part<T: serde::de::DeserializeOwned>(value: &Value, at: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    let read = to_raw_value(value)
        .map_err(|error| FieldError::new(at, error.to_string()))
        .and_then(|raw| parse_part(&raw, at));
    read.map_err(|error| errors.push(error)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(rule: Value) -> Result<Rule, Vec<String>> {
        let document = serde_json::from_value(rule).expect("a document");
        Rule::compile("r".parse().expect("a name"), &document, "")
            .map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    fn shipped() -> Value {
        json!({
            "specversion": "1.0", "id": "1", "type": "order.shipped", "source": "/shop/eu", "subject": "o-7",
            "data": {"customer": "ada", "watchers": ["bob", "ada", "eve"], "total": 12.5, "due": "2026-01-03T08:00:00Z"}
        })
    }

    #[test]
    fn a_rule_is_for_types_and_sources_exactly_or_by_their_beginning() {
        let rule = |kind: &str, source: &str| {
            let notify = json!({"targets": [{"user": "ada"}], "content": {"title": "t"}});
            compile(json!({"type": kind, "source": source, "notify": notify})).expect("a rule")
        };
        for (kind, source, is_for) in [
            ("order.shipped", "*", true),
            ("order.*", "/shop/*", true),
            ("*", "/shop/eu", true),
            ("order", "*", false),
            ("order.shipped.late", "*", false),
            ("*", "/shop", false),
        ] {
            assert_eq!(
                rule(kind, source).is_for("order.shipped", "/shop/eu"),
                is_for,
                "{kind} {source}"
            );
        }
    }

    #[test]
    fn an_event_becomes_the_request_that_the_rule_says() {
        let rule = compile(json!({
            "type": "order.*", "when": {"total": {"not": null}, "$.subject": "o-*"},
            "notify": {
                "targets": [{"user": "{customer}"}, {"user": "{watchers[*]}"}, {"topic": "orders.{$.subject}"}, {"user": "{nobody}"}],
                "category": "orders", "content": {"title": "Order {$.subject} shipped", "data": {"total": "{total}"}},
                "collapse_key": "{$.subject}", "digest_key": "{$.subject}", "ttl": 60, "priority": "high", "send_at": "{due}", "channels": ["in_app"]
            }
        }));
        let expected = json!({
            "targets": [{"user": "ada"}, {"user": "bob"}, {"user": "eve"}, {"topic": "orders.o-7"}],
            "category": "orders", "content": {"title": "Order o-7 shipped", "data": {"total": 12.5}},
            "collapse_key": "o-7", "digest_key": "o-7", "ttl": 60, "priority": "high", "send_at": "2026-01-03T08:00:00Z", "channels": ["in_app"]
        });
        assert_eq!(rule.expect("a rule").judge(&shipped()), Judged::Notify(expected));
    }

    #[test]
    fn what_an_event_lacks_is_told() {
        let judge = |when: Value, mut notify: Value| {
            if notify.get("targets").is_none() {
                notify["targets"] = json!([{"user": "ada"}]);
            }
            compile(json!({"type": "*", "when": when, "notify": notify}))
                .expect("a rule")
                .judge(&shipped())
        };
        let title = json!({"content": {"title": "t"}});
        assert_eq!(
            judge(json!({"customer": "bob", "total": 12.5}), title.clone()),
            Judged::Unmatched("`customer` is not what the rule asks for".to_owned())
        );
        for (notify, word) in [
            (json!({"content": {"title": "{absent}"}}), "title"),
            (
                json!({"content": {"title": "t"}, "category": "{absent}"}),
                "category",
            ),
            (
                json!({"content": {"title": "t"}, "send_at": "{absent}"}),
                "send_at",
            ),
            (
                json!({"content": {"title": "t"}, "targets": [{"user": "{absent}"}]}),
                "no target",
            ),
        ] {
            match judge(Value::Null, notify.clone()) {
                Judged::Failed(why) => assert!(why.contains(word), "{why}"),
                other => panic!("{notify}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told_with_its_place() {
        let notify = json!({"targets": [{"user": "ada"}], "content": {"title": "t"}});
        for (rule, pointers) in [
            (
                json!({"type": "", "source": "a*b", "notify": notify}),
                vec!["/type", "/source"],
            ),
            (
                json!({"type": "t", "when": {"a b": 1}, "notify": notify}),
                vec!["/when/a b"],
            ),
            (
                json!({"type": "t", "when": {"@x-y": 1}, "notify": notify}),
                vec!["/when"],
            ),
            (
                json!({"type": "t", "notify": {"targets": [{"user": "a", "topic": "b"}, {"address": {"to": "x"}}]}}),
                vec!["/notify/content", "/notify/targets/0", "/notify/targets/1"],
            ),
            (
                json!({"type": "t", "notify": {"targets": [{"user": "{"}], "content": {"title": "t"}}}),
                vec!["/notify/targets/0"],
            ),
            (
                json!({"type": "t", "notify": {"targets": [], "content": {"title": "{@x-y}"}, "data": {}}}),
                vec!["/notify/data", "/notify/content/title"],
            ),
            (
                json!({"type": "t", "notify": {"targets": [], "contents": {}}}),
                vec!["/notify/contents"],
            ),
        ] {
            assert_eq!(compile(rule.clone()).expect_err("wrong"), pointers, "{rule}");
        }
    }
}
