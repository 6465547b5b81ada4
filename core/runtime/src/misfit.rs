//! What serde and its formats say of text that does not fit, in words for people who do not write Rust.

use std::borrow::Cow;

/// The bounds of Rust's whole numbers, which serde names by their types.
const WHOLE: [(&str, &str); 10] = [
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number that is not negative"),
    ("usize", "a whole number that is not negative"),
    ("i8", "a whole number from -128 to 127"),
    ("i16", "a whole number from -32768 to 32767"),
    ("i32", "a whole number from -2147483648 to 2147483647"),
    ("i64", "a whole number"),
    ("isize", "a whole number"),
];

/// What else serde calls by a name of its own.
const OTHERS: [(&str, &str); 13] = [
    ("f32", "a number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a borrowed string", "a string"),
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("map", "an object"),
    ("map with a single key", "an object with one key"),
    ("unit", "null"),
    ("value", "a value of another form"),
    ("variant identifier", "a string"),
    ("string or map", "a string, or an object with one key"),
    ("a string key", "a string"),
];

/// Says what a value should have been. `message` is serde's, without its place.
///
/// Sentences of our own types pass through; of serde's own what was found is left out, since the caller has it before
/// them, and what was expected is said in the words of JSON.
pub(crate) fn misfit(message: &str) -> Cow<'_, str> {
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((_, expected)) = rest.split_once("`, ")
    {
        return if expected == "there are no variants" {
            Cow::Borrowed("not expected")
        } else {
            Cow::Borrowed(expected)
        };
    }
    if let Some(field) = quoted(message, "missing field `") {
        return Cow::Owned(format!("`{field}` is required"));
    }
    if let Some(field) = quoted(message, "duplicate field `") {
        return Cow::Owned(format!("`{field}` stands twice"));
    }
    let is_serde_s = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .any(|start| message.starts_with(start));
    // The value found may hold the same words, the expectation does not.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if is_serde_s => Cow::Owned(format!("expected {}", expectation(expected))),
        _ => match message.strip_prefix("expected ").and_then(known) {
            Some(expected) => Cow::Owned(format!("expected {expected}")),
            None => Cow::Borrowed(message),
        },
    }
}

/// Says why a text is not JSON, and where: `it ends within a list (line 1, column 5)`.
pub fn not_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let (line, column) = (error.line(), error.column());
    let message = message
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&message);
    let reason = match message {
        "EOF while parsing a list" => "it ends within a list",
        "EOF while parsing an object" => "it ends within an object",
        "EOF while parsing a string" => "it ends within a string",
        "EOF while parsing a value" => "it ends where a value is expected",
        "expected value" => "a value is expected",
        "expected ident" => "true, false or null is expected",
        "expected `:`" => "a colon is expected after a key",
        "expected `,` or `]`" => "a comma or the end of the list is expected",
        "expected `,` or `}`" => "a comma or the end of the object is expected",
        "key must be a string" => "a key is a string",
        "trailing comma" => "a comma stands before the end of a list or an object",
        "trailing characters" => "something follows its end",
        "invalid escape" => "a string has an escape that does not exist",
        "invalid number" => "a number is malformed",
        "number out of range" => "a number is too large",
        "invalid unicode code point" => "it is not UTF-8",
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "a string has half a pair of \\u escapes"
        }
        other if other.starts_with("control character") => "a string has a control character as it is",
        other => other,
    };
    if line == 0 {
        reason.to_owned()
    } else {
        format!("{reason} (line {line}, column {column})")
    }
}

fn quoted<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.strip_suffix('`')
}

fn expectation(expected: &str) -> Cow<'_, str> {
    if let Some(known) = known(expected) {
        return Cow::Borrowed(known);
    }
    if let Some(size) = expected.strip_prefix("a tuple of size ") {
        return Cow::Owned(format!("a list of {size} items"));
    }
    if let Some(size) = expected.strip_prefix("an array of length ") {
        return Cow::Owned(format!("a list of {size} items"));
    }
    if expected.starts_with("struct ") {
        return Cow::Borrowed("an object");
    }
    if expected.starts_with("tuple struct ") {
        return Cow::Borrowed("a list");
    }
    if expected.starts_with("enum ") {
        return Cow::Borrowed("a string, or an object with one key");
    }
    Cow::Borrowed(expected)
}

fn known(expected: &str) -> Option<&'static str> {
    WHOLE
        .iter()
        .chain(&OTHERS)
        .find(|(name, _)| *name == expected)
        .map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, de::DeserializeOwned};

    use super::*;

    fn said<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let error = serde_json::from_str::<T>(text).expect_err(text);
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        misfit(message.strip_suffix(&place).unwrap_or(&message)).into_owned()
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its reading is looked at")]
    struct Order {
        title: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its reading is looked at")]
    enum Either {
        One(String),
        Two(String),
    }

    #[test]
    fn what_does_not_fit_is_told_without_the_names_of_types() {
        for (said, expected) in [
            (said::<i64>("\"x\""), "expected a whole number"),
            (said::<u32>("-1"), "expected a whole number from 0 to 4294967295"),
            (said::<u64>("1.5"), "expected a whole number that is not negative"),
            (
                said::<usize>("null"),
                "expected a whole number that is not negative",
            ),
            (said::<f64>("\"x\""), "expected a number"),
            (said::<bool>("1"), "expected true or false"),
            (said::<String>("[1]"), "expected a string"),
            (said::<Vec<u8>>("{}"), "expected a list"),
            (
                said::<std::collections::HashMap<String, u8>>("1"),
                "expected an object",
            ),
            (said::<(u8, u8)>("[1]"), "expected a list of 2 items"),
            (said::<Order>("\", expected i64\""), "expected an object"),
            (said::<Order>("{}"), "`title` is required"),
            (said::<Either>("\"three\""), "expected `one` or `two`"),
            (said::<Either>("{\"three\": 1}"), "expected `one` or `two`"),
            (said::<Either>("7"), "expected a value of another form"),
        ] {
            assert_eq!(said, expected);
        }
        let own = "expected an RFC 3339 date and time with an offset";
        assert_eq!(misfit(own), own);
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let said = |text: &str| not_json(&serde_json::from_str::<serde_json::Value>(text).expect_err(text));
        assert_eq!(
            said("[1, "),
            "it ends where a value is expected (line 1, column 4)"
        );
        assert_eq!(said("[1"), "it ends within a list (line 1, column 2)");
        assert_eq!(said("{\"a\": 1"), "it ends within an object (line 1, column 7)");
        assert_eq!(
            said("{\"a\": nul}"),
            "true, false or null is expected (line 1, column 10)"
        );
        for text in [
            "",
            "x",
            "[1,]",
            "{a:1}",
            "{\"a\" 1}",
            "[1 2]",
            "1 2",
            "\"\\x\"",
            "-",
            "1e999",
            "\"\n\"",
            "\"\\ud800\"",
        ] {
            let said = said(text);
            assert!(
                !said.contains("EOF") && !said.contains("ident") && !said.contains("hex"),
                "{text}: {said}"
            );
        }
    }
}
