//! What is wrong, fit to show to whoever wrote the template.

use std::error::Error as _;

use carillon_domain::ports::TemplateFault;
use minijinja::{Error, ErrorKind};

/// The longest explanation in bytes, about.
const MAX_DETAIL: usize = 500;

/// A fault of `form`.
pub(super) fn fault(form: &str, detail: impl Into<String>) -> TemplateFault {
    let mut detail = detail.into();
    if detail.len() > MAX_DETAIL {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        detail.push('…');
    }
    TemplateFault {
        form: form.to_owned(),
        detail,
    }
}

/// A fault at a line of `form`, from 1.
pub(super) fn fault_at(form: &str, line: usize, detail: impl std::fmt::Display) -> TemplateFault {
    fault(form, format!("line {line}: {detail}"))
}

/// What the engine said, where it said it: an include's fault is the partial's.
pub(super) fn engine_fault(form: &str, limit: usize, error: &Error) -> TemplateFault {
    let mut inner = error;
    while matches!(inner.kind(), ErrorKind::BadInclude | ErrorKind::EvalBlock)
        && let Some(source) = inner.source().and_then(|source| source.downcast_ref::<Error>())
    {
        inner = source;
    }
    let form = match inner.name() {
        Some(name) if name.starts_with('/') => name.to_owned(),
        Some(name) if !name.starts_with('<') => format!("/partials/{name}"),
        _ => form.to_owned(),
    };
    let detail = match (inner.kind(), inner.detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too many steps".to_owned(),
        (ErrorKind::WriteFailure, _) => format!("gives more than {limit} bytes"),
        (ErrorKind::UndefinedError, None) => "uses a value that is not there".to_owned(),
        (kind, None) => kind.to_string(),
        (ErrorKind::InvalidOperation | ErrorKind::SyntaxError, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    };
    match inner.line() {
        Some(line) if line > 0 => fault_at(&form, line, detail),
        _ => fault(&form, detail),
    }
}

/// One fault to answer with.
pub(super) fn first(faults: Vec<TemplateFault>) -> TemplateFault {
    faults
        .into_iter()
        .next()
        .unwrap_or_else(|| fault("", "cannot be used"))
}
