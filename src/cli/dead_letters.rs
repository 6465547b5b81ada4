//! `carillon dead-letters`: deliveries that are not tried any more.

use std::{io::IsTerminal as _, time::Duration};

use carillon_domain::{Address, Category, ChannelKind, DeliveryId, ExternalUserId};
use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded::Serializer;

use super::{
    client::Client,
    exit::Failure,
    output::{self, Paint},
    target::Target,
    webhooks::minute,
};

/// What one page of the list holds at the most.
const PAGE: usize = 200;
/// The pause between two looks at a redrive.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List dead letters, newest first, each with its last outcome
    List(List),
    /// Try dead letters again, with the same ids, and show how far it is
    Redrive(Redrive),
}

/// Which dead letters.
#[derive(Debug, Args)]
struct Filter {
    /// Only over this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<ChannelKind>,

    /// Only of notifications of this category
    #[arg(long, value_name = "CATEGORY")]
    category: Option<Category>,

    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only for this user
    #[arg(long, value_name = "USER")]
    user: Option<ExternalUserId>,

    /// Only to this address, or to the endpoint with this id
    #[arg(long, value_name = "ADDRESS", visible_alias = "endpoint")]
    address: Option<Address>,

    /// Only those that died at this time or later: 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
}

impl Filter {
    /// What was given, by the API's names.
    fn given(&self) -> Vec<(&'static str, String)> {
        [
            ("channel", self.channel.as_ref().map(ToString::to_string)),
            ("category", self.category.as_ref().map(ToString::to_string)),
            ("reason", self.reason.clone()),
            ("user", self.user.as_ref().map(|user| user.as_str().to_owned())),
            ("address", self.address.as_ref().map(ToString::to_string)),
            ("since", self.since.map(|at| at.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,

    /// How many to show at the most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,

    /// Print JSON, one dead letter a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true)
    .args(["id", "all", "channel", "category", "reason", "user", "address", "since"]))]
pub(super) struct Redrive {
    /// Their ids, dlv_..., at most 1,000
    #[arg(conflicts_with_all = ["all", "channel", "category", "reason", "user", "address", "since"])]
    id: Vec<DeliveryId>,

    /// All there are
    #[arg(long, conflicts_with_all = ["channel", "category", "reason", "user", "address", "since"])]
    all: bool,

    #[command(flatten)]
    filter: Filter,

    /// Print how it ended as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments).await,
        Command::Redrive(arguments) => redrive(arguments).await,
    }
}

async fn list(arguments: List) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let letters = letters(&client, &arguments).await;
    client.close().await;
    let (letters, more) = letters?;
    if arguments.json {
        letters.iter().try_for_each(output::json)?;
    } else {
        letters.iter().try_for_each(print)?;
    }
    if letters.is_empty() {
        output::note("no dead letters");
    }
    if more {
        output::note("there are more: --limit N shows them");
    }
    Ok(())
}

/// The list, and whether there are more.
async fn letters(client: &Client, arguments: &List) -> Result<(Vec<Value>, bool), Failure> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Value>,
        next: Option<String>,
    }
    let mut letters = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = arguments.limit - letters.len();
        if left == 0 {
            return Ok((letters, cursor.is_some()));
        }
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", &left.min(PAGE).to_string());
        query.extend_pairs(arguments.filter.given());
        if let Some(cursor) = &cursor {
            query.append_pair("cursor", cursor);
        }
        let path = format!("/v1/dead-letters?{}", query.finish());
        let page: Page = client.call(Method::GET, &path, None, &[]).await?;
        letters.extend(page.data);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok((letters, false)),
        }
    }
}

/// Two lines each, so that ids and addresses stand whole in 80 columns.
fn print(letter: &Value) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    let text = |name: &str| output::plain(letter[name].as_str().unwrap_or_default());
    let attempts = match letter["attempt_count"].as_u64().unwrap_or_default() {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    output::line(format_args!(
        "{}  {}  {}  {}",
        text("id"),
        paint.bold(&text("channel")),
        minute(&text("ended_at")),
        paint.dim(&attempts),
    ))?;
    output::line(format_args!(
        "    {}: {}",
        text("address"),
        paint.fault(&text("reason"))
    ))
}

/// How far a redrive is.
#[derive(Debug, Deserialize)]
struct Progress {
    id: String,
    state: String,
    total: u64,
    done: u64,
}

async fn redrive(arguments: Redrive) -> Result<(), Failure> {
    let body = if arguments.all {
        json!({"all": true})
    } else if arguments.id.is_empty() {
        json!({"filter": filter(&arguments.filter)})
    } else {
        json!({"ids": arguments.id})
    };
    let client = arguments.target.connect().await?;
    let ended = drive(&client, &body, arguments.json).await;
    client.close().await;
    let last = ended?;
    if arguments.json {
        return output::json(&last);
    }
    let progress = progress(&last)?;
    match (progress.total, progress.state.as_str()) {
        (0, _) => output::note("no dead letter matches"),
        (_, "done") => output::line(format_args!(
            "{} of {} are pending again",
            progress.done, progress.total
        ))?,
        _ => output::note(format_args!(
            "no server runs: {} begins once one does",
            progress.id
        )),
    }
    Ok(())
}

fn filter(filter: &Filter) -> Map<String, Value> {
    let given = filter.given().into_iter();
    given
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
}

fn progress(value: &Value) -> Result<Progress, Failure> {
    Progress::deserialize(value)
        .map_err(|error| Failure::Failed(format!("the server's answer is not understood: {error}")))
}

/// Begins a redrive and waits for its end, which only a server brings about.
async fn drive(client: &Client, body: &Value, quiet: bool) -> Result<Value, Failure> {
    let mut last: Value = client
        .call(Method::POST, "/v1/dead-letters/redrive", Some(body), &[])
        .await?;
    let path = format!("/v1/redrives/{}", progress(&last)?.id);
    let mut bar = Bar::new(quiet);
    loop {
        let now = progress(&last)?;
        bar.show(&now);
        if now.state == "done" || !client.is_served() {
            bar.end();
            return Ok(last);
        }
        tokio::time::sleep(PAUSE).await;
        last = client.call(Method::GET, &path, None, &[]).await?;
    }
}

/// One line on standard error, written over on a terminal.
struct Bar {
    quiet: bool,
    over: bool,
    shown: Option<u64>,
}

impl Bar {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            over: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    fn show(&mut self, progress: &Progress) {
        if self.quiet || progress.total == 0 || self.shown == Some(progress.done) {
            return;
        }
        self.shown = Some(progress.done);
        let text = format!("{}  {} of {}", progress.id, progress.done, progress.total);
        if self.over {
            output::over(&text);
        } else {
            output::note(text);
        }
    }

    fn end(&self) {
        if self.over && self.shown.is_some() {
            output::note("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_what_was_given_and_nothing_else() {
        let given = Filter {
            channel: Some(ChannelKind::webhook()),
            category: None,
            reason: Some("it answered 500".to_owned()),
            user: None,
            address: None,
            since: "2026-12-24T18:00:00Z".parse().ok(),
        };
        assert_eq!(
            Value::Object(filter(&given)),
            json!({"channel": "webhook", "reason": "it answered 500", "since": "2026-12-24T18:00:00Z"})
        );
    }
}
