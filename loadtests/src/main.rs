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
mod broadcast;
mod connect;
mod costs;
mod deliveries;
mod emails;
mod fanout;
mod far_end;
mod floor;
mod http;
mod latency;
mod memory;
mod neighbours;
mod process;
mod receiver;
mod replay;
mod report;
mod sink;
mod sockets;
mod startup;
mod ticks;
mod turns;
mod webhooks;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures a running Carillon beside same-run floors")]
struct Arguments {
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
        /// Where the report goes (Markdown).
        #[arg(long, default_value = "docs/benchmarks.md")]
        report: PathBuf,
        /// Rounds of each pair; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// These scenarios alone, by words of their names, separated by commas. Then no report is written.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// The barest client: sends the same delivery again and again. Started by `bench`.
    Bare(bare::Bare),
    /// The barest server: accepts, answers 101 and sends prepared frames. Started by `bench`.
    Floor {
        /// The port on 127.0.0.1 to listen on.
        #[arg(long)]
        port: u16,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Floor { port } => floor::serve(port),
        Command::Bare(bare) => bare::run(&bare),
        Command::Bench {
            server,
            report,
            rounds,
            only,
        } => {
            let mut figures = report::Report::new(&server, rounds, &only)?;
            figures.scenario("start-up and idle memory", startup::measure)?;
            figures.scenario("durable accepts", accept::measure)?;
            figures.scenario("POST to SSE frame", |server, _| latency::measure(server))?;
            figures.scenario("memory per idle connection", |server, _| memory::measure(server))?;
            figures.scenario("fan-out to 1,000 sockets", fanout::measure)?;
            figures.scenario("webhook deliveries", webhooks::measure)?;
            figures.scenario("email deliveries", emails::measure)?;
            figures.scenario("broadcast to 100,000", broadcast::measure)?;
            figures.scenario("ticks of the ladder", ticks::measure)?;
            figures.scenario("turns of tenants", turns::measure)?;
            figures.scenario("neighbours of a bad host", neighbours::measure)?;
            println!("{}", figures.table());
            if only.is_empty() {
                figures.write(&report)?;
                eprintln!("report: {}", report.display());
            }
            Ok(())
        }
    }
}
