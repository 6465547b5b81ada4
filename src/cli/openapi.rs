//! `carillon openapi`: the API's description.

use std::os::unix::fs::DirBuilderExt as _;

use carillon_runtime::lifecycle::Stop;

use super::{exit::Failure, output};
use crate::{app::App, config::Config};

/// The handlers describe themselves, and they want stores: empty ones in a folder that is removed again.
pub(super) async fn run() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("carillon-openapi-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let mut config = Config::default();
    config.data.path.clone_from(&folder);
    let document = describe(&config).await;
    std::fs::remove_dir_all(&folder)?;
    output::line(document.map_err(|error| Failure::Failed(format!("{error:#}")))?)
}

async fn describe(config: &Config) -> anyhow::Result<String> {
    let app = App::open(config).await?;
    let (_, document) = app.routes(&app.hub(config), &Stop::new()).split_for_parts();
    app.close().await;
    Ok(document.to_pretty_json()?)
}
