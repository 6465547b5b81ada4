//! When a schedule is due. Pure: the same times on every node, whenever it looks.

use std::time::Duration;

use carillon_domain::Timestamp;
use carillon_policy::{Cron, Zone};

use crate::store::schedules::ScheduleRow;

/// How many times are looked at in one go; whoever was away for longer takes several.
const MOST_TIMES: usize = 1_000;

/// How times come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum When {
    /// Once.
    Once(Timestamp),
    /// Again and again, on the wall clock of a zone.
    Cron { cron: Cron, zone: Zone },
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timing {
    pub(crate) when: When,
    /// From when on, and until when, both inclusive.
    pub(crate) starts_at: Option<Timestamp>,
    pub(crate) ends_at: Option<Timestamp>,
}

/// What is to be done about a schedule whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatchUp {
    /// The time that is sent now.
    pub(crate) fire: Option<Timestamp>,
    /// How many times went by without being sent.
    pub(crate) skipped: u64,
    /// When it is due next; may have come already, where there was too much to look at.
    pub(crate) next: Option<Timestamp>,
}

impl Timing {
    /// A stored schedule's; none where this version cannot read it any more.
    pub(crate) fn of(row: &ScheduleRow) -> Option<Self> {
        let when = match (&row.cron, &row.zone, row.once_at) {
            (Some(cron), Some(zone), None) => When::Cron {
                cron: cron.parse().ok()?,
                zone: zone.parse().ok()?,
            },
            (None, None, Some(at)) => When::Once(at),
            _ => return None,
        };
        Some(Self {
            when,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
        })
    }

    /// The first time after `after`.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = match &self.when {
            When::Once(at) => (*at > after).then_some(*at)?,
            When::Cron { cron, zone } => {
                // A time that is the start itself counts.
                let before = |start: Timestamp| start.before(Duration::from_micros(1));
                let from = self.starts_at.map_or(after, |start| after.max(before(start)));
                cron.next_after(zone, from)?
            }
        };
        self.ends_at.is_none_or(|end| next <= end).then_some(next)
    }

    /// What is to be done at `now` about one that has been due since `due`: of what was missed the last time is sent, if
    /// it is at most `grace` ago.
    pub(crate) fn catch_up(&self, due: Timestamp, now: Timestamp, grace: Duration) -> CatchUp {
        let mut last = due;
        let mut skipped = 0;
        for _ in 0..MOST_TIMES {
            match self.next_after(last) {
                Some(next) if next <= now => {
                    skipped += 1;
                    last = next;
                }
                next => {
                    let fire = (last >= now.before(grace)).then_some(last);
                    return CatchUp {
                        fire,
                        skipped: skipped + u64::from(fire.is_none()),
                        next,
                    };
                }
            }
        }
        CatchUp {
            fire: None,
            skipped,
            next: Some(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn cron(cron: &str, zone: &str) -> Timing {
        Timing {
            when: When::Cron {
                cron: cron.parse().expect("a cron expression"),
                zone: zone.parse().expect("a zone"),
            },
            starts_at: None,
            ends_at: None,
        }
    }

    fn times(timing: &Timing, after: &str, count: usize) -> Vec<Timestamp> {
        std::iter::successors(timing.next_after(at(after)), |last| timing.next_after(*last))
            .take(count)
            .collect()
    }

    #[test]
    fn a_daily_time_stays_on_the_wall_clock_over_daylight_saving() {
        let daily = cron("30 9 * * *", "Europe/Berlin");
        assert_eq!(
            times(&daily, "2026-03-28T00:00:00Z", 3),
            [
                "2026-03-28T08:30:00Z",
                "2026-03-29T07:30:00Z",
                "2026-03-30T07:30:00Z"
            ]
            .map(at)
        );
        assert_eq!(
            times(&daily, "2026-10-24T00:00:00Z", 2),
            ["2026-10-24T07:30:00Z", "2026-10-25T08:30:00Z"].map(at)
        );
    }

    #[test]
    fn a_skipped_time_comes_after_the_gap_and_a_repeated_one_comes_once() {
        let night = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            times(&night, "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"].map(at)
        );
        assert_eq!(
            times(&night, "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"].map(at)
        );
    }

    #[test]
    fn times_lie_between_start_and_end_and_both_count() {
        let timing = Timing {
            starts_at: Some(at("2026-01-02T09:00:00Z")),
            ends_at: Some(at("2026-01-04T09:00:00Z")),
            ..cron("0 9 * * *", "UTC")
        };
        assert_eq!(
            times(&timing, "2025-12-01T00:00:00Z", 9),
            [
                "2026-01-02T09:00:00Z",
                "2026-01-03T09:00:00Z",
                "2026-01-04T09:00:00Z"
            ]
            .map(at)
        );
        let once = Timing {
            when: When::Once(at("2026-01-02T09:00:00Z")),
            starts_at: None,
            ends_at: None,
        };
        assert_eq!(
            times(&once, "2026-01-01T00:00:00Z", 9),
            [at("2026-01-02T09:00:00Z")]
        );
    }

    #[test]
    fn what_was_missed_within_the_grace_comes_once_and_the_older_ones_are_counted() {
        let quarterly = cron("*/15 * * * *", "UTC");
        let due = at("2026-01-02T06:00:00Z");
        let found = quarterly.catch_up(due, at("2026-01-02T08:20:00Z"), HOUR);
        let expected = CatchUp {
            fire: Some(at("2026-01-02T08:15:00Z")),
            skipped: 9,
            next: Some(at("2026-01-02T08:30:00Z")),
        };
        assert_eq!(found, expected);
        let daily = cron("0 6 * * *", "UTC");
        let late = daily.catch_up(due, at("2026-01-02T07:00:00.000001Z"), HOUR);
        assert_eq!((late.fire, late.skipped), (None, 1));
        let just = daily.catch_up(due, at("2026-01-02T07:00:00Z"), HOUR);
        assert_eq!((just.fire, just.skipped), (Some(due), 0));
    }

    #[test]
    fn a_long_absence_is_made_up_in_bounded_bites_that_lose_no_count() {
        let minutely = cron("* * * * *", "UTC");
        let (mut due, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:30Z"));
        let (mut skipped, mut bites) = (0, 0);
        let fired = loop {
            let bite = minutely.catch_up(due, now, HOUR);
            skipped += bite.skipped;
            bites += 1;
            due = bite.next.expect("goes on");
            if bite.fire.is_some() {
                break bite.fire;
            }
        };
        assert_eq!(fired, Some(at("2026-01-03T00:00:00Z")));
        assert_eq!((skipped, bites), (2 * 24 * 60, 3));
    }
}
