//! Paths: where in a tool's payload something stands.
//!
//! `labels.alertname`, `commits[0].id`, `commits[*].message`, `labels["a.b"]`. A path begins at the item; after `$` at the
//! whole payload; `.` is the item itself; `@x-github-event` is a header of the request.

use std::{fmt, str::FromStr};

use http::HeaderMap;
use serde_json::Value;

use super::budget::Budget;

/// The longest path.
const MAX_PATH: usize = 256;
/// The most values that one path gives.
const MAX_VALUES: usize = 1_000;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    start: Start,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Start {
    Item,
    Payload,
    /// A header of the request, lower case.
    Header(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
    Every,
}

/// What paths look into.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) payload: &'a Value,
    /// What one notification is made of: a part of the payload, or all of it.
    pub(crate) item: &'a Value,
    /// What may still be made of the payload.
    pub(crate) budget: &'a Budget,
}

/// What a path found.
pub(crate) enum Found<'a> {
    Values(Vec<&'a Value>),
    Header(&'a str),
}

impl Path {
    /// What stands there; nothing when it is absent.
    pub(crate) fn find<'a>(&self, scene: Scene<'a>) -> Found<'a> {
        let start = match &self.start {
            Start::Item => scene.item,
            Start::Payload => scene.payload,
            Start::Header(name) => {
                let value = scene.headers.get(name).and_then(|value| value.to_str().ok());
                return value.map_or(Found::Values(Vec::new()), Found::Header);
            }
        };
        let mut values = vec![start];
        for step in &self.steps {
            values = values
                .into_iter()
                .flat_map(|value| step.of(value))
                .take(MAX_VALUES)
                .collect();
            if !scene.budget.visit(1 + values.len()) {
                return Found::Values(Vec::new());
            }
        }
        Found::Values(values)
    }

    /// As a JSON pointer, as far as it is one.
    pub(crate) fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) => {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                Step::Index(index) => {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                }
                Step::Every => break,
            }
        }
        pointer
    }

    /// Whether it begins at the whole payload.
    pub(crate) fn is_of_payload(&self) -> bool {
        self.start == Start::Payload
    }

    /// The header that it names.
    pub(crate) fn header(&self) -> Option<&str> {
        match &self.start {
            Start::Header(name) => Some(name),
            Start::Item | Start::Payload => None,
        }
    }

    /// Without the `[*]` at its end.
    pub(crate) fn list(&self) -> Self {
        let mut list = self.clone();
        if list.steps.last() == Some(&Step::Every) {
            list.steps.pop();
        }
        list
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Key(key) => value.get(key).into_iter().collect(),
            Self::Index(index) => value.get(index).into_iter().collect(),
            Self::Every => value
                .as_array()
                .map(|items| items.iter().take(MAX_VALUES).collect())
                .unwrap_or_default(),
        }
    }
}

/// Why text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path: write labels.name, commits[0].id, commits[*].id, labels[\"a.b\"], $.name or @header"
)]
pub(crate) struct NoPath(String);

impl FromStr for Path {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let refuse = || NoPath(text.chars().take(80).collect());
        if text.is_empty() || text.len() > MAX_PATH {
            return Err(refuse());
        }
        if let Some(name) = text.strip_prefix('@') {
            let valid = http::HeaderName::try_from(name).map_err(|_| refuse())?;
            // A credential is nobody's text.
            if crate::sources::is_credential(&valid) {
                return Err(refuse());
            }
            return Ok(Self {
                start: Start::Header(valid.as_str().to_owned()),
                steps: Vec::new(),
            });
        }
        let (start, mut rest) = match text.strip_prefix('$') {
            Some(rest) => (Start::Payload, rest),
            None => (Start::Item, text),
        };
        let mut steps = Vec::new();
        if rest == "." && start == Start::Item {
            return Ok(Self { start, steps });
        }
        let mut first = start == Start::Item;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracket(inner).ok_or_else(refuse)?;
                steps.push(step);
                rest = after;
            } else {
                let named = match rest.strip_prefix('.') {
                    Some(named) if !first => named,
                    None if first => rest,
                    _ => return Err(refuse()),
                };
                let end = named.find(['.', '[']).unwrap_or(named.len());
                let (name, after) = named.split_at(end);
                let plain = |c: char| !c.is_whitespace() && !"]{}|?'\"$@".contains(c);
                if name.is_empty() || !name.chars().all(plain) {
                    return Err(refuse());
                }
                steps.push(Step::Key(name.to_owned()));
                rest = after;
            }
            first = false;
        }
        Ok(Self { start, steps })
    }
}

/// What stands between brackets, and what comes after them.
fn bracket(inner: &str) -> Option<(Step, &str)> {
    if let Some(rest) = inner.strip_prefix('"') {
        let (key, after) = rest.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), after));
    }
    let (index, after) = inner.split_once(']')?;
    let step = match index {
        "*" => Step::Every,
        number if !number.is_empty() && number.len() <= 6 && number.bytes().all(|b| b.is_ascii_digit()) => {
            Step::Index(number.parse().ok()?)
        }
        _ => return None,
    };
    Some((step, after))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Item => {}
            Start::Payload => f.write_str("$")?,
            Start::Header(name) => return write!(f, "@{name}"),
        }
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '[', ' ']) => write!(f, "[\"{key}\"]")?,
                Step::Key(key) if index == 0 && self.start == Start::Item => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(at) => write!(f, "[{at}]")?,
                Step::Every => f.write_str("[*]")?,
            }
        }
        if self.steps.is_empty() && self.start == Start::Item {
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_what_stands_there() {
        let payload = json!({"name": "all", "items": [{"a.b": 1, "n": [{"m": "x"}, {"m": "y"}, {}]}]});
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", http::HeaderValue::from_static("push"));
        let budget = Budget::new();
        let scene = Scene {
            headers: &headers,
            payload: &payload,
            item: &payload["items"][0],
            budget: &budget,
        };
        let find = |text: &str| match text.parse::<Path>().expect(text).find(scene) {
            Found::Values(values) => values.into_iter().cloned().collect::<Vec<_>>(),
            Found::Header(text) => vec![json!(text)],
        };
        assert_eq!(find("[\"a.b\"]"), [json!(1)]);
        assert_eq!(find("n[*].m"), [json!("x"), json!("y")]);
        assert_eq!(find("n[1].m"), [json!("y")]);
        assert_eq!(find("$.name"), [json!("all")]);
        assert_eq!(find("$.items[0].n[0].m"), [json!("x")]);
        assert_eq!(find("@X-Kind"), [json!("push")]);
        assert_eq!(find("."), [payload["items"][0].clone()]);
        assert!(find("n[9].m").is_empty() && find("name").is_empty() && find("@x-other").is_empty());
    }

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for text in [
            "a",
            "a.b",
            "$",
            "$.a[0]",
            "a[*].b",
            "[\"a.b\"].c",
            "@x-kind",
            ".",
            "[3]",
        ] {
            let path: Path = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
        let path: Path = "a.b/c[2].d[*].e".parse().expect("a path");
        assert_eq!(path.pointer(), "/a/b~1c/2/d");
        for bad in [
            "",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a[",
            "a[x]",
            "a[-1]",
            "$a",
            "@",
            "@a b",
            "@authorization",
            "a[]",
        ] {
            assert!(bad.parse::<Path>().is_err(), "{bad}");
        }
    }
}
