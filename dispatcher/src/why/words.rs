//! What a timeline says, in plain words.

use carillon_domain::Timestamp;
use carillon_policy::{Condition, Plan, Reason, Step};

use super::event::Way;
use crate::store::{
    RecipientDetail, RecipientPhase, RecipientState,
    ladder::{Decision, Escalation, Skip, Why},
};

/// A step as people count.
fn nth(step: Option<u32>) -> String {
    match step {
        None => "the next step".to_owned(),
        Some(step) => format!("step {}", step.saturating_add(1)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        None => String::new(),
        Some(first) => first.to_uppercase().chain(chars).collect(),
    }
}

/// How long, in its largest whole unit.
fn span(seconds: u32) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A time in whole seconds, RFC 3339.
pub(super) fn second(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}

/// A channel as people call it.
pub(super) fn channel(kind: &str) -> &str {
    match kind {
        "in_app" => "the inbox",
        kind => kind,
    }
}

/// `over email to a@example.org`.
pub(super) fn over(way: &Way) -> String {
    match &way.address {
        None => format!("over {}", channel(&way.channel)),
        Some(address) => format!("over {} to {address}", channel(&way.channel)),
    }
}

fn step(number: usize, step: &Step) -> String {
    let channels: Vec<&str> = step.channels.iter().map(|kind| channel(kind.as_str())).collect();
    let mut text = format!("{}. {}", number + 1, channels.join(", "));
    if let Some(deadline) = step.deadline {
        text.push_str(&format!(" for {}", span(deadline)));
    }
    let conditions: Vec<&str> = step
        .when
        .iter()
        .filter(|condition| **condition != Condition::Unacknowledged)
        .map(|condition| match condition {
            Condition::Unacknowledged => "unanswered",
            Condition::Unseen => "unseen",
            Condition::Inactive => "nobody is active",
            Condition::Reachable => "it can be reached",
        })
        .collect();
    if !conditions.is_empty() {
        text.push_str(&format!(", if {}", conditions.join(" and ")));
    }
    text
}

/// What is climbed.
pub(super) fn plan(plan: &Plan) -> String {
    let steps: Vec<String> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(number, of)| step(number, of))
        .collect();
    match steps.as_slice() {
        [only] => format!("Planned: {}.", only.trim_start_matches("1. ")),
        steps => format!("Planned in {} steps: {}.", steps.len(), steps.join("; ")),
    }
}

/// A decision. `in_app_alone`: whether its step is the inbox and nothing else.
pub(super) fn decision(at: Option<u32>, decision: &Decision, in_app_alone: bool) -> String {
    let step = nth(at);
    match decision {
        Decision::Skipped(skip) if in_app_alone || skip.channel.is_some() => {
            let reason = skip.reason.to_string();
            let reason = reason.strip_prefix("skipped: ").unwrap_or(&reason);
            format!("Not put into the inbox: {reason}.")
        }
        Decision::Held(Why { reason })
        | Decision::Passed(Why { reason })
        | Decision::Skipped(Skip { reason, .. })
        | Decision::Capped(Why { reason }) => capital(&format!("{step} is {reason}.")),
        Decision::Released(why) => {
            let over = match &why.reason {
                Reason::QuietHours { .. } => "quiet hours are over",
                Reason::Throttle { .. } => "there is room for another alert",
                Reason::Active { .. } => "the wait for an answer in the app is over",
                Reason::Digest { .. } => "the digest has closed",
                _ => "what it waited for is over",
            };
            capital(&format!("{step} goes on: {over}."))
        }
        Decision::Escalated(why) => {
            let why = match why {
                Escalation::Deadline => "nobody answered the step before in its time",
                Escalation::Inactive => "no device is active, so nobody is waited for",
                Escalation::Failed => "nothing of the step before arrived, and nothing will",
            };
            capital(&format!("{step} starts: {why}."))
        }
        Decision::Gathered(digest) => {
            let about = match &*digest.key {
                "" => String::new(),
                key => format!(" of \"{key}\""),
            };
            format!(
                "The alert over {} waits for the digest \"{}\"{about}, which closes at {}, unless others that join move that.",
                digest.channel,
                digest.name,
                second(digest.until)
            )
        }
        Decision::Digested(digest) => format!(
            "The alert over {} went out with the digest \"{}\", {}.",
            digest.channel, digest.name, digest.digest
        ),
        Decision::Ended(ending) => ended(&ending.state, Some(&ending.reason)),
    }
}

/// An end.
pub(super) fn ended(state: &str, reason: Option<&str>) -> String {
    match reason {
        None => format!("{}.", capital(state)),
        Some(reason) if reason == state => format!("{}.", capital(state)),
        Some(reason) => format!("{}: {reason}.", capital(state)),
    }
}

/// Why a delivery was not sent, from the word that it keeps: the reason's own word, and what is said.
pub(super) fn skip(stored: &str) -> (&'static str, String) {
    let (reason, text) = match stored {
        "unsubscribed" => ("preference", "alerts of this kind are turned off"),
        "suppressed" => ("suppressed", "the address is suppressed"),
        "unverified" => ("unverified", "the address is not verified"),
        "unreachable" => ("unreachable", "the device has proved to be out of reach"),
        "device_active" => ("device_active", "the device is active and shows it in the app"),
        "cap" => ("cap", "as many alerts as are allowed have gone out"),
        "digest" => ("digest", "it goes out with a digest"),
        "no address" | "no_address" => ("no_address", "there is no address"),
        other => return ("channel", other.to_owned()),
    };
    (reason, text.to_owned())
}

/// Where a recipient stands now.
pub(super) fn standing(recipient: &RecipientDetail, expires_at: Timestamp) -> String {
    let state = recipient.state;
    if state != RecipientState::Open {
        return ended(state.as_str(), recipient.reason.as_deref());
    }
    let step = recipient.step;
    let gathered = recipient
        .deliveries
        .iter()
        .any(|delivery| delivery.state == "gathered");
    match (recipient.phase, recipient.next_at) {
        (Some(RecipientPhase::Held), Some(at)) => format!("Held: decided again at {}.", second(at)),
        (Some(RecipientPhase::Held), None) => "Held.".to_owned(),
        (_, Some(at)) => format!("Open, in {}: decided again at {}.", nth(step), second(at)),
        (_, None) if gathered => "Open: its alert waits for the digest.".to_owned(),
        (_, None) => format!(
            "Open: waits for an answer, until its time to live ends at {}.",
            second(expires_at)
        ),
    }
}
