use proptest::prelude::*;
use serde_json::json;

use super::*;

const MINUTE: i64 = 60_000_000;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn zone(name: &str) -> Zone {
    name.parse().expect("a zone")
}

fn quiet(windows: serde_json::Value) -> QuietHours {
    serde_json::from_value(json!({ "windows": windows })).expect("quiet hours")
}

fn every_night(start: &str, end: &str) -> QuietHours {
    quiet(json!([{"days": Weekday::ALL, "start": start, "end": end}]))
}

#[test]
fn a_night_ends_on_the_next_morning() {
    let nights = every_night("22:00", "07:00");
    let berlin = zone("Europe/Berlin");
    let morning = Some(at("2026-11-22T06:00:00Z"));
    for now in [
        "2026-11-21T21:00:00Z",
        "2026-11-22T00:00:00Z",
        "2026-11-22T05:59:59.999999Z",
    ] {
        assert_eq!(nights.until(&berlin, at(now)), morning, "{now}");
    }
    for now in ["2026-11-21T20:59:59.999999Z", "2026-11-22T06:00:00Z"] {
        assert_eq!(nights.until(&berlin, at(now)), None, "{now}");
    }
    assert_eq!(
        nights.next_start(&berlin, at("2026-11-22T00:00:00Z")),
        Some(at("2026-11-22T21:00:00Z"))
    );
}

#[test]
fn windows_that_adjoin_or_overlap_are_one() {
    let hours = quiet(json!([
        {"days": ["fri"], "start": "18:00", "end": "00:00"},
        {"days": ["sat", "sun"], "start": "00:00", "end": "00:00"},
        {"days": ["sun"], "start": "20:00", "end": "08:00"},
    ]));
    let utc = Zone::default();
    assert_eq!(
        hours.until(&utc, at("2026-11-20T18:00:00Z")),
        Some(at("2026-11-23T08:00:00Z"))
    );
    assert_eq!(
        hours.next_start(&utc, at("2026-11-20T19:00:00Z")),
        Some(at("2026-11-27T18:00:00Z"))
    );
}

#[test]
fn who_is_always_quiet_is_asked_anew_after_eight_days() {
    let always = every_night("09:00", "09:00");
    let now = at("2026-11-21T10:00:00Z");
    let until = always.until(&Zone::default(), now);
    assert_eq!(until, Some(now.after(LONGEST_QUIET)));
    assert_eq!(always.next_start(&Zone::default(), now), None);
    assert_eq!(QuietHours::default().until(&Zone::default(), now), None);
    assert_eq!(QuietHours::default().next_start(&Zone::default(), now), None);
}

