//! Measures a running Carillon from outside, each figure beside a floor measured in the same run: the same client, the
//! same sockets, but the barest server that could do the job. Ratios carry over between machines; absolute figures do
//! not.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

mod accept;
mod bare;
mod bare_hub;
mod broadcast;
mod burst;
mod commands;
mod connect;
mod costs;
mod deliveries;
mod drawings;
mod emails;
mod far_end;
mod flatness;
mod fleet;
mod goals;
mod handshake;
mod http;
mod idle;
mod kernel;
mod latency;
mod machine;
mod marks;
mod neighbours;
mod one_to_many;
mod pairs;
mod peers;
mod process;
mod publish;
mod receiver;
mod replay;
mod report;
mod scale;
mod schedule;
mod sections;
mod sequence;
mod sink;
mod soak;
mod sources;
mod stalled;
mod startup;
mod storm;
mod subjects;
mod svg;
mod ticks;
mod touch;
mod tree;
mod turns;
mod webhooks;
mod wire;
mod worker;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{commands::Kind, report::Report, scale::Scale};

#[derive(Parser)]
#[command(about = "Measures a running Carillon beside same-run floors")]
struct Arguments {
    /// The core that servers run on; clients run on another. Swapped, it shows whether the cores differ.
    #[arg(long, global = true, default_value_t = 0)]
    server_core: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every scenario and writes the report.
    Bench {
        /// The server's executable, built with optimisations.
        #[arg(long)]
        server: PathBuf,
        /// Where the report goes (Markdown); by default docs/benchmarks.md, and nowhere when only a part is run.
        #[arg(long)]
        report: Option<PathBuf>,
        /// Rounds of each pair; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// These scenarios alone, by words of their names, separated by commas. Then no report is written.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Connections of the reconnect storm; one client process holds 19,000.
        #[arg(long, default_value_t = 2_000)]
        storm: usize,
        /// A fiftieth of the connections, and short: shows that everything runs, its figures mean nothing.
        #[arg(long)]
        trial: bool,
    },
    /// Holds many connections for minutes, some of which leave and come back all the while; fails when a publication is lost,
    /// doubled or out of order anywhere, or memory, files or threads of the server rise.
    Soak(soak::Arguments),
    /// The barest client: sends the same delivery again and again. Started by `bench`.
    Bare(bare::Bare),
    /// The barest hub: topics, prepared frames, one write per socket. Started by `bench`.
    BareHub {
        /// The port on 127.0.0.1 to listen on.
        #[arg(long)]
        port: u16,
    },
    /// Holds many connections on one thread; takes commands on standard input. Started by `bench`.
    Worker(worker::Arguments),
    /// Writes to memory that is free, and ends. Started by `bench`.
    Touch,
    /// A peer: axum's own SSE and WebSocket with a tokio broadcast. Started by `bench`.
    StockAxum {
        /// The port on 127.0.0.1 to listen on.
        #[arg(long)]
        port: u16,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    process::choose_server_core(arguments.server_core)?;
    match arguments.command {
        Command::Bare(bare) => bare::run(&bare),
        Command::BareHub { port } => bare_hub::serve(port),
        Command::StockAxum { port } => peers::stock_axum::serve(port),
        Command::Touch => touch::run(),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments),
        Command::Bench {
            server,
            report,
            rounds,
            only,
            storm,
            trial,
        } => {
            let scale = Scale { is_trial: trial };
            let mut figures = Report::new(&server, rounds, &only)?;
            figures.scenario("start-up and idle memory", startup::measure)?;
            figures.scenario("durable accepts", accept::measure)?;
            figures.scenario("POST to SSE frame", |server, _| latency::measure(server))?;
            hub(&mut figures, storm, scale)?;
            figures.scenario("webhook deliveries", webhooks::measure)?;
            figures.scenario("email deliveries", emails::measure)?;
            figures.scenario("broadcast to 100,000", broadcast::measure)?;
            figures.scenario("ticks of the ladder", ticks::measure)?;
            figures.scenario("turns of tenants", turns::measure)?;
            figures.scenario("neighbours of a bad host", neighbours::measure)?;
            beside_peers(&mut figures, scale)?;
            println!("{}", figures.table());
            let is_whole = only.is_empty() && !trial;
            let report = report.or_else(|| is_whole.then(|| PathBuf::from("docs/benchmarks.md")));
            if let Some(report) = report {
                figures.write(&report)?;
                eprintln!("report: {}", report.display());
            }
            Ok(())
        }
    }
}

/// The core of the hub: connections and what goes out on them.
fn hub(figures: &mut Report, storm: usize, scale: Scale) -> Result<()> {
    figures.scenario("idle WebSockets", move |server, _| {
        idle::measure(server, Kind::WebSocket, scale)
    })?;
    figures.scenario("idle SSE", move |server, _| {
        idle::measure(server, Kind::Sse, scale)
    })?;
    for (name, shape) in [
        ("fan-out 1 to 1", one_to_many::ONE),
        ("fan-out 1 to 1,000", one_to_many::THOUSAND),
        ("fan-out 1 to 10,000", one_to_many::TEN_THOUSAND),
        ("fan-out 1,000 topics x 10", one_to_many::TOPICS),
    ] {
        figures.scenario(name, move |server, rounds| {
            one_to_many::measure(server, rounds, shape, scale)
        })?;
    }
    figures.scenario("burst of 32", move |server, rounds| {
        burst::measure(server, rounds, scale)
    })?;
    figures.scenario("5 % stalled readers", move |server, rounds| {
        stalled::measure(server, rounds, scale)
    })?;
    figures.scenario("handshake rate", move |server, rounds| {
        handshake::measure(server, rounds, scale)
    })?;
    figures.scenario("reconnect storm", move |server, rounds| {
        storm::measure(server, rounds, storm, scale)
    })?;
    figures.scenario("publish to nobody", move |server, rounds| {
        publish::measure(server, rounds, scale)
    })
}

/// Each peer by itself, so that one that hangs names itself.
fn beside_peers(figures: &mut Report, scale: Scale) -> Result<()> {
    for (name, peer, kind) in [
        ("peer stock axum, WebSocket", "stock axum", Kind::WebSocket),
        ("peer stock axum, SSE", "stock axum", Kind::Sse),
        ("peer nchan, WebSocket", "nchan", Kind::WebSocket),
        ("peer nchan, SSE", "nchan", Kind::Sse),
        ("peer socket.io", "Socket.IO", Kind::WebSocket),
        ("peer pushpin", "pushpin", Kind::Sse),
        ("peer soketi", "soketi", Kind::WebSocket),
        ("peer sockudo", "sockudo", Kind::WebSocket),
    ] {
        figures.scenario(name, move |server, _| {
            peers::compare::measure(server, peer, kind, scale)
        })?;
    }
    Ok(())
}
