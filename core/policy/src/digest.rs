//! Digests: several alerts of a category as one, when a window closes.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use carillon_domain::{Invalid, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Cron, PolicyFault, Zone};

/// From a second to 31 days, in seconds.
const LASTS: std::ops::RangeInclusive<u32> = 1..=31 * 24 * 60 * 60;
/// The longest that a digest stays open, whatever its window says.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);
const BOUNDS: &str = "must be from 1 second to 31 days";
/// How long before the end of an alert's time to live its digest closes at the latest; a quarter of what is left of that
/// time where that is shorter.
const SPARE: Duration = Duration::from_secs(5 * 60);
/// What lives for less makes no digest close early.
const SHORT_LIVED: Duration = Duration::from_secs(60);

/// When an open digest closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DigestWindow {
    /// A fixed time after its first member: `{"fixed": {"every": 3600}}`.
    Fixed(FixedWindow),
    /// When nothing has joined for a while: `{"sliding": {"idle": 300, "max": 3600}}`.
    Sliding(SlidingWindow),
    /// At the next of these times on the user's wall clock: `{"cron": "0 9 * * *"}`.
    Cron(Cron),
}

/// A fixed time after the first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedWindow {
    /// How long after, in seconds: 1 to 31 days.
    pub every: u32,
}

/// A while after the latest member, but not for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// How long nothing must have joined, in seconds: 1 to 31 days.
    pub idle: u32,
    /// How long after the first member it closes in any case, in seconds: `idle` to 31 days.
    pub max: u32,
}

impl DigestWindow {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        match self {
            Self::Fixed(fixed) => {
                if !LASTS.contains(&fixed.every) {
                    faults.push(PolicyFault::new("/fixed/every", BOUNDS));
                }
            }
            Self::Sliding(sliding) => {
                if !LASTS.contains(&sliding.idle) {
                    faults.push(PolicyFault::new("/sliding/idle", BOUNDS));
                }
                if !LASTS.contains(&sliding.max) {
                    faults.push(PolicyFault::new("/sliding/max", BOUNDS));
                } else if sliding.max < sliding.idle {
                    faults.push(PolicyFault::new("/sliding/max", "must not be shorter than idle"));
                }
            }
            // Checked when it was read; what comes more often than by the minute cannot be written.
            Self::Cron(_) => {}
        }
        faults
    }

    /// When a digest closes whose first member joined at `opened_at` and whose latest did at `last_at`. Always after
    /// `opened_at`, and at most 31 days after.
    pub fn closes_at(&self, opened_at: Timestamp, last_at: Timestamp, zone: &Zone) -> Timestamp {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let closes_at = match self {
            Self::Fixed(fixed) => opened_at.after(seconds(fixed.every)),
            Self::Sliding(sliding) => last_at
                .max(opened_at)
                .after(seconds(sliding.idle))
                .min(opened_at.after(seconds(sliding.max))),
            Self::Cron(cron) => cron.next_after(zone, opened_at).unwrap_or(Timestamp::LAST),
        };
        closes_at.min(opened_at.after(LONGEST))
    }

    /// When the digest closes that an alert joins at `now` whose time to live ends at `ends_at`: the `open` one, or a new
    /// one. It closes before that end, if need be before its window would. None where the alert has too little time left to
    /// wait: it goes out by itself.
    pub fn join(
        &self,
        open: Option<OpenDigest>,
        now: Timestamp,
        ends_at: Timestamp,
        zone: &Zone,
    ) -> Option<Joining> {
        let closes_at = match open {
            // It is closing, and takes along what comes until it did.
            Some(open) if open.closes_at <= now => now,
            Some(open) => self
                .closes_at(open.opened_at, now, zone)
                .min(open.closes_by)
                .max(now),
            None => self.closes_at(now, now, zone),
        };
        let left = ends_at.since(now);
        let closes_by = ends_at.before(SPARE.min(left / 4));
        if closes_by < closes_at && left < SHORT_LIVED {
            return None;
        }
        Some(Joining {
            closes_at: closes_at.min(closes_by),
            closes_by: open.map_or(closes_by, |open| open.closes_by.min(closes_by)),
        })
    }
}

/// One of the digests that a category offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestPeriod {
    /// What users choose it by.
    pub name: DigestName,
    /// When it closes.
    pub window: DigestWindow,
}

/// The name of a digest period within its category: 1-64 characters of `a-z 0-9 . _ -`, but not `immediate`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestName(Arc<str>);

