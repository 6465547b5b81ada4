//! Whether a bad host slows its neighbours down: the time from when a POST should have left to the arrival of its webhook
//! at healthy hosts, while another host is well, fails at once, or never answers. It gets the same load in all three.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use crate::{
    far_end::FarEnd,
    http::Client,
    process::Server,
    receiver::{MARK, Manner, Receiver},
    report::Figure,
    webhooks::{may_call, users},
};

const HEALTHY: usize = 4;
/// Notifications for healthy hosts per second, and for the other one.
const PER_SECOND: u64 = 250;
const OTHERS_PER_SECOND: u64 = 50;
/// What comes before is sent but not counted.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(2);
/// Fewer pairs say too little about a p99, more take too long.
const PAIRS: usize = 3;
/// So short that attempts on a host that hangs end, and its breaker opens, while it is measured.
const ATTEMPT: &str = "1s";
/// How long the last one may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(program: &Path, _: usize) -> Result<Vec<Figure>> {
    let (mut well, mut fails, mut hangs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        for (manner, into) in [
            (Manner::Well, &mut well),
            (Manner::Fails, &mut fails),
            (Manner::Hangs, &mut hangs),
        ] {
            into.push(times(program, manner).with_context(|| format!("beside a host: {manner:?}"))?);
        }
        let last = |times: &[Times]| times.last().map_or(f64::NAN, p99);
        eprintln!(
            "  pair {pair} of {PAIRS}: p99 {:.2} ms, beside a failing host {:.2} ms, beside a hanging one {:.2} ms",
            last(&well),
            last(&fails),
            last(&hangs)
        );
    }
    Ok(vec![
        figure(
            "POST to webhook at healthy hosts, p99, another host fails",
            &fails,
            &well,
        )?,
        figure(
            "POST to webhook at healthy hosts, p99, another host hangs",
            &hangs,
            &well,
        )?,
    ])
}

/// From when a POST should have left to the arrival of its webhook, in nanoseconds.
type Times = Histogram<u64>;

/// In milliseconds.
fn p99(times: &Times) -> f64 {
    times.value_at_quantile(0.99) as f64 / 1e6
}

/// The p99 of all pairs together; the ratio's spread is that of the pairs.
fn figure(name: &'static str, bad: &[Times], well: &[Times]) -> Result<Figure> {
    let together = |times: &[Times]| -> Result<f64> {
        let mut all = Times::new(3)?;
        for times in times {
            all.add(times)?;
        }
        Ok(p99(&all))
    };
    let (ours, floor) = (together(bad)?, together(well)?);
    let ratios = bad.iter().zip(well).map(|(bad, well)| p99(bad) / p99(well));
    let (least, most) = ratios.fold((f64::INFINITY, 0.0_f64), |(least, most), ratio| {
        (least.min(ratio), most.max(ratio))
    });
    Ok(Figure {
        name,
        carillon: format!("{ours:.2} ms"),
        floor: format!("{floor:.2} ms, while that host is well"),
        ratio: format!("{:.2} ({least:.2}-{most:.2})", ours / floor),
    })
}

fn times(program: &Path, manner: Manner) -> Result<Times> {
    let manners = [vec![Manner::Well; HEALTHY], vec![manner]].concat();
    let mut far_end = FarEnd::listen(HEALTHY + 1, Receiver::with(manners))?;
    let ports = far_end.ports()?;
    let mut settings = may_call(&ports);
    settings.push(("OUTBOUND__TOTAL", ATTEMPT.to_owned()));
    settings.push(("OUTBOUND__CONNECT", ATTEMPT.to_owned()));
    let server = Server::carillon_with(program, &settings)?;
    users(&server, &ports)?;
    let begin = Instant::now() + Duration::from_millis(100);
    let count = (WARM_UP + MEASURED).as_millis() as u64 * PER_SECOND / 1_000;
    let others = (WARM_UP + MEASURED).as_millis() as u64 * OTHERS_PER_SECOND / 1_000;
    std::thread::scope(|scope| {
        let sender = |even: u64| {
            send(
                &server,
                begin,
                PER_SECOND,
                (0..count).filter(move |n| n % 2 == even),
                |n| (n as usize % HEALTHY, format!("{MARK}{n} of {count}")),
            )
        };
        let senders = [
            scope.spawn(move || sender(0)),
            scope.spawn(move || sender(1)),
            scope.spawn(|| {
                send(&server, begin, OTHERS_PER_SECOND, 0..others, |_| {
                    (HEALTHY, "Build failed".to_owned())
                })
            }),
        ];
        // It sleeps while nothing comes, so that the senders are on time.
        while far_end.service.marks.len() < count as usize {
            ensure!(
                begin.elapsed() < WARM_UP + MEASURED + PATIENCE,
                "{} of {count} arrived in time: {}",
                far_end.service.marks.len(),
                server.log()
            );
            far_end.turn(Duration::from_millis(100))?;
        }
        for sender in senders {
            sender.join().ok().context("a sender panicked")??;
        }
        Ok(())
    })?;
    let mut histogram = Times::new(3)?;
    for (number, arrival) in &far_end.service.marks {
        let due = due(begin, *number, PER_SECOND);
        if due >= begin + WARM_UP {
            histogram.record(u64::try_from(arrival.saturating_duration_since(due).as_nanos())?)?;
        }
    }
    Ok(histogram)
}

fn due(begin: Instant, number: u64, per_second: u64) -> Instant {
    begin + Duration::from_micros(number * 1_000_000 / per_second)
}

/// Sends each notification when it is due: to which user, and its title.
fn send(
    server: &Server,
    begin: Instant,
    per_second: u64,
    numbers: impl Iterator<Item = u64>,
    item: impl Fn(u64) -> (usize, String),
) -> Result<()> {
    let mut client = Client::connect(server.port, &server.key)?;
    for number in numbers {
        let (user, title) = item(number);
        let request = client.prepare(
            "/v1/notifications",
            &format!(
                r#"{{"targets":[{{"user":"user{user}"}}],"channels":["webhook"],"content":{{"title":"{title}"}}}}"#
            ),
        );
        std::thread::sleep(due(begin, number, per_second).saturating_duration_since(Instant::now()));
        let (status, answer) = client.exchange(&request)?;
        ensure!(
            status == 202,
            "POST: {status} {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}
