//! What templates can do with values. Everything that makes text pays for it.

use minijinja::{
    Environment, Error, HtmlEscape, State, Value, filters,
    value::{Rest, ValueKind},
};
use url::Url;

use super::{
    MAX_DATA, calendar,
    data::list,
    meter, number,
    text::{invalid, text},
};

/// Filters that there are.
pub(super) const FILTERS: [&str; 30] = [
    "abs",
    "capitalize",
    "contains",
    "count",
    "d",
    "date",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "json",
    "last",
    "length",
    "limit",
    "linebreaks",
    "lower",
    "number",
    "plus",
    "replace",
    "round",
    "safe_css",
    "safe_url",
    "times",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
];

/// Tests that there are.
pub(super) const TESTS: [&str; 15] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "even",
    "false",
    "integer",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
];

/// Functions that there are.
pub(super) const FUNCTIONS: [&str; 2] = ["concat", "range"];

/// The longest range.
const MAX_RANGE: i64 = 1_000;

/// Adds all of it.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("capitalize", capitalize);
    environment.add_filter("contains", contains);
    environment.add_filter("count", length);
    environment.add_filter("d", filters::default);
    environment.add_filter("date", date);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", items);
    environment.add_filter("join", join);
    environment.add_filter("json", json);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", length);
    environment.add_filter("limit", limit);
    environment.add_filter("linebreaks", linebreaks);
    environment.add_filter("lower", lower);
    environment.add_filter("number", number_filter);
    environment.add_filter("plus", number::plus);
    environment.add_filter("replace", replace);
    environment.add_filter("round", round);
    environment.add_filter("safe_css", safe_css);
    environment.add_filter("safe_url", safe_url);
    environment.add_filter("times", number::times);
    environment.add_filter("title", title);
    environment.add_filter("trim", trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("upper", upper);
    environment.add_filter("urlencode", urlencode);

    use minijinja::tests;
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);

    environment.add_function("concat", concat);
    environment.add_function("range", range);
}

fn lower(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    made(state, text(value)?.to_lowercase())
}

fn upper(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    made(state, text(value)?.to_uppercase())
}

fn capitalize(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = text(value)?;
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    made(state, first + &chars.as_str().to_lowercase())
}

fn title(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    made(state, filters::title(text(value)?))
}

fn trim(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    made(state, text(value)?.trim().to_owned())
}

/// At most `length` characters, of which the last are `end` where something was cut off.
fn truncate(
    state: &mut State<'_, '_>,
    value: &Value,
    length: usize,
    end: Option<&str>,
) -> Result<String, Error> {
    let (text, end) = (text(value)?, end.unwrap_or("…"));
    meter::charge(state, text.len().min(length.saturating_mul(4)) + end.len())?;
    match text.char_indices().nth(length) {
        None => Ok(text.into_owned()),
        Some(_) => {
            let kept = length.saturating_sub(end.chars().count());
            let cut = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
            Ok(format!("{}{end}", text[..cut].trim_end()))
        }
    }
}

fn replace(state: &mut State<'_, '_>, value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = text(value)?;
    if from.is_empty() {
        return Err(invalid("replace needs something to replace"));
    }
    // Paid for before it is made.
    let hits = text.matches(from).count();
    meter::charge(state, text.len().saturating_add(hits.saturating_mul(to.len())))?;
    Ok(text.replace(from, to))
}

fn join(state: &mut State<'_, '_>, value: &Value, joiner: Option<&str>) -> Result<String, Error> {
    let joiner = joiner.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in value.try_iter()?.enumerate() {
        let item = text(&item)?.into_owned();
        let before = if index == 0 { "" } else { joiner };
        meter::charge(state, before.len() + item.len() + 1)?;
        joined.push_str(before);
        joined.push_str(&item);
    }
    Ok(joined)
}

fn concat(state: &mut State<'_, '_>, parts: Rest<Value>) -> Result<String, Error> {
    let mut joined = String::new();
    for part in parts.iter() {
        let part = text(part)?;
        meter::charge(state, part.len())?;
        joined.push_str(&part);
    }
    Ok(joined)
}

fn range(state: &mut State<'_, '_>, from: i64, to: Option<i64>) -> Result<Value, Error> {
    let (from, to) = to.map_or((0, from), |to| (from, to));
    if to.saturating_sub(from) > MAX_RANGE {
        return Err(invalid(format!("a range has at most {MAX_RANGE} numbers")));
    }
    meter::charge(
        state,
        usize::try_from(to.saturating_sub(from)).unwrap_or(0) * size_of::<Value>(),
    )?;
    Ok(list((from..to).map(Value::from).collect()))
}

