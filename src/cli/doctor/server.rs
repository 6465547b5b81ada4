//! The running server, if one runs: by its socket, and by the address that it gives to the world.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::Finding;
use crate::{
    cli::client::{http_client, is_answered},
    config::Config,
    server_info::{self, ServerInfo},
};

const SUBJECT: &str = "server";
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Report {
    status: String,
    #[serde(default)]
    checks: BTreeMap<String, String>,
}

/// What there is to say, and whether a server runs.
pub(super) async fn examine(config: &Config) -> (Vec<Finding>, bool) {
    let socket = config.socket();
    if !is_answered(&socket).await {
        let text = format!("none runs on {}", config.data.path.display());
        return (vec![Finding::note(SUBJECT, text)], false);
    }
    let Ok(http) = http_client(Some(&socket)) else {
        return (vec![Finding::fault(SUBJECT, "the socket cannot be used")], true);
    };
    let mut findings = Vec::new();
    let info: Option<ServerInfo> = ask(&http, &format!("http://carillon{}", server_info::PATH))
        .await
        .ok();
    match &info {
        Some(info) => {
            findings.push(Finding::good(
                SUBJECT,
                format!("runs as process {} since {}", info.pid, info.started_at),
            ));
            let ours = env!("CARGO_PKG_VERSION");
            if info.version != ours {
                let text = format!("it is version {}, this executable {ours}", info.version);
                findings.push(Finding::warning(SUBJECT, text).hint("restart it to run what is installed"));
            }
            if info.dev {
                findings.push(Finding::note(SUBJECT, "serves the quickstart page (--dev)"));
            }
        }
        None => findings.push(Finding::warning(
            SUBJECT,
            "answers on its socket, and does not say what it is",
        )),
    }
    match ask::<Report>(&http, "http://carillon/health/ready").await {
        Ok(report) if report.status == "ready" => findings.push(Finding::good(SUBJECT, "ready")),
        Ok(report) => {
            let failed: Vec<_> = report
                .checks
                .iter()
                .filter(|(_, result)| *result != "ok")
                .map(|(name, _)| name.as_str())
                .collect();
            let text = format!("{}: {}", report.status, failed.join(", "));
            findings.push(Finding::fault(SUBJECT, text).hint("its log says why"));
        }
        Err(error) => findings.push(Finding::fault(SUBJECT, format!("/health/ready: {error}"))),
    }
    if let Some(info) = info {
        findings.push(public(&info.url).await);
    }
    (findings, true)
}

/// Whether the public listener answers from here.
async fn public(url: &str) -> Finding {
    let Ok(http) = http_client(None) else {
        return Finding::fault(SUBJECT, "no client for the public address");
    };
    // Every address is not one that can be called.
    let url = url
        .replace("://0.0.0.0:", "://127.0.0.1:")
        .replace("://[::]:", "://[::1]:");
    match ask::<Report>(&http, &format!("{url}/health/live")).await {
        Ok(_) => Finding::good(SUBJECT, format!("answers at {url}")),
        Err(error) if url.starts_with("https:") => Finding::note(
            SUBJECT,
            format!("{url}: {error} (its certificate may be for another name)"),
        ),
        Err(error) => Finding::fault(SUBJECT, format!("{url}: {error}")),
    }
}

async fn ask<T: serde::de::DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, String> {
    let request = http.get(url).timeout(PATIENCE);
    let answer = request
        .send()
        .await
        .map_err(|error| crate::cli::client::causes(&error))?;
    answer
        .json()
        .await
        .map_err(|error| crate::cli::client::causes(&error))
}
