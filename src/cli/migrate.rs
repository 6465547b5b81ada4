//! `carillon migrate`: brings the stores' schemas up to date, and nothing else.

use clap::Args;

use super::{exit::Failure, output, target::Place};
use crate::{app::App, lock::DataLock};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.place.load(Vec::new())?.config;
    let _lock = DataLock::take(&config.data.path).map_err(|error| Failure::at_start(&error.into()))?;
    let app = App::open(&config)
        .await
        .map_err(|error| Failure::at_start(&error))?;
    app.close().await;
    output::line("the schemas are up to date")
}