/// Whether a text contains a text, a list an item, or an object a key.
fn contains(state: &mut State<'_, '_>, value: &Value, wanted: &Value) -> Result<bool, Error> {
    if let Some(text) = value.as_str() {
        meter::charge(state, text.len() / 8)?;
        let wanted = wanted.as_str();
        return wanted
            .map(|wanted| text.contains(wanted))
            .ok_or_else(|| invalid("a text contains only text"));
    }
    meter::charge(state, value.len().unwrap_or_default())?;
    if value.kind() == ValueKind::Map {
        return Ok(value.get_item(wanted).is_ok_and(|item| !item.is_undefined()));
    }
    Ok(value.try_iter()?.any(|item| item == *wanted))
}

/// The first `most` of a list.
fn limit(state: &mut State<'_, '_>, value: &Value, most: usize) -> Result<Value, Error> {
    let most = most.min(value.len().unwrap_or(usize::MAX)).min(MAX_DATA);
    meter::charge(state, most.saturating_mul(size_of::<Value>()))?;
    if value.as_str().is_some() {
        return Err(invalid("limit takes a list; truncate takes text"));
    }
    Ok(list(value.try_iter()?.take(most).collect()))
}

/// An object's entries as pairs.
fn items(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Map {
        return Err(invalid("items takes an object"));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        meter::charge(state, 4 * size_of::<Value>())?;
        let entry = value.get_item(&key)?;
        pairs.push(list(vec![key, entry]));
    }
    Ok(list(pairs))
}

fn length(state: &mut State<'_, '_>, value: &Value) -> Result<usize, Error> {
    // Characters are counted one by one.
    meter::charge(state, value.as_str().map_or(0, str::len) / 8)?;
    filters::length(value)
}

fn json(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(minijinja::ErrorKind::UndefinedError));
    }
    // Values are the caller's data, which is bounded; what is written is six times that at the most.
    let encoded = serde_json::to_string(value).map_err(|_| invalid("cannot be written as JSON"))?;
    made(state, encoded)
}

fn urlencode(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = text(value)?;
    meter::charge(state, text.len().saturating_mul(3))?;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Ok(encoded)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Lets addresses through that run nothing: `http`, `https`, `mailto`, `tel`, and paths within the same site.
fn safe_url(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = text(value)?;
    let clean = !text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\');
    let path = text.starts_with(['/', '#']) && !text.starts_with("//");
    let allowed = |url: Url| match url.scheme() {
        "http" | "https" => url.has_host(),
        scheme => matches!(scheme, "mailto" | "tel"),
    };
    if clean && (path || Url::parse(&text).is_ok_and(allowed)) {
        made(state, text.into_owned())
    } else {
        Err(invalid(
            "safe_url takes an http, https, mailto or tel address, or a path that begins with /",
        ))
    }
}

/// Lets plain CSS values through: `#1a2b3c`, `12px`, `bold`.
fn safe_css(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = text(value)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '#' | '%' | '.' | ',' | '-' | ' ');
    if text.len() <= 64 && text.chars().all(plain) {
        made(state, text.into_owned())
    } else {
        Err(invalid(
            "safe_css takes at most 64 characters of A-Z a-z 0-9 # % . , - and space",
        ))
    }
}

/// Escapes for HTML, and makes `<br>` of line breaks. Elsewhere the text stays as it is.
fn linebreaks(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let text = text(value)?;
    if !matches!(state.auto_escape(), minijinja::AutoEscape::Html) {
        return Ok(Value::from(made(state, text.into_owned())?));
    }
    meter::charge(state, text.len().saturating_mul(6))?;
    let escaped = HtmlEscape(&text).to_string();
    Ok(Value::from_safe_string(escaped.replace('\n', "<br>\n")))
}

fn round(value: Value, precision: Option<i32>) -> Result<Value, Error> {
    if precision.is_some_and(|precision| !(0..=12).contains(&precision)) {
        return Err(invalid("round takes 0 to 12 decimals"));
    }
    match value.kind() {
        ValueKind::Number if value.is_integer() => Ok(value),
        ValueKind::Number => {
            let number = f64::try_from(value)?;
            let scale = 10_f64.powi(precision.unwrap_or(0));
            let rounded = (number * scale).round() / scale;
            Ok(Value::from(if rounded.is_finite() { rounded } else { number }))
        }
        kind => Err(invalid(format!("expected a number, got a {kind}"))),
    }
}

fn number_filter(
    state: &mut State<'_, '_>,
    value: &Value,
    decimals: Option<usize>,
    thousands: Option<&str>,
    point: Option<&str>,
) -> Result<String, Error> {
    let printed = number::number(value, decimals, thousands, point)?;
    made(state, printed)
}

fn date(
    state: &mut State<'_, '_>,
    value: &Value,
    pattern: Option<&str>,
    zone: Option<&str>,
) -> Result<String, Error> {
    let printed = calendar::date(value, pattern, zone)?;
    made(state, printed)
}

/// Pays for text whose size is bounded by what it was made of.
fn made(state: &mut State<'_, '_>, text: String) -> Result<String, Error> {
    meter::charge(state, text.len())?;
    Ok(text)
}
