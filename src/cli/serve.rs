//! `carillon serve`: runs the server.

use clap::Args;

use super::{exit::Failure, output, output::Paint, target::Place};
use crate::{
    roles::Role,
    serve::{ServeOptions, Serving, check, serve},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Where to listen, several times: 127.0.0.1:8080, [::]:8443, unix:/run/carillon.sock
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// Which parts to run; all unless given
    #[arg(long, value_name = "R,...", value_delimiter = ',')]
    role: Vec<Role>,

    /// Serve the quickstart page, which can send: on loopback only
    #[arg(long)]
    dev: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<std::process::ExitCode, Failure> {
    let mut flags = Vec::new();
    if !arguments.listen.is_empty() {
        flags.push(("--listen", "server.listen", arguments.listen.join(",")));
    }
    let mut loaded = arguments.place.load(flags)?;
    loaded.config.auth.allow_weak_secrets |= arguments.dev;
    carillon_runtime::telemetry::init_log(&loaded.config.log)
        .map_err(|error| Failure::Misconfigured(error.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let data = loaded.config.data.path.display().to_string();
    let options = ServeOptions {
        roles: arguments.role,
        dev: arguments.dev,
    };
    check(&loaded.config, &options).map_err(|error| Failure::Misconfigured(format!("{error:#}")))?;
    let serving = serve(loaded.config, options, |serving| {
        // Standard output may be closed; the server serves all the same.
        let _ = greet(serving, &data);
    });
    Box::pin(serving).await.map_err(|error| Failure::at_start(&error))
}

/// Where it is; with `--dev`, what to type next.
fn greet(serving: &Serving, data: &str) -> Result<(), Failure> {
    let Some(key) = &serving.key else {
        return output::line(format_args!(
            "Carillon {} serves {} (data: {data})",
            env!("CARGO_PKG_VERSION"),
            serving.url
        ));
    };
    let paint = Paint::of_stdout();
    let row = |name: &str, value: &str| format!("  {}{value}\n", paint.dim(&format!("{name:<12}")));
    let mut text = format!(
        "\n  {}\n\n",
        paint.bold(&format!("Carillon {}", env!("CARGO_PKG_VERSION")))
    );
    text.push_str(&row("Quickstart", &paint.bold(&format!("{}/", serving.url))));
    text.push_str(&row("API", &format!("{}/docs", serving.url)));
    text.push_str(&row("Data", data));
    text.push_str(&format!(
        "\n  {}\n\n",
        paint.dim("Open the quickstart page, then paste this:")
    ));
    text.push_str(&format!(
        "curl {}/v1/notifications \\\n  -H 'Authorization: Bearer {key}' \\\n  -H 'Content-Type: application/json' \\\n  \
         -d '{{\"targets\": [{{\"user\": \"ada\"}}], \"content\": {{\"title\": \"Build failed\", \"body\": \"main is red\"}}}}'\n",
        serving.url
    ));
    text.push_str(&format!("\n  {}\n", paint.dim("Ctrl-C ends it.")));
    output::line(text)
}