impl DigestName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DigestName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        if matches!(text.len(), 1..=64) && text.bytes().all(allowed) && text != DigestChoice::IMMEDIATE {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Invalid(
                "a digest period's name is 1-64 characters of a-z, 0-9, ., _ and -, and not immediate",
            ))
        }
    }
}

impl fmt::Display for DigestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DigestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What somebody chose for their alerts: each at once, or a digest of the category's. As text `immediate` or the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigestChoice {
    /// No digest.
    Immediate,
    /// The category's digest of this name.
    Period(DigestName),
}

impl DigestChoice {
    /// [`Self::Immediate`] as text.
    pub const IMMEDIATE: &'static str = "immediate";

    /// As text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Immediate => Self::IMMEDIATE,
            Self::Period(name) => name.as_str(),
        }
    }
}

impl FromStr for DigestChoice {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == Self::IMMEDIATE {
            Ok(Self::Immediate)
        } else {
            text.parse().map(Self::Period)
        }
    }
}

impl fmt::Display for DigestChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .min_length(Some(1))
                    .max_length(Some(64))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

as_text!(DigestName);
as_text!(DigestChoice);

/// A digest that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenDigest {
    /// When its first member joined.
    pub opened_at: Timestamp,
    /// When it closes, as things stand.
    pub closes_at: Timestamp,
    /// When it closes at the latest, whatever its window says: one of its members lives no longer.
    pub closes_by: Timestamp,
}

