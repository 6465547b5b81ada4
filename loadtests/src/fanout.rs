//! What one delivery costs when a publication goes to 1,000 sockets.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    connect::{PATIENCE, connect, read_head},
    floor, http,
    process::Server,
    report::{Figure, median, spread},
    sockets::{Greeting, Sockets},
};

const SUBSCRIBERS: usize = 1_000;
const PUBLICATIONS: u64 = 200;
const TOPIC: &str = "live.bench";

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let bare = Server::floor()?;
    let carillon = Server::carillon(program)?;
    let token = http::token(carillon.port, &carillon.key, "ada")?;
    let mut bare_sockets = Sockets::open(
        bare.port,
        SUBSCRIBERS,
        &Greeting {
            token: None,
            topic: "",
        },
    )?;
    let mut sockets = Sockets::open(
        carillon.port,
        SUBSCRIBERS,
        &Greeting {
            token: Some(&token),
            topic: TOPIC,
        },
    )?;
    let mut control = connect(bare.port)?;
    control.write_all(b"GET /control HTTP/1.1\r\n\r\n")?;
    let head = read_head(&mut control).context("the floor's control connection")?;
    ensure!(head.starts_with("HTTP/1.1 101"), "the floor answered {head:?}");
    let mut publisher = http::Client::connect(carillon.port, &carillon.key)?;
    // The frame on the wire is as long as the floor's: the payload is what the protocol's own words leave.
    let data = "x".repeat(floor::PAYLOAD - r#"{"push":{"channel":"live.bench","pub":{"data":""}}}"#.len());
    let request = publisher.prepare(
        &format!("/v1/topics/{TOPIC}/publish"),
        &format!(r#"{{"publications":[{{"data":"{data}"}}]}}"#),
    );
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = bare.cpu()?;
        for _ in 0..PUBLICATIONS {
            // On the client's core: it costs the measured server nothing.
            sockets.serve(Duration::ZERO)?;
            control.write_all(&[1])?;
            bare_sockets
                .read_frames(SUBSCRIBERS as u64, PATIENCE)
                .context("the floor's frames")?;
        }
        floors.push((bare.cpu()? - before).as_secs_f64() * 1e6 / (PUBLICATIONS as f64 * SUBSCRIBERS as f64));
        let before = carillon.cpu()?;
        for _ in 0..PUBLICATIONS {
            let (status, body) = publisher.exchange(&request)?;
            ensure!(
                status == 200,
                "publish: {status} {}",
                String::from_utf8_lossy(&body)
            );
            sockets
                .read_frames(SUBSCRIBERS as u64, PATIENCE)
                .context("Carillon's frames")?;
        }
        ours.push(
            (carillon.cpu()? - before).as_secs_f64() * 1e6 / (PUBLICATIONS as f64 * SUBSCRIBERS as f64),
        );
    }
    let expected = PUBLICATIONS * rounds as u64;
    ensure!(
        sockets.each_had(expected),
        "a subscriber missed a frame or had one too many"
    );
    let ratios = ours
        .iter()
        .zip(&floors)
        .map(|(ours, floor)| ours / floor)
        .collect();
    Ok(vec![Figure {
        name: "CPU per delivery, 1 to 1,000 WebSockets",
        carillon: format!("{:.2} us", median(ours)),
        floor: format!("{:.2} us, bare send loop", median(floors)),
        ratio: spread(ratios),
    }])
}
