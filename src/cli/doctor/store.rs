//! The stores: whether they open, and are safe to trust.

use super::Finding;
use crate::{app, config::Config};

const SUBJECT: &str = "store";

/// Every service with a store.
const SERVICES: [&str; 3] = ["dispatcher", "auth", "user"];

pub(super) async fn examine(config: &Config, running: bool) -> Vec<Finding> {
    let backends = match app::backends(config) {
        Ok(backends) => backends,
        Err(error) => return vec![Finding::fault(SUBJECT, format!("{error:#}"))],
    };
    let url = config.store.url.expose();
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return vec![match backends.database("doctor").await {
            Ok(database) => {
                database.close().await;
                Finding::good(SUBJECT, "PostgreSQL answers, and syncs what it commits")
            }
            Err(error) => Finding::fault(SUBJECT, format!("{:#}", anyhow::Error::from(error)))
                .hint("store.url; may the role connect, is the server up?"),
        }];
    };
    let folder = rest.trim_start_matches("//");
    let folder = if folder.is_empty() {
        config.data.path.clone()
    } else {
        folder.into()
    };
    if running {
        return vec![Finding::good(
            SUBJECT,
            format!("SQLite in {}, open in the server", folder.display()),
        )];
    }
    let mut findings = Vec::new();
    for service in SERVICES {
        let path = folder.join(format!("{service}.sqlite"));
        // Opening would make it.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        findings.push(match backends.database(service).await {
            Ok(database) => {
                database.close().await;
                let mib = metadata.len() as f64 / f64::from(1 << 20);
                Finding::good(SUBJECT, format!("{}, {mib:.1} MiB", path.display()))
            }
            Err(error) => Finding::fault(SUBJECT, format!("{:#}", anyhow::Error::from(error))),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::note(
            SUBJECT,
            format!("SQLite in {}, not made yet", folder.display()),
        ));
    }
    findings
}
