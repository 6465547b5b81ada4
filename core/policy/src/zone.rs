//! Time zones by their IANA name, out of the database that is compiled in: every node has the same one.

use std::{fmt, str::FromStr, sync::Arc};

use carillon_domain::{Invalid, Timestamp};
use jiff::{
    civil,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{TimeOfDay, Weekday};

/// A time zone of the IANA database, such as `Europe/Berlin`; links (`US/Eastern`) and fixed ones (`Etc/GMT-2`) are among
/// them. Cheap to clone.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// Its name as the database spells it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The day of the week and the time that the wall clock shows at `at`.
    pub fn clock(&self, at: Timestamp) -> (Weekday, TimeOfDay) {
        let local = self.local(at);
        (Weekday::of(local.date()), TimeOfDay::of(local.time()))
    }

    /// The wall clock at `at`.
    pub(crate) fn local(&self, at: Timestamp) -> civil::DateTime {
        self.rules.to_datetime(instant(at))
    }

    /// How far the wall clock is ahead of UTC at `at`, in seconds.
    pub(crate) fn offset(&self, at: Timestamp) -> i32 {
        self.rules.to_offset(instant(at)).seconds()
    }

    /// When the wall clock first shows `local`; for a time that is skipped the instant after the gap.
    pub(crate) fn first(&self, local: civil::DateTime) -> Option<Timestamp> {
        self.pass(local, Pass::First)
    }

    /// When the wall clock last shows `local`; for a time that is skipped the instant after the gap.
    pub(crate) fn last(&self, local: civil::DateTime) -> Option<Timestamp> {
        self.pass(local, Pass::Last)
    }

    /// None outside of the calendar.
    fn pass(&self, local: civil::DateTime, pass: Pass) -> Option<Timestamp> {
        let ambiguous = self.rules.to_ambiguous_timestamp(local);
        let at = match (ambiguous.offset(), pass) {
            (AmbiguousOffset::Unambiguous { .. }, _) => ambiguous.unambiguous(),
            (AmbiguousOffset::Fold { .. }, Pass::First) => ambiguous.earlier(),
            (AmbiguousOffset::Fold { .. }, Pass::Last) => ambiguous.later(),
            // Read with the later offset, a skipped time lies before the change, which is what follows it.
            (AmbiguousOffset::Gap { .. }, _) => {
                let before = ambiguous.earlier().ok()?;
                return self
                    .rules
                    .following(before)
                    .next()
                    .map(|change| timestamp(change.timestamp()));
            }
        };
        at.ok().map(timestamp)
    }
}

#[derive(Clone, Copy)]
enum Pass {
    First,
    Last,
}

/// The nearest that the calendar has: it ends at [`Timestamp::LAST`].
pub(crate) fn instant(at: Timestamp) -> jiff::Timestamp {
    let micros = at.as_micros();
    jiff::Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

pub(crate) fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}

impl Default for Zone {
    /// `UTC`.
    fn default() -> Self {
        Self {
            name: Arc::from("UTC"),
            rules: TimeZone::UTC,
        }
    }
}

impl FromStr for Zone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const UNKNOWN: Invalid = Invalid("expected a time zone of the IANA database, such as Europe/Berlin");
        // No name is longer than that, and `Etc/Unknown` means that nobody knows.
        if text.len() > 64 || text.eq_ignore_ascii_case("Etc/Unknown") {
            return Err(UNKNOWN);
        }
        let rules = TimeZoneDatabase::bundled().get(text).map_err(|_| UNKNOWN)?;
        let name = Arc::from(rules.iana_name().ok_or(UNKNOWN)?);
        Ok(Self { name, rules })
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.name, f)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for Zone {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A time zone of the IANA database."))
            .examples([serde_json::json!("Europe/Berlin")])
            .into()
    }
}

impl utoipa::ToSchema for Zone {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn local(text: &str) -> civil::DateTime {
        text.parse().expect("a local time")
    }

    #[test]
    fn names_are_those_of_the_database() {
        for name in [
            "Europe/Berlin",
            "US/Eastern",
            "Etc/GMT-2",
            "UTC",
            "Asia/Kathmandu",
        ] {
            let zone: Zone = name.parse().expect("a zone");
            assert_eq!(zone.as_str(), name);
        }
        let lower: Zone = "europe/berlin".parse().expect("a zone");
        assert_eq!(lower.as_str(), "Europe/Berlin", "one spelling");
        for name in [
            "",
            "Europe/Bielefeld",
            "+02:00",
            "Etc/Unknown",
            "CEST",
            "../UTC",
            "Europe/Berlin ",
        ] {
            assert!(name.parse::<Zone>().is_err(), "{name}");
        }
        assert_eq!(Zone::default(), "UTC".parse().expect("a zone"));
    }

    #[test]
    fn the_wall_clock_is_told_to_the_minute() {
        let berlin: Zone = "Europe/Berlin".parse().expect("a zone");
        let (day, time) = berlin.clock(at("2026-03-28T23:59:58Z"));
        assert_eq!((day, time.to_string()), (Weekday::Sun, "00:59".to_owned()));
    }

    #[test]
    fn a_skipped_time_is_the_instant_after_the_gap_and_a_repeated_one_has_two_passes() {
        for (zone, shown, first, last) in [
            (
                "Europe/Berlin",
                "2026-03-29T02:30",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:00:00Z",
            ),
            (
                "Europe/Berlin",
                "2026-03-29T02:00",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:00:00Z",
            ),
            (
                "Europe/Berlin",
                "2026-10-25T02:30",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
            ),
            (
                "Australia/Lord_Howe",
                "2026-10-04T02:10",
                "2026-10-03T15:30:00Z",
                "2026-10-03T15:30:00Z",
            ),
            (
                "Australia/Lord_Howe",
                "2026-04-05T01:45",
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:15:00Z",
            ),
            (
                "Pacific/Apia",
                "2011-12-30T12:00",
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
            (
                "America/New_York",
                "2026-07-01T09:00",
                "2026-07-01T13:00:00Z",
                "2026-07-01T13:00:00Z",
            ),
        ] {
            let rules: Zone = zone.parse().expect("a zone");
            assert_eq!(rules.first(local(shown)), Some(at(first)), "{zone} {shown}");
            assert_eq!(rules.last(local(shown)), Some(at(last)), "{zone} {shown}");
        }
    }
}
