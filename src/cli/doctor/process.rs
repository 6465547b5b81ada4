//! What the system lets a process do.

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "system";

/// Files beside connections: databases, logs, listeners.
const OTHER_FILES: u64 = 200;

/// Fewer open files than this are soon used up by streams.
const FEW: u64 = 4_096;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(files) = open_files() {
        let wanted = u64::from(config.server.limits.connections) + OTHER_FILES;
        let text = format!("{files} open files, one per connection");
        findings.push(if config.server.limits.connections > 0 && files < wanted {
            Finding::warning(SUBJECT, text).hint(format!(
                "server.limits.connections needs {wanted}: ulimit -n, or LimitNOFILE= of the service"
            ))
        } else if files < FEW {
            Finding::warning(SUBJECT, text).hint("raise it: ulimit -n, or LimitNOFILE= of the service")
        } else {
            Finding::good(SUBJECT, text)
        });
    }
    findings.extend(certificate(config));
    findings
}

fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn certificate(config: &Config) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let tls = &config.server.tls;
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        let exposed = config.server.listen.iter().any(|address| !address.is_local());
        return if exposed {
            vec![
                Finding::warning(
                    "tls",
                    "the listener is reachable from outside and speaks plain HTTP",
                )
                .hint("server.tls.certificate and server.tls.key, or a proxy in front that ends TLS"),
            ]
        } else {
            Vec::new()
        };
    };
    let mut findings = Vec::new();
    for path in [certificate, key] {
        match std::fs::read_to_string(path) {
            Ok(text) if text.contains("-----BEGIN ") => {
                findings.push(Finding::good("tls", path.display().to_string()));
            }
            Ok(_) => findings.push(Finding::fault(
                "tls",
                format!("{} is no PEM file", path.display()),
            )),
            Err(error) => findings.push(Finding::fault("tls", format!("{}: {error}", path.display()))),
        }
    }
    let mode = std::fs::metadata(key).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o007 != 0 {
        findings.push(
            Finding::fault(
                "tls",
                format!("everybody can read the key {} (mode {mode:04o})", key.display()),
            )
            .hint(format!("chmod 640 {}", key.display())),
        );
    }
    findings
}
