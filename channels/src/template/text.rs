//! Values as filters take them.

use std::borrow::Cow;

use minijinja::{Error, ErrorKind, Value, value::ValueKind};

/// A fault of a filter's input.
pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// Text, a number or a truth value as text; null as nothing.
pub(super) fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    match value.kind() {
        ValueKind::String => Ok(Cow::Borrowed(value.as_str().unwrap_or_default())),
        ValueKind::Number => Ok(Cow::Owned(value.to_string())),
        ValueKind::Bool if value.is_true() => Ok(Cow::Borrowed("true")),
        ValueKind::Bool => Ok(Cow::Borrowed("false")),
        ValueKind::None => Ok(Cow::Borrowed("")),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        kind => Err(invalid(format!("expected text, got a {kind}"))),
    }
}
