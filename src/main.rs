//! Carillon: a realtime notification and messaging hub.

mod cli;
mod page;
mod quickstart;
mod reference;

fn main() -> std::process::ExitCode {
    cli::main()
}
