//! One event and what it must be like (CloudEvents 1.0, `cloudevents/formats/json-format.md`). Everything that is wrong is
//! told at once, each with a JSON pointer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use carillon_domain::Timestamp;
use carillon_runtime::http::FieldError;
use serde_json::{Map, Value};

/// The longest id, source, subject and schema, in bytes: ids and sources are keys.
const MAX_NAME: usize = 1_024;
/// The longest type.
const MAX_TYPE: usize = 255;
/// The longest name of an attribute.
const MAX_ATTRIBUTE: usize = 64;
/// The most attributes beside those that the specification names.
const MAX_EXTENSIONS: usize = 64;

/// An event that is valid, in the JSON format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CloudEvent(Map<String, Value>);

impl CloudEvent {
    /// Takes the members of an event in the JSON format; `at` is the pointer to it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn check(mut members: Map<String, Value>, at: &str) -> Result<Self, Vec<FieldError>> {
        // An attribute that is null is one that is not there.
        members.retain(|name, value| name == "data" || !value.is_null());
        let mut check = Check {
            at,
            errors: Vec::new(),
        };
        match members.get("specversion").map(Value::as_str) {
            Some(Some("1.0")) => {}
            Some(_) => check.fail("specversion", "must be \"1.0\""),
            None => check.fail("specversion", "required"),
        }
        check.text(&members, "id", true, MAX_NAME);
        check.text(&members, "type", true, MAX_TYPE);
        check.formed(
            &members,
            "source",
            true,
            is_uri_reference,
            "must be a URI reference (RFC 3986)",
        );
        check.text(&members, "subject", false, MAX_NAME);
        check.formed(&members, "dataschema", false, is_uri, "must be a URI (RFC 3986)");
        check.formed(
            &members,
            "datacontenttype",
            false,
            is_media_type,
            "must be a media type (RFC 2046)",
        );
        check.formed(
            &members,
            "time",
            false,
            |text| Timestamp::parse(text).is_ok(),
            "must be an RFC 3339 date and time with an offset",
        );
        check.data(&members);
        check.extensions(&members);
        if check.errors.is_empty() {
            Ok(Self(members))
        } else {
            Err(check.errors)
        }
    }

    /// One that was checked when it came.
    pub(crate) fn stored(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// What its source calls it.
    pub(crate) fn id(&self) -> &str {
        self.text("id")
    }

    /// Where it happened.
    pub(crate) fn source(&self) -> &str {
        self.text("source")
    }

    /// What happened.
    pub(crate) fn kind(&self) -> &str {
        self.text("type")
    }

    /// In the JSON format.
    pub(crate) fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// What rules look at: the event with its data as JSON, wherever that is JSON at all.
    pub(crate) fn into_payload(mut self) -> Value {
        if self.says_json()
            && let Some(Value::String(encoded)) = self.0.get("data_base64")
            && let Ok(bytes) = STANDARD.decode(encoded)
            && let Ok(data) = serde_json::from_slice(&bytes)
        {
            self.0.insert("data".to_owned(), data);
        }
        Value::Object(self.0)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn says_json(&self) -> bool {
        let kind = self.0.get("datacontenttype").and_then(Value::as_str);
        kind.is_none_or(is_json)
    }
}

/// Whether a media type is that of JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

struct Check<'a> {
    at: &'a str,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn fail(&mut self, name: &str, detail: &'static str) {
        let name = name.replace('~', "~0").replace('/', "~1");
        self.errors
            .push(FieldError::new(format!("{}/{name}", self.at), detail));
    }

    /// A text that is not empty and has no characters that the type system forbids. Answers it.
    fn text<'m>(
        &mut self,
        members: &'m Map<String, Value>,
        name: &str,
        required: bool,
        most: usize,
    ) -> Option<&'m str> {
        let detail = match members.get(name) {
            None if required => "required",
            None => return None,
            Some(Value::String(text)) if text.is_empty() => "must not be empty",
            Some(Value::String(text)) if text.len() > most => {
                if most == MAX_TYPE {
                    "must be at most 255 bytes"
                } else {
                    "must be at most 1024 bytes"
                }
            }
            Some(Value::String(text)) if !text.chars().all(may_stand) => {
                "must have no control characters and no noncharacters"
            }
            Some(Value::String(text)) => return Some(text),
            Some(_) => "expected a string",
        };
        self.fail(name, detail);
        None
    }

    fn formed(
        &mut self,
        members: &Map<String, Value>,
        name: &str,
        required: bool,
        fits: impl Fn(&str) -> bool,
        detail: &'static str,
    ) {
        let text = self.text(members, name, required, MAX_NAME);
        if text.is_some_and(|text| !fits(text)) {
            self.fail(name, detail);
        }
    }

    fn data(&mut self, members: &Map<String, Value>) {
        let Some(encoded) = members.get("data_base64") else {
            return;
        };
        if members.contains_key("data") {
            self.fail("data_base64", "must not stand beside data");
        }
        let fits = encoded
            .as_str()
            .is_some_and(|encoded| STANDARD.decode(encoded).is_ok());
        if !fits {
            self.fail("data_base64", "must be base64 (RFC 4648) with its padding");
        }
    }

    fn extensions(&mut self, members: &Map<String, Value>) {
        const KNOWN: [&str; 10] = [
            "specversion",
            "id",
            "type",
            "source",
            "subject",
            "dataschema",
            "datacontenttype",
            "time",
            "data",
            "data_base64",
        ];
        let mut count = 0;
        for (name, value) in members.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
            count += 1;
            let named = matches!(name.len(), 1..=MAX_ATTRIBUTE)
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !named {
                self.fail(name, "an attribute's name is 1-64 characters of a-z and 0-9");
                continue;
            }
            match value {
                Value::Bool(_) => {}
                Value::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
                Value::Number(_) => self.fail(name, "must be a whole number of 32 bits"),
                Value::String(text) if text.chars().all(may_stand) => {}
                Value::String(_) => self.fail(name, "must have no control characters and no noncharacters"),
                _ => self.fail(name, "an attribute is a string, a whole number, true or false"),
            }
        }
        if count > MAX_EXTENSIONS {
            self.errors.push(FieldError::new(
                self.at,
                "must have at most 64 attributes of its own",
            ));
        }
    }
}

