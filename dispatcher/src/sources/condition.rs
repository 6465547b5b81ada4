//! Conditions: when a rule counts.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::path::{Found, Path, Scene};

/// All of them must hold: `{"status": "firing", "labels.severity": ["critical", "page"]}`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct When(HashMap<Path, Test>);

/// What may stand at a path.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Test {
    /// Absent, or null.
    Absent(()),
    /// Exactly this.
    Flag(bool),
    /// Exactly this.
    Number(serde_json::Number),
    /// This text; `*` at its end stands for any rest, alone for anything that is there.
    Text(String),
    /// One of these.
    Any(Vec<Test>),
    /// Anything else.
    Not { not: Box<Test> },
}

impl When {
    /// Whether all hold.
    pub(crate) fn holds(&self, scene: Scene<'_>) -> bool {
        self.0.iter().all(|(path, test)| stands(path, test, scene))
    }

    /// Where something else stands than is asked for; the first of several, by how paths are written.
    pub(crate) fn unmet(&self, scene: Scene<'_>) -> Option<String> {
        let unmet = self.0.iter().filter(|(path, test)| !stands(path, test, scene));
        unmet.map(|(path, _)| path.to_string()).min()
    }

    /// Whether it reads headers of the request.
    pub(crate) fn reads_headers(&self) -> bool {
        self.0.keys().any(|path| path.header().is_some())
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much is asked.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn stands(path: &Path, test: &Test, scene: Scene<'_>) -> bool {
    match path.find(scene) {
        Found::Header(text) => test.holds(Some(&Value::String(text.to_owned()))),
        Found::Values(values) if values.is_empty() => test.holds(None),
        Found::Values(values) => values.into_iter().any(|value| test.holds(Some(value))),
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        let value = value.filter(|value| !value.is_null());
        match (self, value) {
            (Self::Absent(()), value) => value.is_none(),
            (Self::Any(tests), value) => tests.iter().any(|test| test.holds(value)),
            (Self::Not { not }, value) => !not.holds(value),
            (Self::Flag(flag), Some(Value::Bool(value))) => flag == value,
            (Self::Number(number), Some(Value::Number(value))) => number == value,
            (Self::Text(text), Some(value)) => match (text.strip_suffix('*'), value) {
                (Some(""), _) => true,
                (Some(start), Value::String(value)) => value.starts_with(start),
                (None, Value::String(value)) => value == text,
                _ => false,
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::{super::budget::Budget, *};

    #[test]
    fn all_conditions_must_hold() {
        let payload = json!({"s": "firing", "b": true, "n": 2, "null": null, "l": [{"x": "a"}, {"x": "b"}]});
        let headers = HeaderMap::new();
        let budget = Budget::new();
        let holds = |when: Value| {
            let when: When = serde_json::from_value(when).expect("a condition");
            when.holds(Scene {
                headers: &headers,
                payload: &payload,
                item: &payload,
                budget: &budget,
            })
        };
        for yes in [
            json!({}),
            json!({"s": "firing", "b": true, "n": 2}),
            json!({"s": ["resolved", "firing"]}),
            json!({"s": "fir*"}),
            json!({"n": "*"}),
            json!({"absent": null, "null": null}),
            json!({"s": {"not": "resolved"}, "absent": {"not": "x"}}),
            json!({"l[*].x": "b"}),
            json!({"s": {"not": null}}),
        ] {
            assert!(holds(yes.clone()), "{yes}");
        }
        for no in [
            json!({"s": "resolved"}),
            json!({"s": "firing", "b": false}),
            json!({"absent": "*"}),
            json!({"null": "*"}),
            json!({"s": null}),
            json!({"b": "true"}),
            json!({"l[*].x": "c"}),
        ] {
            assert!(!holds(no.clone()), "{no}");
        }
    }
}
