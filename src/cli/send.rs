//! `carillon send`: a notification.

use std::io::Read as _;

use carillon_domain::{
    BundleKey, Category, ChannelKind, Clock as _, CollapseKey, ExternalUserId, Invalid, Priority,
    SystemClock, TopicName,
};
use carillon_runtime::config::Span;
use clap::{ArgGroup, Args};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    client::Client,
    dry_run,
    exit::Failure,
    follow::{Delivery, Follower},
    output,
    target::Target,
};

/// A text from standard input is read no further than this; the server's own limit is lower.
const MAX_STDIN: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).multiple(true).args(["user", "topic", "to"]))]
pub(super) struct Arguments {
    /// Whom to tell, several times
    #[arg(long, value_name = "USER")]
    user: Vec<ExternalUserId>,

    /// A topic to publish to, several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<TopicName>,

    /// A plain address, several times: email:ada@example.org, webhook:https://example.org/hook
    #[arg(long, value_name = "CHANNEL:ADDRESS", value_parser = plain_address)]
    to: Vec<Value>,

    /// Over which channel, several times: in_app, email, webhook. Absent: as its category says
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<ChannelKind>,

    /// What it is, in one line
    #[arg(long, value_name = "TEXT")]
    title: String,

    /// The text; - reads it from standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    body: Option<String>,

    /// Where a click leads
    #[arg(long, value_name = "URL")]
    link: Option<String>,

    /// A picture's URL
    #[arg(long, value_name = "URL")]
    icon: Option<String>,

    /// A button, several times: retry=Retry
    #[arg(long, value_name = "ID=TITLE", value_parser = action)]
    action: Vec<Value>,

    /// Anything for the app: a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    payload: Option<Value>,

    /// What kind of notification it is
    #[arg(long, value_name = "CATEGORY")]
    category: Option<Category>,

    /// low, normal or high
    #[arg(long, value_name = "PRIORITY", value_parser = priority)]
    priority: Option<Priority>,

    /// Replaces an open notification with the same category and key
    #[arg(long, value_name = "KEY")]
    collapse_key: Option<CollapseKey>,

    /// What its alerts are bundled by, where they wait for digests
    #[arg(long, value_name = "KEY")]
    digest_key: Option<BundleKey>,

    /// How long it matters, from then on: 10m, 3d
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,

    /// Send it after this time: 30s, 2h
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    after: Option<Span>,

    /// Send it then: 2026-12-24T18:00:00+01:00
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,

    /// Sending again with the same key sends nothing twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Show who would get it, when and over which channel, and send nothing
    #[arg(long, conflicts_with_all = ["follow", "idempotency_key"])]
    dry_run: bool,

    /// Show the attempts outside the inbox as they happen, until all have ended; 1 when one is dead
    #[arg(long)]
    follow: bool,

    /// How long to follow: 30s, 10m. The attempts go on without us
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "follow")]
    timeout: Span,

    /// Print the answer as JSON, and what --follow shows one attempt a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    if arguments.body.as_deref() == Some("-") {
        let mut text = String::new();
        std::io::stdin().take(MAX_STDIN).read_to_string(&mut text)?;
        arguments.body = Some(text.trim_end_matches('\n').to_owned());
    }
    let body = request(&arguments);
    let key = arguments
        .idempotency_key
        .as_deref()
        .map(|key| ("idempotency-key", key));
    let client = arguments.target.connect().await?;
    let headers: Vec<_> = key.into_iter().collect();
    let path = if arguments.dry_run {
        "/v1/notifications?dry_run=true"
    } else {
        "/v1/notifications"
    };
    let accepted: Result<Value, _> = client.call(Method::POST, path, Some(&body), &headers).await;
    let told = match accepted {
        Ok(foreseen) if arguments.dry_run && !arguments.json => dry_run::show(&foreseen),
        Ok(foreseen) if arguments.dry_run => output::json(&foreseen),
        Ok(accepted) => tell(&arguments, &client, &accepted).await,
        Err(failure) => Err(failure),
    };
    client.close().await;
    told
}

async fn tell(arguments: &Arguments, client: &Client, accepted: &Value) -> Result<(), Failure> {
    let Some(id) = accepted["id"].as_str() else {
        return Err(Failure::Failed("the answer holds no id".to_owned()));
    };
    if arguments.json {
        output::json(accepted)?;
    } else {
        output::line(id)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    if !client.is_served() {
        return Err(Failure::Unreachable(
            "no server runs: it is delivered once one does".to_owned(),
        ));
    }
    let dead = Follower::new(arguments.json, arguments.timeout.duration())
        .notification(client, id)
        .await?;
    let faults: Vec<_> = dead.iter().filter_map(Delivery::fault).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(faults.join("\n")))
    }
}

fn request(arguments: &Arguments) -> Value {
    let users = arguments.user.iter().map(|user| json!({"user": user}));
    let topics = arguments.topic.iter().map(|topic| json!({"topic": topic}));
    let mut content = Map::new();
    content.insert("title".to_owned(), json!(arguments.title));
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            content.insert(name.to_owned(), value);
        }
    };
    put("body", arguments.body.as_ref().map(|text| json!(text)));
    put("url", arguments.link.as_ref().map(|url| json!(url)));
    put("icon", arguments.icon.as_ref().map(|url| json!(url)));
    put("data", arguments.payload.clone());
    put(
        "actions",
        (!arguments.action.is_empty()).then(|| json!(arguments.action)),
    );
    let targets: Vec<_> = users.chain(topics).chain(arguments.to.iter().cloned()).collect();
    let mut body = json!({"targets": targets, "content": content});
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    put(
        "channels",
        (!arguments.channel.is_empty()).then(|| json!(arguments.channel)),
    );
    put("category", arguments.category.as_ref().map(|word| json!(word)));
    put("priority", arguments.priority.map(|word| json!(word)));
    put(
        "collapse_key",
        arguments.collapse_key.as_ref().map(|key| json!(key)),
    );
    put("digest_key", arguments.digest_key.as_ref().map(|key| json!(key)));
    put("ttl", arguments.ttl.map(|ttl| json!(ttl.duration().as_secs())));
    put("send_at", send_at(arguments).map(|at| json!(at.to_string())));
    body
}

fn send_at(arguments: &Arguments) -> Option<jiff::Timestamp> {
    let Some(after) = arguments.after else {
        return arguments.at;
    };
    let now = jiff::Timestamp::from_microsecond(SystemClock.now().as_micros()).ok()?;
    now.checked_add(after.duration()).ok()
}

fn action(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some((id, title)) => Ok(json!({"id": id, "title": title})),
        None => Err("expected ID=TITLE".to_owned()),
    }
}

fn plain_address(text: &str) -> Result<Value, String> {
    match text.split_once(':') {
        Some((channel, to)) if !to.is_empty() => {
            let channel: ChannelKind = channel.parse().map_err(|error: Invalid| error.0.to_owned())?;
            Ok(json!({"address": {"channel": channel, "to": to}}))
        }
        _ => Err("expected CHANNEL:ADDRESS".to_owned()),
    }
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {}", carillon_runtime::not_json(&error))),
    }
}

fn priority(text: &str) -> Result<Priority, String> {
    [Priority::Low, Priority::Normal, Priority::High]
        .into_iter()
        .find(|priority| priority.as_str() == text)
        .ok_or_else(|| "a priority is low, normal or high".to_owned())
}