/// Whether a character may stand in an attribute (the specification's type `String`).
fn may_stand(c: char) -> bool {
    let point = u32::from(c);
    !c.is_control() && !(0xfdd0..=0xfdef).contains(&point) && point & 0xfffe != 0xfffe
}

/// Whether the characters are those of RFC 3986, and a colon in the first segment ends a scheme.
fn is_uri_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    let allowed = bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    });
    let first = text.split(['/', '?', '#']).next().unwrap_or_default();
    allowed && first.split_once(':').is_none_or(|(scheme, _)| is_scheme(scheme))
}

fn is_uri(text: &str) -> bool {
    is_uri_reference(text) && text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A type and a subtype; what follows as parameters is only looked at for characters that cannot stand there.
fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let named = essence
        .trim_end()
        .split_once('/')
        .is_some_and(|(kind, sub)| token(kind) && token(sub));
    named && parameters.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: Value) -> Result<CloudEvent, Vec<String>> {
        let Value::Object(members) = event else {
            panic!("an object");
        };
        CloudEvent::check(members, "")
            .map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn the_specification_s_own_examples_are_taken() {
        for event in [
            json!({
                "specversion": "1.0", "type": "com.github.pull_request.opened",
                "source": "https://github.com/cloudevents/spec/pull", "subject": "123", "id": "A234-1234-1234",
                "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
                "datacontenttype": "text/xml", "data": "<much wow=\"xml\"/>"
            }),
            json!({
                "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null,
                "id": "C234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
                "comexampleothervalue": 5, "datacontenttype": "application/json",
                "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}
            }),
            json!({
                "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "D234-1234-1234",
                "time": "2018-04-05T17:31:00Z", "datacontenttype": "application/vnd.apache.thrift.binary",
                "data_base64": "YmFzZTY0IGVuY29kZWQgYmluYXJ5IHBheWxvYWQ="
            }),
            json!({
                "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null,
                "id": "D234-1234-1234", "time": "2018-04-05T17:31:00Z", "data": "I'm just a string"
            }),
            json!({"specversion": "1.0", "id": "1", "type": "t", "source": "1-555-123-4567"}),
            json!({"specversion": "1.0", "id": "1", "type": "t", "source": "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"}),
            json!({"specversion": "1.0", "id": "1", "type": "t", "source": "mailto:cncf-wg-serverless@lists.cncf.io", "data": null}),
        ] {
            assert_eq!(check(event.clone()).map(drop), Ok(()), "{event}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let pointers = check(json!({
            "specversion": "0.3", "id": "", "type": 7, "source": "a b", "subject": "\u{7}", "time": "yesterday",
            "dataschema": "/relative", "datacontenttype": "json", "data": 1, "data_base64": "?",
            "Upper": "x", "list": [1], "large": 4_294_967_296_u64, "half": 0.5
        }))
        .expect_err("all wrong");
        let mut pointers = pointers;
        pointers.sort_unstable();
        let expected = [
            "/Upper",
            "/data_base64",
            "/data_base64",
            "/datacontenttype",
            "/dataschema",
            "/half",
            "/id",
            "/large",
            "/list",
            "/source",
            "/specversion",
            "/subject",
            "/time",
            "/type",
        ];
        assert_eq!(pointers, expected);
        let missing = check(json!({})).expect_err("nothing");
        assert_eq!(missing, ["/specversion", "/id", "/type", "/source"]);
    }

    #[test]
    fn rules_see_json_that_came_as_bytes() {
        let event = check(json!({
            "specversion": "1.0", "id": "1", "type": "t", "source": "s", "data_base64": "eyJhIjoxfQ=="
        }));
        assert_eq!(event.expect("valid").into_payload()["data"], json!({"a": 1}));
    }
}
