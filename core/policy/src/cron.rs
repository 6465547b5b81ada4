//! Cron expressions: five fields, read on the wall clock of a time zone.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use carillon_domain::Timestamp;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Zone;

/// The longest expression, in bytes.
const LONGEST: usize = 256;
/// How far the wall clock is put back at most, with room to spare.
const LONGEST_FOLD: Duration = Duration::from_secs(3 * 60 * 60);
/// The most wall clock times that are looked at for one answer. A minute of each of three hours that came twice is 180.
const MOST_LOOKS: usize = 4_000;

const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A cron expression of five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). Each is
/// `*`, numbers, ranges, lists and steps; months and days also by their English names of three letters. When both days are
/// given, either is enough. Cheap to clone.
#[derive(Clone)]
pub struct Cron {
    text: Arc<str>,
    pattern: Arc<croner::Cron>,
    /// Every hour, or every few: such an expression runs in both passes of an hour that comes twice.
    hourly: bool,
}

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Too long, or not five fields.
    #[error("a cron expression has five fields of at most 256 bytes in all, such as 0 9 * * MON-FRI")]
    Form,
    /// One of the fields.
    #[error("the cron expression's {name} is wrong at byte {at}: {detail}")]
    Field {
        /// Where the field begins in the text, in bytes.
        at: usize,
        /// Which field.
        name: &'static str,
        /// What about it.
        detail: String,
    },
    /// There is no such day.
    #[error("the cron expression never comes true")]
    Never,
}

impl Cron {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The next time after `now`, on the wall clock of `zone`; none when the calendar ends before.
    ///
    /// A time that daylight saving skips runs once, after the gap. One that comes twice runs in its first pass; only an
    /// expression whose hour begins with `*` runs in both, so that "every ten minutes" does not pause for an hour.
    pub fn next_after(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        // Both ways to read a time rise with it: whatever is not later on the wall clock is not later.
        let first = self
            .after(zone.local(now))
            .filter_map(|local| zone.first(local))
            .find(|at| *at > now)?;
        if self.hourly && self.came_back(zone, now, first) {
            let last = self
                .after(zone.local(now.before(LONGEST_FOLD)))
                .filter_map(|local| zone.last(local))
                .find(|at| *at > now);
            return Some(last.map_or(first, |last| last.min(first)));
        }
        Some(first)
    }

    /// Whether the wall clock was put back shortly before `from`, or is before `to`.
    fn came_back(&self, zone: &Zone, from: Timestamp, to: Timestamp) -> bool {
        let from = from.before(LONGEST_FOLD);
        zone.offset(to) < zone.offset(from)
    }

    /// What it names on the wall clock after `local`, a bounded number of them.
    fn after(&self, local: civil::DateTime) -> impl Iterator<Item = civil::DateTime> {
        // In a zone without changes, so that every time on the wall clock is one.
        let start = local.to_zoned(TimeZone::UTC).ok();
        std::iter::successors(start, |at| self.pattern.find_next_occurrence(at, false).ok())
            .skip(1)
            .take(MOST_LOOKS)
            .map(|at| at.datetime())
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.len() > LONGEST {
            return Err(CronError::Form);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [_, hour, ..] = fields[..] else {
            return Err(CronError::Form);
        };
        if fields.len() != FIELDS.len() {
            return Err(CronError::Form);
        }
        for (index, field) in fields.iter().enumerate() {
            check_field(index, field).map_err(|detail| CronError::Field {
                at: field.as_ptr() as usize - text.as_ptr() as usize,
                name: FIELDS[index],
                detail,
            })?;
        }
        let cron = Self {
            text: Arc::from(text),
            pattern: Arc::new(parse(text).map_err(|_| CronError::Form)?),
            hourly: hour.starts_with('*'),
        };
        // Every date comes within the eight years between two leap days at the longest.
        let start = civil::date(2000, 1, 1).at(0, 0, 0, 0);
        cron.after(start).next().ok_or(CronError::Never)?;
        Ok(cron)
    }
}

/// What is wrong with one field by itself.
fn check_field(index: usize, field: &str) -> Result<(), String> {
    let names: &[&str] = match index {
        3 => &MONTHS,
        4 => &DAYS,
        _ => &[],
    };
    if field.split(',').any(str::is_empty) {
        return Err("a list has nothing between two commas".to_owned());
    }
    for part in field.split(['*', ',', '-', '/']) {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        if !number && !names.iter().any(|name| name.eq_ignore_ascii_case(part)) {
            return Err(format!("{part} is not known here"));
        }
    }
    // Alone among fields that fit anything, so that what is wrong is this one.
    let mut alone = ["*"; FIELDS.len()];
    alone[index] = field;
    match parse(&alone.join(" ")) {
        Ok(_) => Ok(()),
        Err(croner::errors::CronError::ComponentError(detail)) => Err(detail),
        Err(error) => Err(error.to_string()),
    }
}

fn parse(text: &str) -> Result<croner::Cron, croner::errors::CronError> {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(text)
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for Cron {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A cron expression of five fields."))
            .max_length(Some(LONGEST))
            .examples([serde_json::json!("0 9 * * MON-FRI")])
            .into()
    }
}

impl utoipa::ToSchema for Cron {}

#[cfg(test)]
mod tests;
