//! The command line. One file per command; `client.rs` reaches a server, near or far.

mod client;
mod config;
mod dead_letters;
mod doctor;
mod dry_run;
mod exit;
mod follow;
mod keys;
mod made;
mod migrate;
mod openapi;
mod output;
mod send;
mod serve;
mod sse;
mod tail;
mod target;
mod token;
mod webhooks;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Failure;

/// A realtime notification and messaging hub: one keyboard, many bells.
#[derive(Debug, Parser)]
#[command(name = "carillon", version, after_help = exit::HELP, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Arguments),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Print a user's token (JWT), alone
    Token(token::Arguments),
    /// Send a notification and print its id
    Send(Box<send::Arguments>),
    /// Follow a user's stream, one line each
    Tail(tail::Arguments),
    /// Say why somebody was, or was not, notified: a timeline
    Why(why::Arguments),
    /// List webhook endpoints and try them
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// List deliveries that are not tried any more, and try them again
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Say what is reachable and what is misconfigured
    Doctor(doctor::Arguments),
    /// Bring the stores' schemas up to date
    Migrate(migrate::Arguments),
    /// Check and print the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the API's description (OpenAPI)
    Openapi,
}

impl Command {
    async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(arguments) => return serve::run(arguments).await,
            Self::Keys(command) => keys::run(command).await,
            Self::Token(arguments) => token::run(arguments).await,
            Self::Send(arguments) => send::run(*arguments).await,
            Self::Tail(arguments) => tail::run(arguments).await,
            Self::Why(arguments) => why::run(arguments).await,
            Self::Webhooks(command) => webhooks::run(command).await,
            Self::DeadLetters(command) => dead_letters::run(command).await,
            Self::Doctor(arguments) => doctor::run(arguments).await,
            // These open every store: a large future, made once.
            Self::Migrate(arguments) => Box::pin(migrate::run(arguments)).await,
            Self::Config(command) => config::run(command),
            Self::Openapi => Box::pin(openapi::run()).await,
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(command.run()),
        Err(error) => Err(Failure::Failed(format!("cannot start the runtime: {error}"))),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            failure.code()
        }
    }
}