/// A digest with one more member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// When it closes.
    pub closes_at: Timestamp,
    /// As [`OpenDigest::closes_by`].
    pub closes_by: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn window(json: serde_json::Value) -> DigestWindow {
        serde_json::from_value(json).expect("a window")
    }

    #[test]
    fn each_window_closes_in_its_own_way() {
        let berlin: Zone = "Europe/Berlin".parse().expect("a zone");
        let opened = at("2026-11-21T10:00:00Z");
        for (json, last, closes) in [
            (
                serde_json::json!({"fixed": {"every": 3600}}),
                "2026-11-21T10:50:00Z",
                "2026-11-21T11:00:00Z",
            ),
            (
                serde_json::json!({"sliding": {"idle": 300, "max": 3600}}),
                "2026-11-21T10:01:00Z",
                "2026-11-21T10:06:00Z",
            ),
            (
                serde_json::json!({"sliding": {"idle": 300, "max": 3600}}),
                "2026-11-21T10:58:00Z",
                "2026-11-21T11:00:00Z",
            ),
            (
                serde_json::json!({"cron": "0 9 * * *"}),
                "2026-11-21T10:01:00Z",
                "2026-11-22T08:00:00Z",
            ),
            (
                serde_json::json!({"cron": "0 9 29 2 *"}),
                "2026-11-21T10:01:00Z",
                "2026-12-22T10:00:00Z",
            ),
        ] {
            let window = window(json);
            assert_eq!(
                window.closes_at(opened, at(last), &berlin),
                at(closes),
                "{window:?}"
            );
        }
    }

    #[test]
    fn windows_have_bounds() {
        for (json, pointers) in [
            (serde_json::json!({"fixed": {"every": 1}}), &[][..]),
            (serde_json::json!({"fixed": {"every": 0}}), &["/fixed/every"]),
            (
                serde_json::json!({"fixed": {"every": 2_678_401}}),
                &["/fixed/every"],
            ),
            (
                serde_json::json!({"sliding": {"idle": 0, "max": 0}}),
                &["/sliding/idle", "/sliding/max"],
            ),
            (
                serde_json::json!({"sliding": {"idle": 600, "max": 300}}),
                &["/sliding/max"],
            ),
        ] {
            let faults = window(json).check();
            let found: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found, pointers);
        }
        assert!(serde_json::from_value::<DigestWindow>(serde_json::json!({"cron": "0 9 * *"})).is_err());
    }

    #[test]
    fn a_choice_is_immediate_or_a_name() {
        assert_eq!("immediate".parse(), Ok(DigestChoice::Immediate));
        assert_eq!(
            "daily".parse::<DigestChoice>().map(|c| c.to_string()),
            Ok("daily".to_owned())
        );
        assert!("immediate".parse::<DigestName>().is_err());
        assert!("Daily".parse::<DigestChoice>().is_err());
    }

    #[test]
    fn a_digest_closes_before_the_time_to_live_of_its_members_ends() {
        let weekly = window(serde_json::json!({"cron": "0 9 * * 1"}));
        let join = |open, now, ends| weekly.join(open, at(now), at(ends), &Zone::default());
        let tuesday = "2026-11-24T09:00:00Z";
        let friday = Joining {
            closes_at: at("2026-11-27T08:55:00Z"),
            closes_by: at("2026-11-27T08:55:00Z"),
        };
        assert_eq!(join(None, tuesday, "2026-11-27T09:00:00Z"), Some(friday));
        let open = OpenDigest {
            opened_at: at(tuesday),
            closes_at: friday.closes_at,
            closes_by: friday.closes_by,
        };
        let wednesday = "2026-11-25T09:00:00Z";
        assert_eq!(
            join(Some(open), wednesday, "2026-11-28T09:00:00Z"),
            Some(friday),
            "who lives longer does not put it off"
        );
        assert_eq!(
            join(Some(open), wednesday, "2026-11-25T10:00:00Z").map(|joining| joining.closes_by),
            Some(at("2026-11-25T09:55:00Z")),
        );
        assert_eq!(
            join(Some(open), wednesday, "2026-11-25T09:00:59Z"),
            None,
            "too short-lived to wait"
        );
        let closing = OpenDigest {
            closes_at: at(wednesday),
            ..open
        };
        assert_eq!(
            join(Some(closing), wednesday, "2026-11-25T10:00:00Z").map(|joining| joining.closes_at),
            Some(at(wednesday)),
            "what is closing takes it along"
        );
    }

    fn windows() -> impl Strategy<Value = DigestWindow> {
        prop_oneof![
            (1u32..2_678_400).prop_map(|every| DigestWindow::Fixed(FixedWindow { every })),
            (1u32..2_678_400, 1u32..2_678_400).prop_map(|(one, other)| {
                DigestWindow::Sliding(SlidingWindow {
                    idle: one.min(other),
                    max: one.max(other),
                })
            }),
            prop::sample::select(&["30 2 * * *", "0 9 * * 1", "0 0 1 * *", "* * * * *"][..])
                .prop_map(|cron| DigestWindow::Cron(cron.parse().expect("an expression"))),
        ]
    }

    proptest! {
        /// Alerts join one after the other, each with a time to live of its own.
        #[test]
        fn a_digest_closes_before_any_of_its_members_expires(
            window in windows(),
            alerts in prop::collection::vec((1i64..200_000, 1i64..400_000_000_000), 1..20),
        ) {
            let zone: Zone = "America/New_York".parse().expect("a zone");
            let mut now = at("2026-10-30T10:00:00Z");
            let mut open: Option<OpenDigest> = None;
            let mut ends = Vec::new();
            for (later, lives) in alerts {
                now = Timestamp::from_micros(now.as_micros() + later * 1_000_000);
                if open.is_some_and(|open| open.closes_at <= now) {
                    open = None;
                    ends.clear();
                }
                let ends_at = Timestamp::from_micros(now.as_micros() + lives);
                let Some(joining) = window.join(open, now, ends_at, &zone) else { continue };
                ends.push(ends_at);
                open = Some(OpenDigest {
                    opened_at: open.map_or(now, |open| open.opened_at),
                    closes_at: joining.closes_at,
                    closes_by: joining.closes_by,
                });
                prop_assert!(joining.closes_at <= joining.closes_by);
                prop_assert!(now <= joining.closes_at);
                prop_assert!(ends.iter().all(|end| joining.closes_at < *end), "{joining:?} {ends:?}");
            }
        }

        #[test]
        fn a_digest_closes_after_it_opened_within_31_days(
            opened in 0i64..4_000_000_000, last in 0i64..4_000_000_000,
            kind in 0..3, long in 60u32..2_678_400, short in 60u32..2_678_400,
        ) {
            let window = match kind {
                0 => DigestWindow::Fixed(FixedWindow { every: long }),
                1 => DigestWindow::Sliding(SlidingWindow { idle: short.min(long), max: long.max(short) }),
                _ => DigestWindow::Cron("30 2 * * *".parse().expect("an expression")),
            };
            prop_assert!(window.check().is_empty());
            let zone: Zone = "America/New_York".parse().expect("a zone");
            let opened = Timestamp::from_seconds(opened);
            let closes = window.closes_at(opened, Timestamp::from_seconds(last), &zone);
            prop_assert!(opened < closes && closes <= opened.after(LONGEST));
        }
    }
}