#[test]
fn daylight_saving_moves_starts_and_ends() {
    for (name, start, end, now, until) in [
        // Ends in the gap: right after it.
        (
            "Europe/Berlin",
            "22:00",
            "02:30",
            "2026-03-29T00:59:00Z",
            Some("2026-03-29T01:00:00Z"),
        ),
        // Begins in the gap: right after it, and not before.
        (
            "Europe/Berlin",
            "02:30",
            "04:00",
            "2026-03-29T01:00:00Z",
            Some("2026-03-29T02:00:00Z"),
        ),
        ("Europe/Berlin", "02:30", "04:00", "2026-03-29T00:59:00Z", None),
        // Skipped as a whole: not quiet at all.
        ("Europe/Berlin", "02:10", "02:50", "2026-03-29T01:00:00Z", None),
        // Begins in the first pass of 02:30, ends in the last one.
        ("Europe/Berlin", "02:30", "02:40", "2026-10-25T00:29:00Z", None),
        (
            "Europe/Berlin",
            "02:30",
            "02:40",
            "2026-10-25T00:30:00Z",
            Some("2026-10-25T01:40:00Z"),
        ),
        (
            "America/New_York",
            "20:00",
            "01:30",
            "2026-11-01T05:45:00Z",
            Some("2026-11-01T06:30:00Z"),
        ),
        // Ends at the very time to which the clock is set back: its last pass.
        (
            "America/New_York",
            "20:00",
            "01:00",
            "2026-11-01T05:30:00Z",
            Some("2026-11-01T06:00:00Z"),
        ),
        // Half an hour.
        (
            "Australia/Lord_Howe",
            "22:00",
            "02:15",
            "2026-10-03T15:29:00Z",
            Some("2026-10-03T15:30:00Z"),
        ),
        (
            "Australia/Lord_Howe",
            "01:40",
            "06:00",
            "2026-04-04T14:40:00Z",
            Some("2026-04-04T19:30:00Z"),
        ),
        // A day that never was: what begins on it begins right after it.
        (
            "Pacific/Apia",
            "22:00",
            "06:00",
            "2011-12-30T10:00:00Z",
            Some("2011-12-30T16:00:00Z"),
        ),
        // Ramadan: the clock goes back in February and forward again in March.
        (
            "Africa/Casablanca",
            "23:00",
            "02:30",
            "2026-02-15T01:45:00Z",
            Some("2026-02-15T02:30:00Z"),
        ),
        (
            "Africa/Casablanca",
            "23:00",
            "02:30",
            "2026-03-22T01:45:00Z",
            Some("2026-03-22T02:00:00Z"),
        ),
    ] {
        let hours = every_night(start, end);
        assert_eq!(
            hours.until(&zone(name), at(now)),
            until.map(at),
            "{name} {start}-{end} {now}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let hours = quiet(json!([
        {"days": [], "start": "22:00", "end": "07:00"},
        {"days": ["mon", "tue", "mon"], "start": "22:00", "end": "07:00"},
    ]));
    let faults = hours.check();
    let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, ["/windows/0/days", "/windows/1/days/2"]);
    let window = hours.windows[0].clone();
    let many = QuietHours {
        windows: vec![
            QuietWindow {
                days: vec![Weekday::Mon],
                ..window
            };
            15
        ],
    };
    assert_eq!(many.check().len(), 1);
    for time in ["24:00", "7:00", "07:60", "07:00:00", "", "0700", "+7:00", "07:0a"] {
        assert!(time.parse::<TimeOfDay>().is_err(), "{time}");
    }
    assert_eq!(
        "07:05".parse::<TimeOfDay>().map(|time| time.to_string()),
        Ok("07:05".to_owned())
    );
}

