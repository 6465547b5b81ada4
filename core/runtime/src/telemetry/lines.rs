//! One event, one line, whatever is in it.
//!
//! Text of users ends up in fields. Here it cannot end a line, begin another or colour a terminal: in plain lines
//! control characters are written as escapes, in JSON they are part of a string.

use std::{
    error::Error,
    fmt::{self, Debug, Write as _},
    io,
};

use carillon_domain::{Clock as _, SystemClock};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::LogFormat;

/// Longer values are cut: a line is for reading.
const MAX_VALUE: usize = 4_096;

/// Writes events to `W`, with the fields of the spans that they are in.
pub(super) struct Lines<W> {
    format: LogFormat,
    writer: Mutex<W>,
}

impl<W: io::Write> Lines<W> {
    pub(super) fn new(format: LogFormat, writer: W) -> Self {
        Self {
            format,
            writer: Mutex::new(writer),
        }
    }
}

/// A span's or an event's fields.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, Value::String(cut(&format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::String(cut(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(
            field,
            i64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from),
        );
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(
            field,
            u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from),
        );
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.set(field, Value::String(cut(&text)));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: io::Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields
            .0
            .iter()
            .position(|(name, _)| *name == "message")
            .map(|at| fields.0.remove(at).1);
        let message = message.as_ref().and_then(Value::as_str).unwrap_or_default();
        // The nearest wins: an event's field before its span's, a span's before its parent's.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    if !fields.0.iter().any(|(known, _)| known == name) {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        let metadata = event.metadata();
        let now = SystemClock.now();
        let line = match self.format {
            LogFormat::Plain => plain(now, metadata, message, &fields),
            LogFormat::Json => json(now, metadata, message, fields),
        };
        // Nobody can be told that the log cannot be written.
        let _ = self.writer.lock().write_all(line.as_bytes());
    }
}

fn plain(now: impl fmt::Display, metadata: &tracing::Metadata<'_>, message: &str, fields: &Fields) -> String {
    let mut line = format!("{now} {:>5} {}: ", metadata.level(), metadata.target());
    escape(&mut line, message);
    for (name, value) in &fields.0 {
        let _ = write!(line, " {name}=");
        match value {
            Value::String(text) if is_word(text) => line.push_str(text),
            Value::String(text) => {
                line.push('"');
                escape(&mut line, &text.replace('\\', "\\\\").replace('"', "\\\""));
                line.push('"');
            }
            other => {
                let _ = write!(line, "{other}");
            }
        }
    }
    line.push('\n');
    line
}

/// Whether a value can stand without quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

/// Control characters of both ranges, line and paragraph separators and what turns the direction of text become
/// escapes.
fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

fn json(now: impl fmt::Display, metadata: &tracing::Metadata<'_>, message: &str, fields: Fields) -> String {
    let mut object = Map::new();
    for (name, value) in fields.0 {
        object.insert(name.to_owned(), value);
    }
    object.insert("time".to_owned(), now.to_string().into());
    object.insert("level".to_owned(), metadata.level().as_str().into());
    object.insert("target".to_owned(), metadata.target().into());
    object.insert("message".to_owned(), message.into());
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat) -> String {
        let written = Written::default();
        let subscriber = tracing_subscriber::registry().with(Lines::new(format, written.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _span =
                tracing::info_span!("request", trace_id = "abc", user = tracing::field::Empty).entered();
            tracing::Span::current().record("user", "a\nb");
            let error = io::Error::other("bad\r\n2026-01-01T00:00:00Z ERROR root: forged");
            tracing::warn!(
                error = &error as &dyn Error,
                count = 3,
                title = "\u{1b}[31mred\" x=\u{9b}1m",
                "it\nfailed"
            );
        });
        String::from_utf8(written.0.lock().clone()).expect("text")
    }

    #[test]
    fn text_of_users_cannot_forge_a_plain_line() {
        let line = log(LogFormat::Plain);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains(['\r', '\u{1b}', '\u{9b}']), "{line:?}");
        assert!(line.contains("it\\nfailed error=\"bad\\r\\n2026"), "{line}");
        assert!(
            line.contains(" count=3 title=\"\\u{1b}[31mred\\\" x=\\u{9b}1m\" trace_id=abc user=\"a\\nb\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_json_line_is_one_object_with_the_trace_id() {
        let line = log(LogFormat::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let object: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(object["trace_id"], "abc");
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "it\nfailed");
        assert_eq!(object["count"], 3);
    }
}
