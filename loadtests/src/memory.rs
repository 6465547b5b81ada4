//! What one more idle connection costs: the slope between two sizes, each connection greeted and subscribed.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    http,
    process::Server,
    report::{Figure, spread},
    sockets::{Greeting, Sockets},
};

const SMALL: usize = 1_000;
const LARGE: usize = 5_000;

pub(crate) fn measure(program: &Path) -> Result<Vec<Figure>> {
    let floor = {
        let server = Server::floor()?;
        slope(
            &server,
            &Greeting {
                token: None,
                topic: "",
            },
        )?
    };
    let carillon = {
        let server = Server::carillon(program)?;
        let token = http::token(server.port, &server.key, "ada")?;
        slope(
            &server,
            &Greeting {
                token: Some(&token),
                topic: "live.bench",
            },
        )?
    };
    Ok(vec![Figure {
        name: "memory per idle WebSocket, user space",
        carillon: format!("{:.0} B", carillon),
        floor: format!("{:.0} B, bare epoll", floor),
        ratio: spread(vec![carillon / floor]),
    }])
}

fn slope(server: &Server, greeting: &Greeting<'_>) -> Result<f64> {
    let mut sockets = Sockets::open(server.port, SMALL, greeting)?;
    let settling = Duration::from_secs(4);
    sockets.hold(settling)?;
    let small = server.anonymous_memory()?;
    sockets.add(server.port, LARGE - SMALL, greeting)?;
    sockets.hold(settling)?;
    let large = server.anonymous_memory()?;
    Ok((large as f64 - small as f64) / (sockets.len() - SMALL) as f64)
}
