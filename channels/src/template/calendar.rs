//! Dates for people, in their time zone. Patterns say what stands where and are not read from a locale: the words for days
//! and months, where a pattern asks for them, are English.

use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use minijinja::{Error, Value};

use super::text::invalid;

/// The longest pattern in bytes.
const MAX_PATTERN: usize = 64;

/// `{{ at|date("%d.%m.%Y %H:%M", "Europe/Berlin") }}`: `at` is RFC 3339 with an offset, or seconds since the Unix epoch.
/// Without arguments `%Y-%m-%d %H:%M` in UTC.
pub(super) fn date(value: &Value, pattern: Option<&str>, zone: Option<&str>) -> Result<String, Error> {
    let at = match value.as_str() {
        Some(text) => text
            .parse::<Timestamp>()
            .map_err(|_| invalid("date takes an RFC 3339 date and time with an offset, or seconds"))?,
        None => value
            .as_i64()
            .filter(|_| value.is_number())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or_else(|| invalid("date takes an RFC 3339 date and time with an offset, or seconds"))?,
    };
    let pattern = pattern.unwrap_or("%Y-%m-%d %H:%M");
    if pattern.len() > MAX_PATTERN {
        return Err(invalid(format!(
            "a date's pattern is at most {MAX_PATTERN} bytes"
        )));
    }
    // A digit after `%` pads: not needed, and sixty of them make sixteen thousand characters.
    let pads = |pair: &[u8]| pair[0] == b'%' && pair[1].is_ascii_digit();
    if pattern.as_bytes().windows(2).any(pads) {
        return Err(invalid("a date's pattern has no widths"));
    }
    let zone = match zone {
        None | Some("UTC") => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| invalid("there is no such time zone"))?,
    };
    let mut printed = String::new();
    strtime::BrokenDownTime::from(&at.to_zoned(zone))
        .format(pattern, &mut printed)
        .map_err(|error| invalid(format!("the date's pattern: {error}")))?;
    Ok(printed)
}
