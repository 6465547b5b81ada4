//! What serde_json lets pass and we do not: a key twice in one object, and nesting deeper than 64.
//!
//! One pass over the whole text, borrowed where it can be; it also finds every syntax fault, so that a body is
//! malformed (400) before it can be invalid (422).

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::{FieldError, Problem, json::push_segment};
use crate::misfit::not_json;

/// How deep arrays and objects may nest.
pub(super) const MAX_DEPTH: u8 = 64;

/// Objects with more keys than this look them up in a set instead of comparing with each.
const LINEAR_KEYS: usize = 16;

/// Refuses what is not JSON, with a sentence for people.
///
/// # Errors
/// 400 `malformed_request`.
pub(super) fn check(text: &[u8]) -> Result<(), Problem> {
    let mut fault = Fault {
        what: None,
        path: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let result = Check {
        fault: &mut fault,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    let Err(error) = result else { return Ok(()) };
    Err(match fault.what {
        Some(what) => {
            let mut pointer = String::new();
            for segment in fault.path.iter().rev() {
                push_segment(&mut pointer, segment);
            }
            Problem {
                errors: vec![FieldError::new(pointer, what)],
                ..Problem::malformed("The body is not acceptable JSON.")
            }
        }
        None if text.is_empty() => Problem::malformed("The body is empty; JSON is expected."),
        None => Problem::malformed(format!("The body is not JSON: {}.", not_json(&error))),
    })
}

/// The first fault and, innermost first, where it is.
struct Fault {
    what: Option<&'static str>,
    path: Vec<String>,
}

/// Reads one value at a depth.
struct Check<'f> {
    fault: &'f mut Fault,
    depth: u8,
}

impl Check<'_> {
    fn deeper<E: serde::de::Error>(&mut self) -> Result<u8, E> {
        if self.depth >= MAX_DEPTH {
            self.fault.what = Some("nested deeper than 64");
            return Err(E::custom("too deep"));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        for index in 0_usize.. {
            match items.next_element_seed(Check {
                fault: self.fault,
                depth,
            }) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    self.fault.path.push(index.to_string());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        let mut few: Vec<Cow<'de, str>> = Vec::new();
        let mut many: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(Key(key)) = members.next_key_seed(KeySeed)? {
            let twice = if many.is_empty() {
                few.contains(&key)
            } else {
                many.contains(&key)
            };
            if twice {
                self.fault.what = Some("this key stands twice in one object");
                self.fault.path.push(key.into_owned());
                return Err(A::Error::custom("a key twice"));
            }
            if let Err(error) = members.next_value_seed(Check {
                fault: self.fault,
                depth,
            }) {
                self.fault.path.push(key.into_owned());
                return Err(error);
            }
            if many.is_empty() && few.len() < LINEAR_KEYS {
                few.push(key);
            } else {
                many.extend(few.drain(..));
                many.insert(key);
            }
        }
        Ok(())
    }
}

struct Key<'de>(Cow<'de, str>);

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Option<String> {
        check(text.as_bytes()).err().map(|problem| {
            problem
                .errors
                .first()
                .map_or(String::new(), |e| e.pointer.clone())
        })
    }

    #[test]
    fn a_key_twice_is_found_at_any_depth_and_under_any_spelling() {
        assert_eq!(pointer(r#"{"a": 1, "b": {"a": 2}}"#), None);
        assert_eq!(pointer(r#"{"a": 1, "a": 2}"#).as_deref(), Some("/a"));
        assert_eq!(
            pointer(r#"{"x": [0, {"a/b": 1, "\u0061/b": 2}]}"#).as_deref(),
            Some("/x/1/a~1b")
        );
        let many: String = (0..40).map(|i| format!("\"k{i}\": 0, ")).collect();
        assert_eq!(pointer(&format!("{{{many}\"z\": 0}}")), None);
        assert_eq!(pointer(&format!("{{{many}\"k3\": 0}}")).as_deref(), Some("/k3"));
        assert_eq!(pointer(&format!("{{{many}\"k39\": 0}}")).as_deref(), Some("/k39"));
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(pointer(&deep(64)), None);
        assert!(pointer(&deep(65)).is_some());
        assert!(pointer(&deep(100_000)).is_some());
        for bad in [
            "",
            "nul",
            "NaN",
            "[1,]",
            "{\"a\":1}x",
            "{'a':1}",
            "\"\\ud800\"",
            "[1e999]",
            "\"\u{1}\"",
        ] {
            assert!(pointer(bad).is_some(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err());
        for good in ["null", "-1.5e3", "\"\\u00e9\"", " [ ] ", "18446744073709551616"] {
            assert_eq!(pointer(good), None, "{good}");
        }
    }
}
