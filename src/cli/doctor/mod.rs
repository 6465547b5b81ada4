//! `carillon doctor`: what is reachable and what is misconfigured.
//!
//! It looks and does not touch: it makes no folder, no file and no schema.

mod data;
mod finding;
mod process;
mod server;
mod store;

use clap::Args;
use serde_json::json;

use super::{
    exit::Failure,
    output::{self, Paint},
    target::Place,
};
use finding::{Finding, Verdict};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let findings = examine(&arguments.place).await;
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let (faults, warnings) = (count(Verdict::Fault), count(Verdict::Warning));
    if arguments.json {
        output::json(&json!({"faults": faults, "warnings": warnings, "findings": findings}))?;
    } else {
        print(&findings)?;
    }
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (faults, warnings) {
        (0, _) if arguments.json => Ok(()),
        (0, 0) => output::line("\nAll is well."),
        (0, _) => output::line(format_args!(
            "\nNothing is wrong; {}.",
            plural(warnings, "warning")
        )),
        _ => {
            if !arguments.json {
                output::line("")?;
            }
            let found = format!("{}, {}", plural(faults, "fault"), plural(warnings, "warning"));
            Err(Failure::Misconfigured(found))
        }
    }
}

async fn examine(place: &Place) -> Vec<Finding> {
    let loaded = match place.load(Vec::new()) {
        Ok(loaded) => loaded,
        Err(failure) => {
            return vec![
                Finding::fault("configuration", failure.to_string())
                    .hint("carillon config reference prints every key with its meaning"),
            ];
        }
    };
    let mut findings = vec![configuration(&loaded)];
    findings.extend(
        loaded
            .warnings
            .iter()
            .map(|warning| Finding::warning("configuration", warning.clone())),
    );
    let config = &loaded.config;
    findings.extend(data::examine(config));
    let (server, running) = server::examine(config).await;
    findings.extend(store::examine(config, running).await);
    findings.extend(process::examine(config));
    findings.extend(server);
    findings
}

fn configuration(loaded: &carillon_runtime::config::Loaded<crate::config::Config>) -> Finding {
    use carillon_runtime::config::Origin;
    let count = |wanted: fn(&Origin) -> bool| loaded.origins.values().filter(|origin| wanted(origin)).count();
    let file = loaded.origins.values().find_map(|origin| match origin {
        Origin::File(path) => Some(path.display().to_string()),
        _ => None,
    });
    let mut parts = vec![file.unwrap_or_else(|| "no file, built-in defaults".to_owned())];
    match count(|origin| matches!(origin, Origin::Environment(_))) {
        0 => {}
        1 => parts.push("1 environment variable".to_owned()),
        many => parts.push(format!("{many} environment variables")),
    }
    Finding::good("configuration", parts.join(", "))
}

fn print(findings: &[Finding]) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    let width = findings
        .iter()
        .map(|finding| finding.subject.len())
        .max()
        .unwrap_or_default();
    let mut last = "";
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => paint.good("ok  "),
            Verdict::Note => paint.dim("    "),
            Verdict::Warning => paint.warning("warn"),
            Verdict::Fault => paint.fault("bad "),
        };
        // A subject is named once, then its findings stand below it.
        let subject = if finding.subject == last {
            ""
        } else {
            finding.subject
        };
        last = finding.subject;
        let subject = paint.bold(&format!("{subject:<width$}"));
        output::line(format_args!(
            "{subject}  {mark}  {}",
            output::plain(&finding.text)
        ))?;
        if let Some(hint) = &finding.hint {
            output::line(format_args!("{:width$}        {}", "", paint.dim(hint)))?;
        }
    }
    Ok(())
}
