//! How soon it serves, and what it holds when nobody is there.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    process::Server,
    report::{Figure, median},
};

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let server = Server::carillon(program)?;
        starts.push(server.started_in.as_secs_f64() * 1e3);
        // What start-up allocated is given back within the allocator's decay.
        std::thread::sleep(Duration::from_secs(3));
        memory.push(server.resident_memory()? as f64 / (1024.0 * 1024.0));
    }
    let figure = |name, carillon| Figure {
        name,
        carillon,
        floor: "-".into(),
        ratio: "-".into(),
    };
    Ok(vec![
        figure("start-up to ready", format!("{:.0} ms", median(starts))),
        figure("idle process, resident", format!("{:.1} MiB", median(memory))),
    ])
}
