//! `carillon config`: what is in force.

use std::collections::BTreeMap;

use carillon_runtime::config::Origin;
use clap::{Args, Subcommand};

use super::{exit::Failure, output, target::Place};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read the configuration and say what is wrong with it, if something is
    Check(Arguments),
    /// Print the whole configuration as TOML, without secrets
    Print(Print),
    /// Print a file with every key at its default, commented out
    Reference,
    /// Print the reference of all keys as Markdown: docs/configuration.md
    #[command(hide = true)]
    Document,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Print {
    #[command(flatten)]
    place: Place,

    /// Print which key was set where instead; what is missing has its default
    #[arg(long)]
    origins: bool,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(arguments) => check(&arguments),
        Command::Print(arguments) => print(&arguments),
        Command::Reference => output::line(carillon_runtime::config::reference_toml::<Config>().trim_end()),
        Command::Document => output::line(carillon_runtime::config::document::<Config>().trim_end()),
    }
}

fn check(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = arguments.place.load(Vec::new())?;
    if arguments.json {
        return output::json(&serde_json::json!({
            "ok": true,
            "warnings": loaded.warnings,
            "origins": places(&loaded.origins),
        }));
    }
    for warning in &loaded.warnings {
        output::note(format_args!("warning: {warning}"));
    }
    let set = loaded.origins.len();
    output::line(format_args!(
        "the configuration is fine: {set} {} set, the rest at defaults",
        if set == 1 { "key" } else { "keys" }
    ))
}

fn print(arguments: &Print) -> Result<(), Failure> {
    let loaded = arguments.place.load(Vec::new())?;
    if arguments.origins {
        return places(&loaded.origins)
            .into_iter()
            .try_for_each(|(key, origin)| output::line(format_args!("{key}: {origin}")));
    }
    output::line(carillon_runtime::config::print(&loaded.config).trim_end())
}

fn places(origins: &BTreeMap<String, Origin>) -> BTreeMap<&str, String> {
    origins
        .iter()
        .map(|(key, origin)| (key.as_str(), origin.to_string()))
        .collect()
}
