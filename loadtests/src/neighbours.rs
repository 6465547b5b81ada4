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
    process::{Server, folder_in_memory},
    receiver::{MARK, Manner, Receiver},
    report::{Figure, median},
    webhooks::{may_call, users},
};

const HEALTHY: usize = 4;
/// Notifications for healthy hosts per second, and for the other one: about a fifth of what the server can do on its core.
const PER_SECOND: u64 = 250;
const OTHERS_PER_SECOND: u64 = 50;
/// What comes before is sent but not counted. By then the breaker of a host that hangs is open.
const WARM_UP: Duration = Duration::from_millis(1_500);
const MEASURED: Duration = Duration::from_secs(4);
/// The median of fewer p99s says too little, more take too long.
const PAIRS: usize = 5;
/// So short that attempts on a host that hangs end, and its breaker opens, while it is measured.
const ATTEMPT: &str = "1s";
/// How long the last one may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(program: &Path, _: usize) -> Result<Vec<Figure>> {
    let (mut well, mut fails, mut hangs) = (Vec::new(), Vec::new(), Vec::new());
    let mut place = "";
    for pair in 1..=PAIRS {
        let mut turns = [
            (Manner::Well, &mut well),
            (Manner::Fails, &mut fails),
            (Manner::Hangs, &mut hangs),
        ];
        // Who comes first changes, so that what the machine does besides favours nobody.
        turns.rotate_left(pair % 3);
        for (manner, into) in turns {
            let (times, there) =
                times(program, manner).with_context(|| format!("beside a host: {manner:?}"))?;
            place = there;
            into.push(times.value_at_quantile(0.99) as f64 / 1e6);
        }
        let last = |times: &[f64]| times.last().copied().unwrap_or(f64::NAN);
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
            fails,
            &well,
            place,
        ),
        figure(
            "POST to webhook at healthy hosts, p99, another host hangs",
            hangs,
            &well,
            place,
        ),
    ])
}

/// From when a POST should have left to the arrival of its webhook, in nanoseconds.
type Times = Histogram<u64>;

/// The ratio is that of the medians of the rounds' p99s; the spread that of the rounds' ratios.
fn figure(name: &'static str, bad: Vec<f64>, well: &[f64], place: &str) -> Figure {
    let ratios = bad.iter().zip(well).map(|(bad, well)| bad / well);
    let (least, most) = ratios.fold((f64::INFINITY, 0.0_f64), |(least, most), ratio| {
        (least.min(ratio), most.max(ratio))
    });
    let best = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let (best_ours, best_floor) = (best(&bad), best(well));
    let (ours, floor) = (median(bad), median(well.to_vec()));
    Figure {
        name,
        carillon: format!("{ours:.2} ms (best {best_ours:.2})"),
        floor: format!("{floor:.2} ms (best {best_floor:.2}), while that host is well; {place}"),
        ratio: format!("{:.2} ({least:.2}-{most:.2})", ours / floor),
    }
}

fn times(program: &Path, manner: Manner) -> Result<(Times, &'static str)> {
    let manners = [vec![Manner::Well; HEALTHY], vec![manner]].concat();
    let mut far_end = FarEnd::listen(HEALTHY + 1, Receiver::with(manners))?;
    let ports = far_end.ports()?;
    let mut settings = may_call(&ports);
    settings.push(("OUTBOUND__TOTAL", ATTEMPT.to_owned()));
    settings.push(("OUTBOUND__CONNECT", ATTEMPT.to_owned()));
    let (folder, place) = folder_in_memory()?;
    let server = Server::carillon_in(program, &settings, folder)?;
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
    Ok((histogram, place))
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
