//! The stores: whether they open, and are safe to trust.

use super::{super::made, Finding};
use crate::{app, config::Config};

const SUBJECT: &str = "store";

/// Every service with a store.
const SERVICES: [&str; 3] = ["dispatcher", "auth", "user"];

pub(super) async fn examine(config: &Config, running: bool) -> Vec<Finding> {
    let backends = match app::backends(config) {
        Ok(backends) => backends,
        Err(error) => return vec![Finding::fault(SUBJECT, format!("{error:#}"))],
    };
    let Some(folder) = made::sqlite_folder(config) else {
        return vec![match backends.database("doctor").await {
            Ok(database) => {
                database.close().await;
                Finding::good(SUBJECT, "PostgreSQL answers, and syncs what it commits")
            }
            Err(error) => Finding::fault(SUBJECT, format!("{:#}", anyhow::Error::from(error)))
                .hint("store.url; may the role connect, is the server up?"),
        }];
    };
    if running {
        return vec![Finding::good(
            SUBJECT,
            format!("SQLite in {}, open in the server", folder.display()),
        )];
    }
    if let Some(missing) = made::missing(config) {
        return vec![Finding::fault(SUBJECT, missing).hint("carillon serve or carillon migrate makes it")];
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
    findings
}
