//! Measures a running Carillon from outside, each figure beside a floor measured in the same run: the same client, the
//! same sockets, but the barest server that could do the job. Ratios carry over between machines; absolute figures do
//! not.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

mod accept;
mod connect;
mod fanout;
mod floor;
mod http;
mod latency;
mod memory;
mod process;
mod report;
mod sockets;
mod startup;

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
    },
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
        Command::Bench {
            server,
            report,
            rounds,
        } => {
            let mut figures = report::Report::new(&server)?;
            figures.scenario("start-up and idle memory", || startup::measure(&server, rounds))?;
            figures.scenario("durable accepts", || accept::measure(&server, rounds))?;
            figures.scenario("POST to SSE frame", || latency::measure(&server))?;
            figures.scenario("memory per idle connection", || memory::measure(&server))?;
            figures.scenario("fan-out to 1,000 sockets", || fanout::measure(&server, rounds))?;
            figures.write(&report)?;
            println!("{}", figures.table());
            eprintln!("report: {}", report.display());
            Ok(())
        }
    }
}
