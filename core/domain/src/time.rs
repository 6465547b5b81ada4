//! Points in time, and where they come from.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: microseconds since the Unix epoch, UTC. On the wire RFC 3339; any offset is read, `Z` is
/// written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last point in time that can be shown: 9999-12-30T22:00:00Z.
    pub const LAST: Self = Self(253_402_207_200_000_000);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since the Unix epoch, as JWT claims carry them.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by `duration`; stops at the last representable time.
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// Earlier by `duration`; stops at the first representable time.
    pub fn before(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset. The last hours of the year 9999, which no calendar here reaches in UTC, are read
    /// as [`Timestamp::LAST`].
    ///
    /// # Errors
    /// When the text is no RFC 3339 date and time with an offset.
    pub fn parse(text: &str) -> Result<Self, crate::Invalid> {
        let at = is_rfc_3339(text).then(|| match text.parse::<jiff::Timestamp>() {
            Ok(at) => Some(Self(at.as_microsecond()).min(Self::LAST)),
            Err(_) => is_beyond_last(text).then_some(Self::LAST),
        });
        at.flatten().ok_or(crate::Invalid(
            "expected an RFC 3339 date and time with an offset",
        ))
    }
}

/// Whether `text` has RFC 3339's form (its `date-time`). The parser alone would take other writings of ISO 8601 too:
/// time zones in brackets, no separators, no minutes.
fn is_rfc_3339(text: &str) -> bool {
    let fits = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                form => byte.eq_ignore_ascii_case(&form),
            })
    };
    let Some((time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        Some(rest) => {
            let offset = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if offset.len() == rest.len() {
                return false;
            }
            offset
        }
        None => rest,
    };
    fits(time, "0000-00-00T00:00:00") && (fits(offset, "Z") || fits(offset, "+00:00"))
}

/// Whether `text`, in RFC 3339's form, is a time after [`Timestamp::LAST`]: the same time of the first of December is
/// one as well.
fn is_beyond_last(text: &str) -> bool {
    let day = text
        .strip_prefix("9999-12-")
        .and_then(|rest| rest.split_at_checked(2));
    day.is_some_and(|(day, time)| {
        matches!(day, "30" | "31") && format!("9999-12-01{time}").parse::<jiff::Timestamp>().is_ok()
    })
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// Where the current time comes from. Durations that must not jump use tokio's monotonic timers instead.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Whether it is the time of the world, as other clocks tell it too. A test's is not.
    fn is_wall(&self) -> bool {
        false
    }
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the wall clock is read"
    )]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    fn is_wall(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_is_read_and_utc_is_written() {
        let at = Timestamp::parse("2026-11-21T10:00:00.25+02:00").expect("valid");
        assert_eq!(at.to_string(), "2026-11-21T08:00:00.250000Z");
        assert!(
            Timestamp::parse("2026-11-21T10:00:00").is_err(),
            "an offset is required"
        );
    }

    #[test]
    fn the_end_of_the_calendar_is_a_time() {
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-31t00:00:00.5-12:00",
            "9999-12-30T22:00:00.999999Z",
            "9999-12-30T23:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), Ok(Timestamp::LAST), "{text}");
        }
        let last = Timestamp::LAST.to_string();
        assert_eq!(last, "9999-12-30T22:00:00.000000Z");
        assert_eq!(Timestamp::parse(&last), Ok(Timestamp::LAST));
        for text in [
            "9999-12-32T00:00:00Z",
            "9999-12-31T24:00:00Z",
            "9999-12-31T00:00:00+99:00",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_form_of_rfc_3339_is_read() {
        for text in [
            "2026-11-21T10:00:00Z",
            "2026-11-21t10:00:00z",
            "2026-11-21T10:00:00.123456789-23:59",
        ] {
            assert!(Timestamp::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "Z",
            "2026-11-21T10:00:00+01:00[Europe/Berlin]",
            "20261121T100000Z",
            "2026-11-21T10Z",
            "2026-11-21T10:00Z",
            "2026-11-21 10:00:00Z",
            "2026-11-21T10:00:00+01",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00:00,5Z",
            "+002026-11-21T10:00:00Z",
            "2026-13-21T10:00:00Z",
            "2026-11-21T10:00:00\u{e9}Z",
            "2026-11-21T10:00:0\u{e9}Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }
}
