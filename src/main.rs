//! Carillon: a realtime notification and messaging hub.

mod app;
mod cli;
mod config;
mod guests;
mod lock;
mod openapi;
mod page;
mod quickstart;
mod reference;
mod roles;
mod serve;
mod server_info;

fn main() -> std::process::ExitCode {
    cli::main()
}
