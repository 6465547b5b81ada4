//! Quiet hours: the times of a week at which somebody is not alerted.

use std::{fmt, time::Duration};

use carillon_domain::{Invalid, Timestamp};
use jiff::{ToSpan as _, civil};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{PolicyFault, Zone};

/// The most windows of one user.
pub const MOST_WINDOWS: usize = 14;
/// The longest that quiet hours hold anything at once: 8 days. Who is always quiet is asked anew after that.
pub const LONGEST_QUIET: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// The times of a week at which somebody is not alerted, on the wall clock of a time zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// At most 14; they may overlap.
    pub windows: Vec<QuietWindow>,
}

/// One window on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietWindow {
    /// The days on which it starts, each at most once.
    pub days: Vec<Weekday>,
    /// When it starts.
    pub start: TimeOfDay,
    /// When it ends; not after `start` means on the next day, so that the same time twice is a whole day.
    pub end: TimeOfDay,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// All seven, from Monday.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    pub(crate) fn of(date: civil::Date) -> Self {
        match date.weekday() {
            civil::Weekday::Monday => Self::Mon,
            civil::Weekday::Tuesday => Self::Tue,
            civil::Weekday::Wednesday => Self::Wed,
            civil::Weekday::Thursday => Self::Thu,
            civil::Weekday::Friday => Self::Fri,
            civil::Weekday::Saturday => Self::Sat,
            civil::Weekday::Sunday => Self::Sun,
        }
    }
}

/// A time on the wall clock: `HH:MM` from `00:00` to `23:59`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(civil::Time);

impl TimeOfDay {
    /// From hours (0 to 23) and minutes (0 to 59).
    pub fn new(hour: u8, minute: u8) -> Option<Self> {
        let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
        civil::Time::new(hour, minute, 0, 0).ok().map(Self)
    }
}

impl TimeOfDay {
    /// To the minute.
    pub(crate) fn of(time: civil::Time) -> Self {
        Self(time.with().second(0).subsec_nanosecond(0).build().unwrap_or(time))
    }
}

impl std::str::FromStr for TimeOfDay {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = |text: &str| {
            let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            two.then(|| text.parse::<u8>().ok()).flatten()
        };
        text.split_once(':')
            .and_then(|(hour, minute)| Self::new(digits(hour)?, digits(minute)?))
            .ok_or(Invalid("expected a time from 00:00 to 23:59"))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl fmt::Debug for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for TimeOfDay {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^([01][0-9]|2[0-3]):[0-5][0-9]$"))
            .into()
    }
}

impl utoipa::ToSchema for TimeOfDay {}

/// From the first instant of a quiet period to the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Period {
    start: Timestamp,
    end: Timestamp,
}

impl QuietHours {
    /// What is wrong with them; the pointers are relative to the whole value.
    pub fn check(&self) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        if self.windows.len() > MOST_WINDOWS {
            faults.push(PolicyFault::new(
                "/windows",
                format!("must have at most {MOST_WINDOWS} windows"),
            ));
        }
        for (index, window) in self.windows.iter().enumerate().take(MOST_WINDOWS) {
            if window.days.is_empty() {
                faults.push(PolicyFault::new(
                    format!("/windows/{index}/days"),
                    "must name at least one day",
                ));
            }
            for (at, day) in window.days.iter().enumerate() {
                if let Some(earlier) = window.days[..at].iter().position(|other| other == day) {
                    faults.push(PolicyFault::new(
                        format!("/windows/{index}/days/{at}"),
                        format!("repeats /windows/{index}/days/{earlier}"),
                    ));
                }
            }
        }
        faults
    }

    /// When the quiet period that holds `now` ends; none when it is not quiet. Windows that adjoin or overlap are one
    /// period. At most [`LONGEST_QUIET`] after `now`: what is held is judged anew then.
    pub fn until(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let periods = self.periods(zone, now);
        let holds = periods
            .iter()
            .find(|period| period.start <= now && now < period.end)?;
        Some(holds.end.min(now.after(LONGEST_QUIET)))
    }

    /// When the next quiet period starts, after the one that holds `now` if there is one. None when there are no
    /// windows, and when it never ceases to be quiet.
    pub fn next_start(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let periods = self.periods(zone, now);
        periods
            .iter()
            .map(|period| period.start)
            .find(|start| *start > now)
    }

    /// The periods around `now`, merged, in their order: of windows that start from three days before to ten days after.
    fn periods(&self, zone: &Zone, now: Timestamp) -> Vec<Period> {
        if self.windows.is_empty() {
            return Vec::new();
        }
        let today = zone.local(now).date();
        // A window lasts a day at most by the wall clock, which was never set by more than another. Whether `now` is quiet
        // does not depend on when that began.
        let first = today.saturating_sub(3.days());
        let mut periods: Vec<Period> = first
            .series(1.day())
            .take(14)
            .flat_map(|date| {
                let day = Weekday::of(date);
                self.windows
                    .iter()
                    .filter(move |window| window.days.contains(&day))
                    .filter_map(move |window| window.on(date, zone))
            })
            .collect();
        periods.sort_unstable();
        periods.dedup_by(|next, held| {
            let joins = next.start <= held.end;
            if joins {
                held.end = held.end.max(next.end);
            }
            joins
        });
        periods
    }
}

impl QuietWindow {
    /// The window that starts on `date`; none when daylight saving skips the whole of it.
    fn on(&self, date: civil::Date, zone: &Zone) -> Option<Period> {
        let ends_on = if self.end > self.start {
            date
        } else {
            date.tomorrow().ok()?
        };
        let start = zone.first(date.to_datetime(self.start.0))?;
        let end = zone.last(ends_on.to_datetime(self.end.0))?;
        (start < end).then_some(Period { start, end })
    }
}

#[cfg(test)]
mod tests;