/// Days around which the clocks of these zones change, and one on which they do not.
const PLACES: [(&str, &str); 10] = [
    ("Europe/Berlin", "2026-03-29T00:00:00Z"),
    ("Europe/Berlin", "2026-10-25T00:00:00Z"),
    ("Europe/Berlin", "2026-07-01T00:00:00Z"),
    ("America/New_York", "2026-03-08T06:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
];

/// Walks minute by minute. A window has begun as soon as the wall clock has once shown its start or a later time, and has
/// not ended while the clock shows a time before its end, or will later show its end or a time before it.
struct Walk {
    from: i64,
    latest_so_far: Vec<civil::DateTime>,
    earliest_to_come: Vec<civil::DateTime>,
}

impl Walk {
    /// How many days it begins before the change of the clock, and ends after it.
    const BEFORE: i64 = 3;
    const AFTER: i64 = 11;

    fn around(zone: &Zone, middle: Timestamp) -> Self {
        let from = middle.as_micros() - Self::BEFORE * 1_440 * MINUTE;
        let shown: Vec<civil::DateTime> = (0..(Self::BEFORE + Self::AFTER) * 1_440)
            .map(|minute| zone.local(Timestamp::from_micros(from + minute * MINUTE)))
            .collect();
        let latest_so_far = shown
            .iter()
            .scan(shown[0], |latest, local| {
                *latest = (*latest).max(*local);
                Some(*latest)
            })
            .collect();
        let mut earliest_to_come: Vec<_> = shown
            .iter()
            .rev()
            .scan(shown[shown.len() - 1], |earliest, local| {
                *earliest = (*earliest).min(*local);
                Some(*earliest)
            })
            .collect();
        earliest_to_come.reverse();
        Self {
            from,
            latest_so_far,
            earliest_to_come,
        }
    }

    fn is_quiet(&self, minute: usize, hours: &QuietHours) -> bool {
        let date = self.latest_so_far[minute].date();
        (-4..=1).any(|days: i64| {
            let date = date.saturating_add(days.days());
            hours.windows.iter().any(|window| {
                let ends_on = if window.end > window.start {
                    date
                } else {
                    date.saturating_add(1.day())
                };
                window.days.contains(&Weekday::of(date))
                    && self.latest_so_far[minute] >= date.to_datetime(window.start.0)
                    && self.is_before(minute, ends_on.to_datetime(window.end.0))
            })
        })
    }

    fn is_before(&self, minute: usize, end: civil::DateTime) -> bool {
        let comes_again = self
            .earliest_to_come
            .get(minute + 1)
            .is_some_and(|earliest| *earliest <= end);
        comes_again || self.earliest_to_come[minute] < end
    }

    fn at(&self, minute: usize) -> Timestamp {
        Timestamp::from_micros(self.from + i64::try_from(minute).expect("small") * MINUTE)
    }
}

fn windows() -> impl Strategy<Value = QuietHours> {
    let time = || (0u8..24, 0u8..60).prop_map(|(hour, minute)| TimeOfDay::new(hour, minute).expect("a time"));
    // The hours at which clocks change come often.
    let near = || (0u8..4, 0u8..60).prop_map(|(hour, minute)| TimeOfDay::new(hour, minute).expect("a time"));
    let any = || prop_oneof![time(), near()];
    let days = prop::sample::subsequence(Weekday::ALL.to_vec(), 1..=7);
    let window = (days, any(), any()).prop_map(|(days, start, end)| QuietWindow { days, start, end });
    prop::collection::vec(window, 0..4).prop_map(|windows| QuietHours { windows })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn quiet_is_what_a_walk_over_the_wall_clock_finds(
        hours in windows(), place in prop::sample::select(&PLACES[..]), probes in prop::collection::vec(0usize..2_880, 8),
    ) {
        let zone = zone(place.0);
        let walk = Walk::around(&zone, at(place.1));
        // The day before the change and the day after it.
        let first = usize::try_from((Walk::BEFORE - 1) * 1_440).expect("small");
        for probe in probes {
            let minute = first + probe;
            let now = walk.at(minute);
            let longest = 8 * 1_440;
            let expected = walk.is_quiet(minute, &hours).then(|| {
                let lasts = (1..longest).find(|more| !walk.is_quiet(minute + more, &hours)).unwrap_or(longest);
                walk.at(minute + lasts)
            });
            prop_assert_eq!(hours.until(&zone, now), expected, "{} {}", place.0, now);
            let next = (1..longest).find(|more| {
                walk.is_quiet(minute + more, &hours) && !walk.is_quiet(minute + more - 1, &hours)
            });
            if let Some(next) = next {
                prop_assert_eq!(hours.next_start(&zone, now), Some(walk.at(minute + next)), "{} {}", place.0, now);
            }
        }
    }

    #[test]
    fn the_end_of_quiet_is_not_quiet_unless_it_was_cut(
        hours in windows(), place in prop::sample::select(&PLACES[..]), minute in -3_000i64..3_000,
    ) {
        let zone = zone(place.0);
        let now = Timestamp::from_micros(at(place.1).as_micros() + minute * MINUTE);
        if let Some(until) = hours.until(&zone, now) {
            prop_assert!(until > now);
            prop_assert!(until == now.after(LONGEST_QUIET) || hours.until(&zone, until).is_none());
        }
    }
}
