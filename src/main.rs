//! Carillon: a realtime notification and messaging hub.

mod app;
mod bounces;
mod channels;
mod cli;
mod config;
mod entrance;
mod guests;
mod lock;
mod methods;
mod openapi;
mod page;
mod quickstart;
mod reference;
mod roles;
mod serve;
mod server_info;

// Many small allocations that live for hours, next to bursts: glibc would keep what the bursts took.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
