//! `carillon tail`: follows a user's stream.

use std::time::Duration;

use carillon_domain::{DeviceName, ExternalUserId, TopicName};
use clap::Args;
use futures_util::StreamExt as _;
use http::StatusCode;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    client::{Client, unreachable},
    exit::{Failure, Problem},
    output::{self, Paint},
    sse::{Event, Reader},
    target::Target,
    token,
};

/// The longest pause before coming back.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose stream
    #[arg(long, value_name = "USER")]
    user: ExternalUserId,

    /// A topic to follow as well, several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<TopicName>,

    /// Where to start: a position, or `earliest`; now unless given
    #[arg(long, value_name = "POSITION")]
    from: Option<String>,

    /// The device to follow as; it confirms nothing
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,

    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,

    /// End instead of coming back when the stream is cut
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    target: Target,
}

/// How a stream ended.
enum End {
    /// It was cut: come back.
    Cut,
    /// The token is not taken any more: get a new one.
    Stale,
    /// The user was logged out: stay away.
    LoggedOut,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let mut tail = Tail {
        last: arguments.from.clone(),
        pause: Duration::ZERO,
        retry: None,
        client,
        arguments,
    };
    // The first failure is told; later ones are waited out.
    let mut token = tail.token().await?;
    let mut begun = false;
    loop {
        match tail.follow(&token, &mut begun).await {
            Ok(End::LoggedOut) => {
                output::note("logged out: the stream has ended for good");
                return Ok(());
            }
            Ok(End::Cut | End::Stale) if tail.arguments.once => return Ok(()),
            Ok(End::Cut) => {}
            Ok(End::Stale) => match tail.token().await {
                Ok(fresh) => token = fresh,
                Err(failure) if !begun || !matches!(failure, Failure::Unreachable(_)) => return Err(failure),
                Err(_) => {}
            },
            Err(Failure::Unreachable(_)) if begun && !tail.arguments.once => {}
            Err(failure) => return Err(failure),
        }
        tail.rest().await;
    }
}

struct Tail {
    arguments: Arguments,
    client: Client,
    /// The last position, where a new stream goes on.
    last: Option<String>,
    pause: Duration,
    retry: Option<Duration>,
}

impl Tail {
    async fn token(&self) -> Result<SecretString, Failure> {
        let topics: Vec<_> = self
            .arguments
            .topic
            .iter()
            .filter_map(|topic| topic.as_str().parse().ok())
            .collect();
        token::mint(&self.client, &self.arguments.user, &topics).await
    }

    /// Waits as the server asked, and longer each time in a row.
    async fn rest(&mut self) {
        let first = self.retry.unwrap_or(Duration::from_millis(500));
        self.pause = if self.pause.is_zero() {
            first.min(LONGEST_PAUSE)
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
        let jitter = rand::random_range(0.8..1.2);
        tokio::time::sleep(self.pause.mul_f64(jitter)).await;
    }

    async fn follow(&mut self, token: &SecretString, begun: &mut bool) -> Result<End, Failure> {
        let mut query: Vec<_> = self
            .arguments
            .topic
            .iter()
            .map(|topic| ("topic", topic.as_str()))
            .collect();
        if let Some(device) = &self.arguments.device {
            query.push(("device", device.as_str()));
        }
        let answer = self.client.stream(&query, token, self.last.as_deref()).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => return Ok(End::LoggedOut),
            StatusCode::UNAUTHORIZED if *begun => return Ok(End::Stale),
            StatusCode::SERVICE_UNAVAILABLE if *begun => return Ok(End::Cut),
            status => {
                let body = answer.bytes().await.map_err(|error| unreachable(&error))?;
                return Err(Failure::Refused(Box::new(Problem::read(status.as_u16(), &body))));
            }
        }
        *begun = true;
        let mut reader = Reader::default();
        let mut bytes = answer.bytes_stream();
        while let Some(Ok(chunk)) = bytes.next().await {
            for event in reader.push(&chunk) {
                self.pause = Duration::ZERO;
                if let Some(id) = &event.id {
                    self.last = Some(id.clone());
                }
                self.print(&event)?;
                if event.name == "bye" && event.data.contains("\"expired\"") {
                    return Ok(End::Stale);
                }
            }
            self.retry = reader.retry.map(Duration::from_millis);
        }
        Ok(End::Cut)
    }

    fn print(&self, event: &Event) -> Result<(), Failure> {
        let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
        if self.arguments.json {
            return output::json(&json!({"event": event.name, "id": event.id, "data": data}));
        }
        let paint = Paint::of_stdout();
        let id = event.id.as_deref().unwrap_or_default();
        let position = data["position"].as_str().unwrap_or(id);
        let name = format!("{:<13}", event.name);
        output::line(format_args!(
            "{}  {}  {}  {}",
            paint.dim(&output::time()),
            paint.bold(&name),
            paint.dim(&format!("{position:<12}")),
            describe(&event.name, &data).trim_end(),
        ))
    }
}

/// An event in words.
fn describe(name: &str, data: &Value) -> String {
    let text = |value: &Value| output::plain(value.as_str().unwrap_or_default());
    let unread = || match data["counts"]["unread"].as_u64() {
        Some(unread) => format!("  ({unread} unread)"),
        None => String::new(),
    };
    match name {
        "position" => format!("following {}", text(&data["user"])),
        "added" | "replaced" => {
            let content = &data["entry"]["content"];
            let body = text(&content["body"]);
            let gap = if body.is_empty() { "" } else { "  " };
            format!("{}{gap}{body}{}", text(&content["title"]), unread())
        }
        "state_changed" => {
            let count = data["entries"].as_array().map_or(0, Vec::len);
            let entries = match (count, data["entries"][0]["id"].as_str()) {
                (1, Some(id)) => id.to_owned(),
                _ => format!("{count} entries"),
            };
            let device = match data["acknowledgement"]["device"].as_str() {
                Some(device) => format!(" on {}", output::plain(device)),
                None => String::new(),
            };
            format!("{}  {entries}{device}{}", text(&data["change"]), unread())
        }
        "recalled" => format!(
            "{}  {}{}",
            text(&data["entry"]["id"]),
            text(&data["reason"]),
            unread()
        ),
        "deleted" => format!(
            "{} entries{}",
            data["entries"].as_array().map_or(0, Vec::len),
            unread()
        ),
        "publication" => {
            let place = match (data["epoch"].as_str(), data["seq"].as_u64()) {
                (Some(epoch), Some(seq)) => format!("{epoch}-{seq}  "),
                _ => String::new(),
            };
            format!("{}  {place}{}", text(&data["topic"]), data["data"])
        }
        "gap" | "bye" => format!("{} {}", text(&data["reason"]), text(&data["topic"])),
        _ => data.to_string(),
    }
}
