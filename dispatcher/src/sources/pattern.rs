//! Text patterns: text with places for what a payload says.
//!
//! `{path}` is what stands there; `{a ?? b ?? 'text'}` the first that is there and not empty; `{path | filter}` changes it.
//! `{{` and `}}` are braces. Filters: `line` (the first line), `short` (the first 7 characters), `branch` (without
//! `refs/heads/` or `refs/tags/`), `pairs` (an object as `a=1, b=2`), `list` (several, with commas).

use std::{io, str::FromStr};

use serde_json::Value;

use super::path::{Found, NoPath, Path, Scene};

/// The longest pattern.
const MAX_PATTERN: usize = 2_048;
/// The largest value that is taken as it is, in bytes of memory: more than what may be carried along ever takes.
const MAX_VALUE: usize = 512 * 1024;

/// Text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place {
        choices: Vec<Choice>,
        filters: Vec<Filter>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Path(Path),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Line,
    Short,
    Branch,
    Pairs,
    List,
}

impl Pattern {
    /// Whether it reads headers of the request.
    pub(crate) fn reads_headers(&self) -> bool {
        self.0.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Place { choices, .. } => choices
                .iter()
                .any(|choice| matches!(choice, Choice::Path(path) if path.header().is_some())),
        })
    }

    /// The text where it has no places.
    pub(crate) fn literal(&self) -> Option<String> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Place { .. } => None,
            })
            .collect()
    }

    /// The text, at most about `most` bytes of it.
    ///
    /// # Errors
    /// The first path of a place for which nothing stands in the payload.
    pub(crate) fn render(&self, scene: Scene<'_>, most: usize) -> Result<String, &Path> {
        let mut out = String::new();
        for part in &self.0 {
            let before = out.len();
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place { choices, filters } => fill(choices, filters, scene, most, &mut out)?,
            }
            scene.budget.pay(out.len() - before);
            // Bounded while it grows: a short pattern can name a long text many times.
            if out.len() > most {
                out.truncate(out.floor_char_boundary(most));
                return Ok(out);
            }
        }
        Ok(out)
    }

    /// The value itself where the pattern is one place alone, so that numbers stay numbers; else the text. Nothing where
    /// the value is too large to be carried along.
    pub(crate) fn value(&self, scene: Scene<'_>, most: usize) -> Option<Value> {
        if let [Part::Place { choices, filters }] = self.0.as_slice()
            && filters.is_empty()
            && let [Choice::Path(path)] = choices.as_slice()
            && let Found::Values(values) = path.find(scene)
        {
            let mut most = MAX_VALUE;
            return match values.as_slice() {
                [] => None,
                [one] => scene.budget.copy(one, &mut most),
                several => several
                    .iter()
                    .map(|value| scene.budget.copy(value, &mut most))
                    .collect(),
            };
        }
        self.render(scene, most).ok().map(Value::String)
    }
}

fn fill<'p>(
    choices: &'p [Choice],
    filters: &[Filter],
    scene: Scene<'_>,
    most: usize,
    out: &mut String,
) -> Result<(), &'p Path> {
    let mut missing = None;
    for choice in choices {
        let before = out.len();
        match choice {
            Choice::Text(text) => {
                out.push_str(text);
                return Ok(());
            }
            Choice::Path(path) => {
                match path.find(scene) {
                    Found::Header(text) => push(text, filters, before + most, out),
                    Found::Values(values) => several(&values, filters, scene, before + most, out),
                }
                if out.len() > before {
                    return Ok(());
                }
                missing = missing.or(Some(path));
            }
        }
    }
    missing.map_or(Ok(()), Err)
}

fn several(values: &[&Value], filters: &[Filter], scene: Scene<'_>, most: usize, out: &mut String) {
    let separator = if filters.contains(&Filter::List) {
        ", "
    } else {
        "\n"
    };
    let before = out.len();
    for value in values {
        let at = out.len();
        if at > before {
            out.push_str(separator);
        }
        let start = out.len();
        // To write the beginning of it, much of it is looked at.
        if !scene.budget.look(value) {
            return;
        }
        match value {
            Value::Null => {}
            Value::String(text) => push(text, filters, most, out),
            Value::Object(members) if filters.contains(&Filter::Pairs) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    if out.len() > most {
                        break;
                    }
                    out.push_str(if index == 0 { "" } else { ", " });
                    out.push_str(beginning(name, most));
                    out.push('=');
                    match value {
                        Value::String(text) => out.push_str(beginning(text, most)),
                        other => print(other, most, out),
                    }
                }
            }
            Value::Array(_) | Value::Object(_) => {
                let mut text = String::new();
                print(value, most, &mut text);
                push(&text, filters, most, out);
            }
            other => push(&other.to_string(), filters, most, out),
        }
        if out.len() == start {
            out.truncate(at);
        }
        if out.len() > most {
            return;
        }
    }
}

