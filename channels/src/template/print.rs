//! How values are printed, and where printing ends.

use std::io;

use minijinja::{Error, ErrorKind, Output, State, Value, escape_formatter, value::ValueKind};

/// Prints text and numbers, `true` and `false`; null prints nothing. Lists and objects are not for people: they need a
/// loop or a filter.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => escape_formatter(out, state, value),
        ValueKind::Bool => {
            let word = if value.is_true() { "true" } else { "false" };
            escape_formatter(out, state, &Value::from(word))
        }
        ValueKind::None | ValueKind::Undefined => Ok(()),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a {kind} cannot be printed: use a loop, or the filter join or json"),
        )),
    }
}

/// Text that may become so long and no longer.
pub(super) struct Bounded {
    text: Vec<u8>,
    limit: usize,
}

impl Bounded {
    /// Takes `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            text: Vec::new(),
            limit,
        }
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        String::from_utf8(self.text).unwrap_or_else(|error| {
            // Only whole strings are written.
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
