//! Deliveries outside the inbox as they happen: asked for again and again, each attempt told once.

use std::{collections::HashMap, time::Duration};

use carillon_domain::{Clock as _, SystemClock, Timestamp};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    client::Client,
    exit::Failure,
    output::{self, Paint},
};

/// The pause between two looks, while something happens.
const SOON: Duration = Duration::from_millis(200);
/// The longest pause between two looks.
const LATEST: Duration = Duration::from_secs(2);
/// The longest excerpt of a far end's answer, in characters: what a terminal shows beside the rest.
const EXCERPT: usize = 120;

/// A delivery, as every answer of the API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) next_at: Option<Timestamp>,
    #[serde(default)]
    attempts: Vec<Value>,
}

impl Delivery {
    /// Whether another attempt may follow, or one is under way.
    pub(super) fn is_open(&self) -> bool {
        self.state == "pending"
    }

    /// What went wrong, if something did.
    pub(super) fn fault(&self) -> Option<String> {
        (self.state == "dead").then(|| {
            let reason = output::plain(self.reason.as_deref().unwrap_or("no reason was given"));
            format!(
                "{} to {} is dead: {reason}",
                self.channel,
                output::plain(&self.address)
            )
        })
    }
}

/// What was told of an attempt.
#[derive(Debug, Deserialize)]
struct Attempt {
    number: u64,
    outcome: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
    excerpt: Option<String>,
    next_at: Option<Timestamp>,
}

/// Prints attempts and ends, each once.
#[derive(Debug)]
pub(super) struct Follower {
    json: bool,
    /// The last attempt that was printed, and whether the end was, by delivery.
    told: HashMap<String, (u64, bool)>,
    deadline: Instant,
    pause: Duration,
}

impl Follower {
    /// Follows for so long at the most.
    pub(super) fn new(json: bool, patience: Duration) -> Self {
        Self {
            json,
            told: HashMap::new(),
            deadline: Instant::now() + patience,
            pause: SOON,
        }
    }

    /// A delivery by its id, until it has ended.
    ///
    /// # Errors
    /// When nobody answers, or time is up.
    pub(super) async fn delivery(mut self, client: &Client, id: &str) -> Result<Delivery, Failure> {
        let path = format!("/v1/deliveries/{id}");
        loop {
            let delivery: Delivery = client.call(Method::GET, &path, None, &[]).await?;
            self.tell(&delivery)?;
            if !delivery.is_open() {
                return Ok(delivery);
            }
            self.rest(&[&delivery]).await?;
        }
    }

    /// A notification's deliveries outside the inbox, until all of them have ended.
    ///
    /// # Errors
    /// When nobody answers, or time is up.
    pub(super) async fn notification(mut self, client: &Client, id: &str) -> Result<Vec<Delivery>, Failure> {
        loop {
            let (state, mut deliveries) = outside(client, id).await?;
            for delivery in &deliveries {
                self.tell(delivery)?;
            }
            let open: Vec<_> = deliveries.iter().filter(|delivery| delivery.is_open()).collect();
            if open.is_empty() && state != "accepted" {
                deliveries.retain(|delivery| delivery.state == "dead");
                return Ok(deliveries);
            }
            self.rest(&open).await?;
        }
    }

    /// Prints what is new of a delivery.
    fn tell(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        let (mut told, ended) = self.told.get(&delivery.id).copied().unwrap_or_default();
        for value in &delivery.attempts {
            let Ok(attempt) = Attempt::deserialize(value) else {
                continue;
            };
            if attempt.number <= told || attempt.outcome.is_none() {
                continue;
            }
            told = attempt.number;
            self.pause = SOON;
            if self.json {
                output::json(&json!({
                    "delivery": delivery.id, "channel": delivery.channel, "address": delivery.address, "attempt": value,
                }))?;
            } else {
                tell_attempt(delivery, &attempt)?;
            }
        }
        let ends = !delivery.is_open();
        if ends && !ended {
            self.tell_end(delivery)?;
        }
        self.told.insert(delivery.id.clone(), (told, ends));
        Ok(())
    }

