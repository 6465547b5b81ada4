//! `Retry-After`: seconds, or a date.

use std::time::Duration;

use carillon_domain::{MAX_TTL, Timestamp};
use http::{HeaderMap, header::RETRY_AFTER};
use jiff::{
    civil::DateTime,
    fmt::{rfc2822, strtime},
    tz::TimeZone,
};

/// How long the far end asks to wait. At most as long as anything lives; a date that has passed means now.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean as long as possible.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        date(text)?.since(now)
    };
    Some(wait.min(MAX_TTL))
}

/// The three forms of RFC 9110, 5.6.7.
fn date(text: &str) -> Option<Timestamp> {
    let usual = rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let at = usual.or_else(|| {
        ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
            .into_iter()
            .find_map(|form| strtime::parse(form, text).ok()?.to_datetime().ok())
            .and_then(|at: DateTime| at.to_zoned(TimeZone::UTC).ok())
            .map(|at| at.timestamp())
    })?;
    Some(Timestamp::from_micros(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_dates_are_read() {
        let now = Timestamp::parse("1994-11-06T08:48:37Z").expect("valid");
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(MAX_TTL.as_secs())),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(60)),
            ("Sun Nov  6 08:49:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Mon, 06 Nov 2094 08:49:37 GMT", None),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(MAX_TTL.as_secs())),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"));
            let read = retry_after(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(read, seconds, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
