//! JSON bodies.

use std::borrow::Cow;

use axum::extract::{FromRequest, OptionalFromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use super::{
    FieldError, Problem,
    objects::{EXPECTED, Objects},
    read_body, strict_json,
};
use crate::misfit::misfit;

/// A request's JSON body.
///
/// Refused with 415 when its type is another, 413 and 408 when it is too large or too slow, 400 when it is not JSON,
/// nested deeper than 64 or has a key twice, and 422 with a JSON pointer when it does not fit `T`. `T` should have
/// `#[serde(deny_unknown_fields)]`.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<S, T> FromRequest<S> for ApiJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        parse_json(&read_body(request).await?).map(Self)
    }
}

/// As [`ApiJson`], with the body's bytes as they came: what an idempotency key's fingerprint is made of.
#[derive(Debug, Clone)]
pub struct ApiJsonBytes<T>(pub T, pub Bytes);

impl<S, T> FromRequest<S> for ApiJsonBytes<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request).await?;
        Ok(Self(parse_json(&bytes)?, bytes))
    }
}

/// `None` when the request has no body.
impl<S, T> OptionalFromRequest<S> for ApiJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        if typed {
            require_json(request.headers())?;
        }
        let body = read_body(request).await?;
        if body.is_empty() {
            return Ok(None);
        }
        if !typed {
            return Err(not_json());
        }
        parse_json(&body).map(|value| Some(Self(value)))
    }
}

fn not_json() -> Problem {
    Problem::unsupported_media_type("The body must be application/json.")
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(not_json()),
    }
}

/// Reads strict JSON into `T`, as [`ApiJson`] does; for bodies that come another way (an rpc over WebSocket).
///
/// # Errors
/// 400 when the text is not JSON, 422 with a JSON pointer when it does not fit `T`.
pub fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    strict_json::check(text)?;
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::field("", EXPECTED));
    }
    fit(text, "").map_err(|error| Problem::invalid(vec![error]))
}

/// Whether a text is strict JSON of any kind, as [`ApiJson`] asks for it; for bodies that are no object, or not all JSON.
///
/// # Errors
/// 400 when it is not JSON, nested deeper than 64 or has a key twice.
pub fn check_json(text: &[u8]) -> Result<(), Problem> {
    strict_json::check(text)
}

/// Reads a part of a strict JSON text that was captured as it came: an item of a list of which every item's fault is
/// to be told. `at` is the JSON pointer to it.
///
/// # Errors
/// What does not fit `T`, and where.
pub fn parse_part<T: DeserializeOwned>(text: &RawValue, at: &str) -> Result<T, FieldError> {
    fit(text.get().as_bytes(), at)
}