    fn tell_end(&self, delivery: &Delivery) -> Result<(), Failure> {
        if self.json {
            return output::json(&json!({
                "delivery": delivery.id, "channel": delivery.channel, "address": delivery.address,
                "state": delivery.state, "reason": delivery.reason,
            }));
        }
        // An attempt that worked has said so already.
        if matches!(delivery.state.as_str(), "delivered" | "accepted") && !delivery.attempts.is_empty() {
            return Ok(());
        }
        let reason = output::plain(delivery.reason.as_deref().unwrap_or_default());
        let state = painted(&delivery.state);
        line(delivery, format_args!("{state}  {reason}"))
    }

    /// Waits before the next look: shortly while something happens, else until the next attempt is due.
    async fn rest(&mut self, open: &[&Delivery]) -> Result<(), Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Failed(
                "time is up, and the attempts go on: GET /v1/deliveries/{id} shows them".to_owned(),
            ));
        }
        let now = SystemClock.now();
        let due = open
            .iter()
            .map(|delivery| delivery.next_at.map_or(SOON, |at| at.since(now)))
            .min()
            .unwrap_or(SOON);
        let pause = self.pause.max(due.min(LATEST)).min(left);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 5 / 4).min(LATEST);
        Ok(())
    }
}

/// A notification's state and its deliveries outside the inbox.
async fn outside(client: &Client, id: &str) -> Result<(String, Vec<Delivery>), Failure> {
    #[derive(Deserialize)]
    struct Notification {
        state: String,
        recipients: Page,
    }
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Recipient>,
        next: Option<String>,
    }
    #[derive(Deserialize)]
    struct Recipient {
        deliveries: Vec<Delivery>,
    }
    let first = format!("/v1/notifications/{id}?limit=200");
    let mut path = first.clone();
    let mut deliveries = Vec::new();
    loop {
        let page: Notification = client.call(Method::GET, &path, None, &[]).await?;
        let of_page = page
            .recipients
            .data
            .into_iter()
            .flat_map(|recipient| recipient.deliveries);
        deliveries.extend(of_page.filter(|delivery| delivery.channel != "in_app"));
        match page.recipients.next {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => return Ok((page.state, deliveries)),
        }
    }
}

fn tell_attempt(delivery: &Delivery, attempt: &Attempt) -> Result<(), Failure> {
    let outcome = attempt.outcome.as_deref().unwrap_or_default();
    let paint = Paint::of_stdout();
    let mut text = format!("attempt {}  {}", attempt.number, painted(outcome));
    if let Some(status) = attempt.status {
        text.push_str(&format!(" {status}"));
    }
    if let Some(at) = attempt
        .next_at
        .filter(|_| delivery.is_open() || outcome == "retry")
    {
        let wait = at.since(SystemClock.now());
        text.push_str(&format!("  next try {}", in_words(wait)));
    }
    line(delivery, text)?;
    let said = attempt.status.map(|status| format!("answered {status}"));
    for note in [&attempt.reason, &attempt.excerpt].into_iter().flatten() {
        let note = output::plain(note);
        let note = note.trim();
        // What the line above says already is not said again.
        if !note.is_empty() && said.as_deref() != Some(note) {
            let short: String = note.chars().take(EXCERPT).collect();
            output::line(format_args!("          {}", paint.dim(&short)))?;
        }
    }
    Ok(())
}

fn line(delivery: &Delivery, text: impl std::fmt::Display) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    output::line(format_args!(
        "{}  {}  {text}",
        paint.dim(&output::time()),
        paint.bold(&delivery.channel)
    ))
}

/// A state or an outcome in its colour.
pub(super) fn painted(word: &str) -> String {
    let paint = Paint::of_stdout();
    match word {
        "delivered" | "accepted" | "recalled" | "digested" => paint.good(word),
        "retry" | "lost" | "skipped" | "cancelled" | "superseded" | "pending" | "gathered" => {
            paint.warning(word)
        }
        _ => paint.fault(word),
    }
}

/// A wait, as people say it.
fn in_words(wait: Duration) -> String {
    let seconds = wait.as_secs_f64();
    match seconds {
        s if s < 0.95 => "at once".to_owned(),
        s if s < 90.0 => format!("in {s:.0} s"),
        s if s < 5_400.0 => format!("in {:.0} min", s / 60.0),
        s => format!("in {:.0} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_in_the_unit_that_fits() {
        for (seconds, words) in [
            (0.2, "at once"),
            (3.6, "in 4 s"),
            (90.0, "in 2 min"),
            (21_600.0, "in 6 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs_f64(seconds)), words);
        }
    }
}