/// Writes a value as JSON, about as far as `most` bytes.
fn print(value: &Value, most: usize, out: &mut String) {
    struct Bounded<'o>(&'o mut Vec<u8>, usize);
    impl io::Write for Bounded<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1.saturating_sub(self.0.len()));
            if taken == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut json = Vec::new();
    // It fails only where it is cut off, which is meant.
    let _ = serde_json::to_writer(Bounded(&mut json, most), value);
    let whole = match std::str::from_utf8(&json) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&json[..error.valid_up_to()]).unwrap_or_default(),
    };
    out.push_str(whole);
}

/// What of a text can be shown: a little more than `most`, so that it is seen that there was more.
fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most.saturating_add(1))]
}

fn push(text: &str, filters: &[Filter], most: usize, out: &mut String) {
    let text = filters.iter().fold(text.trim(), |text, filter| match filter {
        Filter::Line => text.lines().next().unwrap_or_default().trim_end(),
        Filter::Short => text.get(..text.floor_char_boundary(7)).unwrap_or(text),
        Filter::Branch => text
            .strip_prefix("refs/heads/")
            .or_else(|| text.strip_prefix("refs/tags/"))
            .unwrap_or(text),
        Filter::Pairs | Filter::List => text,
    });
    out.push_str(beginning(text, most));
}

/// Why text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPattern {
    #[error("must be at most {MAX_PATTERN} bytes")]
    Long,
    #[error("a brace is not closed; {{{{ and }}}} stand for braces")]
    Brace,
    #[error("`{0}` is no filter: line, short, branch, pairs and list are")]
    Filter(String),
    #[error(transparent)]
    Path(#[from] NoPath),
}

impl FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        if text.len() > MAX_PATTERN {
            return Err(NoPattern::Long);
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(NoPattern::Brace);
            }
            let (inner, after) = after.split_once('}').ok_or(NoPattern::Brace)?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(place(inner)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

fn place(inner: &str) -> Result<Part, NoPattern> {
    let mut sections = inner.split('|');
    let choices = sections.next().unwrap_or_default().split("??").map(|choice| {
        let choice = choice.trim();
        match choice.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            Some(text) => Ok(Choice::Text(text.to_owned())),
            None => Ok(Choice::Path(choice.parse()?)),
        }
    });
    let choices = choices.collect::<Result<_, NoPattern>>()?;
    let filters = sections.map(|name| match name.trim() {
        "line" => Ok(Filter::Line),
        "short" => Ok(Filter::Short),
        "branch" => Ok(Filter::Branch),
        "pairs" => Ok(Filter::Pairs),
        "list" => Ok(Filter::List),
        other => Err(NoPattern::Filter(other.chars().take(40).collect())),
    });
    let filters = filters.collect::<Result<_, NoPattern>>()?;
    Ok(Part::Place { choices, filters })
}

impl<'de> serde::Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::{super::budget::Budget, *};

    fn render(pattern: &str, payload: &Value, most: usize) -> Result<String, String> {
        let headers = HeaderMap::new();
        let budget = Budget::new();
        let scene = Scene {
            headers: &headers,
            payload,
            item: payload,
            budget: &budget,
        };
        let pattern: Pattern = pattern.parse().expect(pattern);
        pattern.render(scene, most).map_err(ToString::to_string)
    }

    #[test]
    fn places_are_filled() {
        let payload = json!({
            "n": 3, "empty": "", "null": null, "text": "first\nsecond", "sha": "0123456789abcdef",
            "ref": "refs/heads/topic/x", "labels": {"b": 1, "a": "x"}, "list": [{"m": "one"}, {}, {"m": "two"}]
        });
        for (pattern, expected) in [
            ("{{{n}}}", "{3}"),
            ("{empty ?? null ?? absent ?? n}", "3"),
            ("{absent ?? 'none'}!", "none!"),
            ("{text | line}", "first"),
            ("{sha|short}", "0123456"),
            ("{ref | branch}", "topic/x"),
            ("{labels | pairs}", "a=x, b=1"),
            ("{labels}", r#"{"a":"x","b":1}"#),
            ("{list[*].m}", "one\ntwo"),
            ("{list[*].m | list}", "one, two"),
        ] {
            assert_eq!(
                render(pattern, &payload, 100).as_deref(),
                Ok(expected),
                "{pattern}"
            );
        }
        assert_eq!(render("a {absent} b", &payload, 100), Err("absent".to_owned()));
        assert_eq!(render("{empty}", &payload, 100), Err("empty".to_owned()));
    }

    #[test]
    fn a_text_is_cut_while_it_grows() {
        let payload = json!({"long": "\u{e9}".repeat(10_000), "list": vec!["x".repeat(1_000); 1_000]});
        let text = render(&"{long}{list[*]}".repeat(50), &payload, 101).expect("renders");
        assert_eq!(text.len(), 100, "at a character's boundary");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "{",
            "}",
            "{a",
            "a}",
            "{}",
            "{a b}",
            "{a | upper}",
            "{a ?? }",
            "{a ?? 'x}",
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert_eq!("x".repeat(3_000).parse::<Pattern>(), Err(NoPattern::Long));
    }
}