/// Reads JSON into `T`; `at` is the pointer to the text.
fn fit<T: DeserializeOwned>(text: &[u8], at: &str) -> Result<T, FieldError> {
    // Keeping track of the path costs more than reading again, and most bodies fit.
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    if let Ok(value) = T::deserialize(Objects(&mut deserializer)) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let error = match serde_path_to_error::deserialize(Objects(&mut deserializer)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut pointer = at.to_owned();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => push_segment(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_segment(&mut pointer, key),
            Segment::Enum { variant } => push_segment(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    let inner = error.inner();
    let message = inner.to_string();
    let place = format!(" at line {} column {}", inner.line(), inner.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    Err(explain(pointer, message))
}

/// serde's words, made readable; a missing field is pointed at where it should be.
fn explain(mut pointer: String, message: &str) -> FieldError {
    if let Some(field) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        push_segment(&mut pointer, field);
        return FieldError::new(pointer, "required");
    }
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((field, expected)) = rest.split_once('`')
    {
        if pointer.rsplit('/').next() != Some(escape(field).as_ref()) {
            push_segment(&mut pointer, field);
        }
        return FieldError::new(pointer, format!("unknown field{expected}"));
    }
    FieldError::new(pointer, shortened(&misfit(message)))
}

/// A message may quote the caller's text back: enough of it to recognise.
fn shortened(message: &str) -> String {
    const ENOUGH: usize = 240;
    match message.char_indices().nth(ENOUGH) {
        Some((at, _)) => format!("{}...", &message[..at]),
        None => message.to_owned(),
    }
}

/// Adds one reference token (RFC 6901).
pub(super) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&escape(segment));
}

fn escape(segment: &str) -> Cow<'_, str> {
    if segment.contains(['~', '/']) {
        Cow::Owned(segment.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(segment)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only their reading is looked at")]
    struct Order {
        content: Content,
        #[serde(default)]
        targets: Vec<Target>,
        #[serde(default)]
        priority: Option<Priority>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only their reading is looked at")]
    struct Content {
        title: String,
        ttl: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only their reading is looked at")]
    enum Target {
        User(String),
        Topic(String),
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Priority {
        Low,
        High,
    }

    fn fault(text: &str) -> (u16, String, String) {
        let problem = parse_json::<Order>(text.as_bytes()).expect_err("refused");
        let first = problem
            .errors
            .into_iter()
            .next()
            .unwrap_or_else(|| FieldError::new("", ""));
        (problem.status.as_u16(), first.pointer, first.detail.into_owned())
    }

    #[test]
    fn a_pointer_names_the_place() {
        let of = |text| {
            let (status, pointer, detail) = fault(text);
            assert_eq!(status, 422, "{text}");
            (pointer, detail)
        };
        assert_eq!(of("{}"), ("/content".to_owned(), "required".to_owned()));
        assert_eq!(of(r#"{"content": {}}"#).0, "/content/title");
        let said = |pointer: &str, detail: &str| (pointer.to_owned(), detail.to_owned());
        assert_eq!(
            of(r#"{"content": {"title": 1}}"#),
            said("/content/title", "expected a string")
        );
        assert_eq!(
            of(r#"{"content": {"title": "x", "ttl": -1}}"#),
            said("/content/ttl", "expected a whole number from 0 to 4294967295")
        );
        assert_eq!(
            of(r#"{"content": {"title": "x"}, "targets": 7}"#),
            said("/targets", "expected a list")
        );
        let (pointer, detail) = of(r#"{"content": {"title": "x", "t/l": 1}}"#);
        assert_eq!(pointer, "/content/t~1l");
        assert!(
            detail.starts_with("unknown field") && detail.contains("`title`"),
            "{detail}"
        );
        assert_eq!(of(r#"{"contents": 1}"#).0, "/contents");
        assert_eq!(
            of(r#"{"content": {"title": "x"}, "targets": [{"user": "a"}, {"user": 3}]}"#).0,
            "/targets/1/user"
        );
        let (pointer, detail) = of(r#"{"content": {"title": "x"}, "priority": "urgent"}"#);
        assert_eq!(
            (pointer.as_str(), detail.as_str()),
            ("/priority", "expected `low` or `high`")
        );
        assert_eq!(of("[]").0, "");
    }

    #[test]
    fn a_list_in_the_place_of_an_object_is_refused_at_any_depth() {
        let of = |text| fault(text);
        let expected = |pointer: &str| (422, pointer.to_owned(), EXPECTED.to_owned());
        assert_eq!(of(r#"["t"]"#), expected(""));
        assert_eq!(of(r#"{"content": ["t", 1]}"#), expected("/content"));

        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its reading is looked at")]
        struct Outer {
            #[serde(default)]
            maybe: Option<Content>,
            #[serde(default)]
            list: Vec<Content>,
            #[serde(default)]
            named: std::collections::HashMap<String, Content>,
            #[serde(default)]
            either: Option<Either>,
            #[serde(default)]
            pair: Option<(u8, u8)>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[expect(dead_code, reason = "only its reading is looked at")]
        enum Either {
            One(Content),
            Other { title: String },
        }
        let outer = |text: &str| parse_json::<Outer>(text.as_bytes()).map(drop);
        for good in [
            r#"{"maybe": {"title": "t"}, "list": [{"title": "t"}], "named": {"a": {"title": "t"}}}"#,
            r#"{"maybe": null, "pair": [1, 2], "either": {"one": {"title": "t"}}}"#,
            r#"{"either": {"other": {"title": "t"}}}"#,
        ] {
            assert_eq!(outer(good), Ok(()), "{good}");
        }
        for (bad, pointer) in [
            (r#"{"maybe": ["t", 1]}"#, "/maybe"),
            (r#"{"list": [{"title": "t"}, ["t", 1]]}"#, "/list/1"),
            (r#"{"named": {"a": ["t", 1]}}"#, "/named/a"),
            (r#"{"either": {"one": ["t", 1]}}"#, "/either/one"),
            (r#"{"either": {"other": ["t"]}}"#, "/either/other"),
        ] {
            let problem = outer(bad).expect_err(bad);
            assert_eq!(problem.errors, [FieldError::new(pointer, EXPECTED)], "{bad}");
        }
    }

    #[test]
    fn raw_json_beside_a_fault_does_not_hide_its_place() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its reading is looked at")]
        struct Publication {
            data: Box<RawValue>,
            ttl: u32,
        }
        #[derive(Debug, Deserialize)]
        struct Publications {
            all: Vec<Publication>,
        }
        let parse = |text: &str| {
            parse_json::<Publications>(format!("{{\"all\": {text}}}").as_bytes()).map(|read| read.all)
        };
        let good = parse(r#"[{"data": {"a": [1, 2]}, "ttl": 1}]"#).expect("fits");
        assert_eq!(good[0].data.get(), r#"{"a": [1, 2]}"#);
        let problem = parse(r#"[{"data": {"a": [1, 2]}, "ttl": "x"}]"#).expect_err("refused");
        assert_eq!(problem.errors[0].pointer, "/all/0/ttl");
        let problem = parse(r#"[{"data": {"a": 1, "a": 2}, "ttl": 1}]"#).expect_err("refused");
        assert_eq!(
            (problem.status.as_u16(), problem.errors[0].pointer.as_str()),
            (400, "/all/0/data/a")
        );
    }

    #[test]
    fn malformed_comes_before_invalid() {
        assert_eq!(fault(r#"{"unknown": 1, "a": }"#).0, 400);
        assert_eq!(fault(r#"{"content": {"title": "x", "title": "y"}}"#).0, 400);
    }

    #[test]
    fn long_input_is_not_quoted_back_whole() {
        let (_, _, detail) = fault(&format!("{{\"content\": \"{}\"}}", "x".repeat(10_000)));
        assert!(detail.len() < 300);
    }
}
