//! How events come over HTTP: structured, binary, in batches.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use carillon_runtime::http::{FieldError, Problem, check_json};
use http::{HeaderMap, header};
use serde_json::{Map, Value, value::RawValue};

use super::{
    MAX_EVENT,
    cloud_event::{CloudEvent, is_json},
    header::decode,
};

/// What attributes' headers begin with.
const PREFIX: &str = "ce-";

/// How a request carries events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One event, all of it in the body.
    Structured,
    /// One event, its attributes in headers.
    Binary,
    /// A list of events in the body.
    Batch,
}

impl Mode {
    /// By the type of the body, as the specification tells modes apart.
    ///
    /// # Errors
    /// 415 for a format of CloudEvents other than JSON, and for a body of no event.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        match essence.as_str() {
            "application/cloudevents+json" => Ok(Self::Structured),
            "application/cloudevents-batch+json" => Ok(Self::Batch),
            other if other.starts_with("application/cloudevents") => Err(Problem::unsupported_media_type(
                "Of the formats of CloudEvents only JSON is understood.",
            )),
            _ if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) => Ok(Self::Binary),
            _ => Err(Problem::unsupported_media_type(
                "An event is application/cloudevents+json, application/cloudevents-batch+json, or has its attributes in \
                 headers that begin with ce-.",
            )),
        }
    }
}

/// An event in the JSON format; `at` is the pointer to it. Its JSON was checked.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn structured(text: &RawValue, at: &str) -> Result<CloudEvent, Vec<FieldError>> {
    match serde_json::from_str(text.get()) {
        Ok(Value::Object(members)) => CloudEvent::check(members, at),
        _ => Err(vec![FieldError::new(at, "expected an object")]),
    }
}

/// An event whose attributes are headers. Pointers name them as members of the JSON format.
///
/// # Errors
/// 400 when its data should be JSON and is not, 413 when all of it is too large, 422 with what is wrong with it.
pub(crate) fn binary(headers: &HeaderMap, body: &Bytes) -> Result<CloudEvent, Problem> {
    let mut members = Map::new();
    let mut errors = Vec::new();
    let mut size = body.len();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        let mut fail = |detail: &'static str| errors.push(FieldError::new(format!("/{attribute}"), detail));
        if matches!(attribute, "datacontenttype" | "data" | "data_base64") {
            fail("is no header: the body and its Content-Type say it");
            continue;
        }
        let mut values = headers.get_all(name).iter();
        match (values.next().map(|value| decode(value.as_bytes())), values.next()) {
            (Some(Some(text)), None) => {
                size += attribute.len() + text.len();
                members.insert(attribute.to_owned(), text.into());
            }
            (Some(None), None) => fail("must be UTF-8 once it is percent-decoded"),
            _ => fail("must be one header"),
        }
    }
    let kind = headers.get(header::CONTENT_TYPE);
    if let Some(kind) = kind {
        match kind.to_str() {
            Ok(kind) => {
                members.insert("datacontenttype".to_owned(), kind.into());
            }
            Err(_) => errors.push(FieldError::new(
                "/datacontenttype",
                "must be a media type (RFC 2046)",
            )),
        }
    }
    if size > MAX_EVENT {
        return Err(Problem::too_large(MAX_EVENT));
    }
    if !body.is_empty() {
        let says_json = members
            .get("datacontenttype")
            .and_then(Value::as_str)
            .is_some_and(is_json);
        if says_json {
            check_json(body)?;
            let data = serde_json::from_slice(body).map_err(|error| Problem::internal(&error))?;
            members.insert("data".to_owned(), data);
        } else {
            members.insert("data_base64".to_owned(), STANDARD.encode(body).into());
        }
    }
    match CloudEvent::check(members, "") {
        Ok(event) if errors.is_empty() => Ok(event),
        Ok(_) => Err(Problem::invalid(errors)),
        Err(more) => {
            errors.extend(more);
            Err(Problem::invalid(errors))
        }
    }
}
