//! From POST to the frame on a user's SSE stream: open loop, from the time at which the request should have left.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;

use crate::{
    connect::{connect, impatient},
    http,
    process::Server,
    report::{Figure, spread},
};

const EVENTS: u64 = 2_000;
/// A fifth of what one core does: queueing is not what is measured here.
const PER_SECOND: u64 = 100;

pub(crate) fn measure(program: &Path) -> Result<Vec<Figure>> {
    let floor = floor()?;
    let carillon = carillon(program)?;
    let at = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
    Ok(
        [("POST to SSE frame, p50", 0.5), ("POST to SSE frame, p99", 0.99)]
            .into_iter()
            .map(|(name, quantile)| Figure {
                name,
                carillon: format!("{:.2} ms", at(&carillon, quantile)),
                floor: format!("{:.2} ms, round trip + 2 fdatasync", at(&floor, quantile)),
                ratio: spread(vec![at(&carillon, quantile) / at(&floor, quantile)]),
            })
            .collect(),
    )
}

fn carillon(program: &Path) -> Result<Histogram<u64>> {
    let server = Server::carillon(program)?;
    let token = http::token(server.port, &server.key, "ada")?;
    let mut stream = connect(server.port)?;
    write!(
        stream,
        "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    )?;
    let mut lines = BufReader::new(stream).lines();
    // The stream has begun once its first event is there.
    loop {
        let line = lines.next().context("the stream ended")??;
        if line.starts_with("event: position") || line.starts_with("event:position") {
            break;
        }
    }
    let (sender, arrivals) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line
                .strip_prefix("event:")
                .is_some_and(|name| name.trim() == "added")
                && sender.send(Instant::now()).is_err()
            {
                break;
            }
        }
    });
    let mut client = http::Client::connect(server.port, &server.key)?;
    let request = client.prepare(
        "/v1/notifications",
        r#"{"targets":[{"user":"ada"}],"content":{"title":"ding"}}"#,
    );
    let mut histogram = Histogram::new(3)?;
    let begin = Instant::now() + Duration::from_millis(100);
    for event in 0..EVENTS {
        let due = begin + Duration::from_micros(event * 1_000_000 / PER_SECOND);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (status, body) = client.exchange(&request)?;
        if status != 202 {
            bail!("POST: {status} {}", String::from_utf8_lossy(&body));
        }
        let arrival = arrivals
            .recv_timeout(Duration::from_secs(10))
            .context("no frame within 10 s")?;
        histogram.record(u64::try_from(arrival.saturating_duration_since(due).as_nanos())?)?;
    }
    drop(server);
    // The server is gone, so the stream has ended.
    let _ = reader.join();
    Ok(histogram)
}

fn floor() -> Result<Histogram<u64>> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("floor"))?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let echo = std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        impatient(&stream)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            for _ in 0..2 {
                file.write_all(&[0; 4096])?;
                file.sync_data()?;
            }
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = connect(port)?;
    let mut histogram = Histogram::new(3)?;
    let begin = Instant::now();
    for event in 0..EVENTS {
        let due = begin + Duration::from_micros(event * 1_000_000 / PER_SECOND);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        histogram.record(u64::try_from(due.elapsed().as_nanos())?)?;
    }
    drop(stream);
    echo.join()
        .map_err(|_| anyhow::anyhow!("the floor's thread panicked"))??;
    Ok(histogram)
}
