use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn zone(name: &str) -> Zone {
    name.parse().expect("a zone")
}

fn cron(text: &str) -> Cron {
    text.parse().expect("an expression")
}

fn runs(text: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (cron(text), zone(zone_name));
    std::iter::successors(cron.next_after(&zone, at(from)), |at| cron.next_after(&zone, *at))
        .take(count)
        .map(|at| at.to_string()[..16].to_owned())
        .collect()
}

#[test]
fn expressions_run_on_the_wall_clock() {
    assert_eq!(
        runs("0 9 * * MON-FRI", "Europe/Berlin", "2026-10-23T00:00:00Z", 3),
        ["2026-10-23T07:00", "2026-10-26T08:00", "2026-10-27T08:00"]
    );
    assert_eq!(
        runs("30 6 1,15 jan *", "America/New_York", "2026-11-21T00:00:00Z", 2),
        ["2027-01-01T11:30", "2027-01-15T11:30"]
    );
    assert_eq!(
        runs("0 0 13 * FRI", "UTC", "2026-11-10T00:00:00Z", 3),
        ["2026-11-13T00:00", "2026-11-20T00:00", "2026-11-27T00:00"],
        "either of the days is enough"
    );
    assert_eq!(
        runs("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
        ["2104-02-29T00:00"]
    );
}

#[test]
fn what_is_skipped_runs_once_after_the_gap() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]
    );
    assert_eq!(
        runs("*/20 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T01:00", "2026-03-30T00:00"],
        "three skipped times are one run"
    );
    assert_eq!(
        runs("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 2),
        ["2026-10-03T15:30", "2026-10-04T15:10"]
    );
    assert_eq!(
        runs("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3),
        ["2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00"],
        "the day that never was"
    );
}

#[test]
fn what_comes_twice_runs_once_unless_it_is_by_the_hour() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30", "2026-10-26T01:30"]
    );
    assert_eq!(
        runs("*/30 1-2 * * *", "America/New_York", "2026-11-01T04:59:00Z", 4),
        [
            "2026-11-01T05:00",
            "2026-11-01T05:30",
            "2026-11-01T07:00",
            "2026-11-01T07:30"
        ]
    );
    assert_eq!(
        runs("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:50:00Z", 5),
        [
            "2026-10-25T00:00",
            "2026-10-25T00:30",
            "2026-10-25T01:00",
            "2026-10-25T01:30",
            "2026-10-25T02:00"
        ]
    );
    assert_eq!(
        runs("15 * * * *", "Africa/Casablanca", "2026-02-15T00:20:00Z", 4),
        [
            "2026-02-15T01:15",
            "2026-02-15T02:15",
            "2026-02-15T03:15",
            "2026-02-15T04:15"
        ]
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, place) in [
        ("60 * * * *", (0, "minute")),
        ("*  24 * * *", (3, "hour")),
        ("0 9 32 * *", (4, "day of the month")),
        ("0 9 * 13 *", (6, "month")),
        ("0 9 * * 8", (8, "day of the week")),
        ("0 9 * * MOND", (8, "day of the week")),
        ("0 9 * MON *", (6, "month")),
        ("0 9 L * *", (4, "day of the month")),
        ("0 9 * * FRI#1", (8, "day of the week")),
        ("5-1 * * * *", (0, "minute")),
        ("*/0 * * * *", (0, "minute")),
        ("1,,2 * * * *", (0, "minute")),
        ("0 \u{e9} * * *", (2, "hour")),
    ] {
        match text.parse::<Cron>() {
            Err(CronError::Field { at, name, .. }) => assert_eq!((at, name), place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        &format!("{} * * * *", "0,".repeat(200)),
    ] {
        assert_eq!(text.parse::<Cron>(), Err(CronError::Form), "{text}");
    }
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(text.parse::<Cron>(), Err(CronError::Never), "{text}");
    }
}

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Antarctica/Troll",
];

const EXPRESSIONS: [&str; 8] = [
    "* * * * *",
    "*/7 * * * *",
    "30 2 * * *",
    "*/20 1-3 * * SUN",
    "0 */6 * * *",
    "15 0 1 * *",
    "59 23 * 3,10 *",
    "0 12 29 2 *",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_next_time_is_strictly_later_and_never_overtakes(
        text in prop::sample::select(&EXPRESSIONS[..]), name in prop::sample::select(&ZONES[..]),
        now in 1_200_000_000i64..1_900_000_000, later in 0i64..10_000_000,
    ) {
        let (cron, zone) = (cron(text), zone(name));
        let (now, later) = (Timestamp::from_seconds(now), Timestamp::from_seconds(now + later));
        let next = cron.next_after(&zone, now).expect("a next time");
        prop_assert!(next > now);
        let after = cron.next_after(&zone, later).expect("a next time");
        prop_assert!(after >= next);
        // Nothing lies between: asking right before the answer gives it again.
        let just_before = next.before(Duration::from_micros(1));
        prop_assert_eq!(cron.next_after(&zone, just_before), Some(next));
        if later < next {
            prop_assert_eq!(after, next);
        }
    }

    #[test]
    fn around_a_change_each_time_runs_as_a_walk_by_the_minute_finds(
        text in prop::sample::select(&["*/7 * * * *", "30 2 * * *", "*/20 1-3 * * *", "5 0,1,2,3 * * *"][..]),
        change in prop::sample::select(&[
            ("Europe/Berlin", "2026-03-29T01:00:00Z"), ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"), ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"), ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("Antarctica/Troll", "2026-03-29T01:00:00Z"), ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
        ][..]),
        minute in -300i64..300,
    ) {
        let (cron, zone) = (cron(text), zone(change.0));
        let minutes = |from: Timestamp, by: i64| Timestamp::from_micros(from.as_micros() + by * 60_000_000);
        let now = minutes(at(change.1), minute);
        let names = |local: civil::DateTime| {
            let at = local.to_zoned(TimeZone::UTC).expect("a time");
            cron.pattern.is_time_matching(&at).expect("a time")
        };
        // What the wall clock has shown at the latest, so far: it tells second passes and gaps.
        let mut latest = (0..1_440).map(|back| zone.local(minutes(now, -back))).max().expect("some");
        let expected = (1..2_880).find_map(|more| {
            let at = minutes(now, more);
            let local = zone.local(at);
            let skipped = std::iter::successors(Some(latest), |local| local.checked_add(jiff::Span::new().minutes(1)).ok())
                .skip(1)
                .take_while(|skipped| *skipped <= local)
                .any(names);
            let again = local <= latest && cron.hourly && names(local);
            latest = latest.max(local);
            (skipped || again).then_some(at)
        });
        prop_assert_eq!(cron.next_after(&zone, now), expected, "{} {} {}", text, change.0, now);
    }
}
