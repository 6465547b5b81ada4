//! `carillon webhooks`: registered endpoints.

use std::time::Duration;

use carillon_domain::{EndpointId, ExternalUserId};
use carillon_runtime::config::Span;
use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};
use url::form_urlencoded::byte_serialize;

use super::{
    exit::Failure,
    follow::Follower,
    output::{self, Paint},
    target::Target,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tenant's webhook endpoints, without their secrets
    List(List),
    /// Send an endpoint a test event and show its attempts until it has arrived
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<ExternalUserId>,

    /// Print JSON, one endpoint a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The endpoint's id, whe_...
    endpoint: EndpointId,

    /// How long to follow the attempts: 30s, 10m. They go on without us
    #[arg(long, value_name = "TIME", default_value = "1m")]
    timeout: Span,

    /// Print JSON: a line for each attempt, and one for the end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments).await,
        Command::Test(arguments) => test(arguments).await,
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Endpoint>,
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Endpoint {
    id: String,
    url: String,
    events: Vec<String>,
    user: Option<String>,
    fifo: bool,
    description: Option<String>,
    state: String,
    reason: Option<String>,
    failing_since: Option<String>,
    created_at: String,
    updated_at: String,
}

async fn list(arguments: List) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let mut base = "/v1/webhooks/endpoints?limit=200".to_owned();
    if let Some(user) = &arguments.user {
        base.push_str("&user=");
        base.extend(byte_serialize(user.as_str().as_bytes()));
    }
    let mut endpoints = Vec::new();
    let mut path = base.clone();
    let read = loop {
        match client.call::<Page>(Method::GET, &path, None, &[]).await {
            Ok(page) => {
                endpoints.extend(page.data);
                match page.next {
                    Some(cursor) => path = format!("{base}&cursor={cursor}"),
                    None => break Ok(()),
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    client.close().await;
    read?;
    if arguments.json {
        return endpoints.iter().try_for_each(output::json);
    }
    if endpoints.is_empty() {
        output::note("no webhook endpoints yet: POST /v1/webhooks/endpoints registers one");
    }
    endpoints.iter().try_for_each(print)
}

/// Two lines each, so that ids and URLs stand whole in 80 columns.
fn print(endpoint: &Endpoint) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    let state = match endpoint.state.as_str() {
        "enabled" => paint.good(&endpoint.state),
        other => paint.fault(other),
    };
    output::line(format_args!(
        "{}  {state}  {}",
        endpoint.id,
        paint.bold(&output::plain(&endpoint.url))
    ))?;
    let mut words = vec![endpoint.events.join(" ")];
    if let Some(user) = &endpoint.user {
        words.push(format!("of {}", output::plain(user)));
    }
    if endpoint.fifo {
        words.push("in order".to_owned());
    }
    if let Some(since) = &endpoint.failing_since {
        words.push(format!("failing since {}", minute(since)));
    }
    if let Some(reason) = &endpoint.reason {
        words.push(output::plain(reason));
    }
    if let Some(description) = &endpoint.description {
        words.push(output::plain(description));
    }
    output::line(format_args!("    {}", paint.dim(&words.join(", "))))
}

/// A time without its seconds.
pub(super) fn minute(at: &str) -> String {
    at.chars()
        .take(16)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

async fn test(arguments: Test) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Sent {
        delivery_id: String,
    }
    let client = arguments.target.connect().await?;
    if !client.is_served() {
        client.close().await;
        return Err(Failure::Unreachable(
            "no server runs: nobody would deliver the test".to_owned(),
        ));
    }
    let path = format!("/v1/webhooks/endpoints/{}/test", arguments.endpoint);
    let sent: Sent = client.call(Method::POST, &path, None, &[]).await?;
    output::note(format_args!("{} is on its way", sent.delivery_id));
    let patience: Duration = arguments.timeout.duration();
    let ended = Follower::new(arguments.json, patience)
        .delivery(&client, &sent.delivery_id)
        .await?;
    match ended.state.as_str() {
        "delivered" | "accepted" => Ok(()),
        _ => Err(Failure::Failed(ended.fault().unwrap_or_else(|| {
            format!("the delivery ended as {}", output::plain(&ended.state))
        }))),
    }
}
