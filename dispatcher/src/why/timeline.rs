//! From rows to a timeline. Pure.

use carillon_domain::{ChannelKind, NotificationState, Timestamp};
use carillon_policy::Plan;
use serde_json::{Map, Value};

use super::{
    event::{Event, Kind, Way},
    words,
};
use crate::store::{
    DeliveryDetail, NotificationRow, RecipientDetail, RecipientState,
    ladder::{Decision, DecisionDetail},
    outside::AttemptDetail,
};

/// Events that a timeline has at the most.
pub(crate) const MOST_EVENTS: usize = 200;

/// What is told of a notification and one of its recipients.
pub(crate) struct Told<'a> {
    pub(crate) notification: &'a NotificationRow,
    /// When it left the state accepted, or was cancelled after that.
    pub(crate) ended_at: Option<Timestamp>,
    /// None while it is not planned.
    pub(crate) recipient: Option<&'a RecipientDetail>,
    /// Who answered instead, by the tenant's own name, where it was somebody else.
    pub(crate) answered_by: Option<&'a str>,
    /// Whether far ends' own words are told: operators look for them, and they may name what no user is to know.
    pub(crate) verbatim: bool,
}

/// What happened, in its order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timeline {
    pub(crate) events: Vec<Event>,
    /// Whether events were left out between the first one and the others.
    pub(crate) truncated: bool,
    /// Where the recipient stands now, in plain words.
    pub(crate) standing: String,
}

/// Tells everything that was decided, tried and told, the earliest first; of more than `most` the first and the latest ones.
pub(crate) fn timeline(told: &Told<'_>, most: usize) -> Timeline {
    let mut events = vec![accepted(told.notification)];
    if let Some(recipient) = told.recipient {
        let plan = plan_of(told, recipient);
        events.extend(planned(told, recipient, plan.as_ref()));
        events.extend(decisions(recipient, plan.as_ref()));
        for delivery in &recipient.deliveries {
            if told.verbatim {
                of_delivery(&mut events, recipient, delivery);
            } else {
                of_delivery(&mut events, recipient, &without_words(delivery));
            }
        }
        events.extend(receipts(recipient));
    }
    // Ends come last, also of those whose time is not kept.
    let latest = events.iter().map(|event| event.at).max();
    let latest = latest.unwrap_or(told.notification.created_at);
    events.extend(end(told, latest));
    events.sort_by_key(|event| (event.at, event.kind, event.step, event.attempt));
    let truncated = events.len() > most;
    if truncated {
        let surplus = events.len() - most;
        events.drain(1..=surplus);
    }
    Timeline {
        events,
        truncated,
        standing: standing(told),
    }
}

fn accepted(row: &NotificationRow) -> Event {
    let mut text = "Accepted".to_owned();
    if row.send_at > row.created_at {
        text.push_str(&format!(", to be sent at {}", words::second(row.send_at)));
    }
    if row.critical {
        text.push_str("; critical, so it passes preferences, quiet hours, holds and caps");
    }
    text.push('.');
    Event::new(row.created_at, Kind::Accepted, text)
}

/// What a recipient climbs: a plain address has one step of its own.
fn plan_of(told: &Told<'_>, recipient: &RecipientDetail) -> Option<Plan> {
    match &recipient.plain {
        Some(plain) => Some(Plan::of_address(plain.channel.clone())),
        None => serde_json::from_str(told.notification.plan.as_deref()?).ok(),
    }
}

/// The first of what planning wrote says when that was.
fn planned(told: &Told<'_>, recipient: &RecipientDetail, plan: Option<&Plan>) -> Option<Event> {
    let deliveries = recipient.deliveries.iter().map(|delivery| delivery.created_at);
    let first = deliveries
        .chain(recipient.decisions.iter().map(|decision| decision.at))
        .min()
        .or(told.ended_at)?;
    let text = plan.map_or_else(|| "Planned.".to_owned(), words::plan);
    Some(Event::new(first, Kind::Planned, text))
}

fn decisions(recipient: &RecipientDetail, plan: Option<&Plan>) -> Vec<Event> {
    recipient
        .decisions
        .iter()
        .filter_map(|row| decision(row, plan))
        .collect()
}

fn decision(row: &DecisionDetail, plan: Option<&Plan>) -> Option<Event> {
    let mut why: Map<String, Value> = serde_json::from_str(&row.body).ok()?;
    // What another version wrote is told by its own words.
    let Ok(decision) = serde_json::from_str::<Decision>(&row.body) else {
        return None;
    };
    let in_app_alone = plan
        .zip(row.step)
        .and_then(|(plan, step)| plan.steps.get(step as usize))
        .is_some_and(carillon_policy::Step::is_in_app_alone);
    let kind = match &decision {
        Decision::Held(_) => Kind::Held,
        Decision::Released(_) => Kind::Released,
        Decision::Passed(_) => Kind::Passed,
        Decision::Escalated(_) => Kind::Escalated,
        Decision::Skipped(_) => Kind::Skipped,
        Decision::Capped(_) => Kind::Capped,
        Decision::Gathered(_) => Kind::Gathered,
        Decision::Digested(_) => Kind::Digested,
        Decision::Ended(ending) => Kind::of_state(RecipientState::from_stored(&ending.state)?)?,
    };
    let text = words::decision(row.step, &decision, in_app_alone);
    why.remove("kind");
    let mut event = Event::new(row.at, kind, text).step(row.step);
    event.why = Some(why);
    Some(event)
}

/// Everything that became of one delivery.
fn of_delivery(events: &mut Vec<Event>, recipient: &RecipientDetail, delivery: &DeliveryDetail) {
    let way = Way::of(delivery);
    if delivery.channel == "in_app" {
        if recipient.position.is_some() {
            let text = "Put into the inbox, and pushed to every connected device.".to_owned();
            events.push(Event::new(delivery.created_at, Kind::Sent, text).about(delivery));
        }
        return;
    }
    events.extend(delivery.attempts.iter().map(|made| attempt(made, delivery, &way)));
    for receipt in &delivery.receipts {
        let Some(kind) = Kind::of_receipt(&receipt.kind) else {
            continue;
        };
        let text = match (kind, &receipt.reason) {
            (Kind::Failed, Some(reason)) => format!("Lost {}: {reason}.", words::over(&way)),
            (Kind::Delivered, _) => format!("Arrived {}.", words::over(&way)),
            (kind, _) => format!("{} {}.", done(kind), words::over(&way)),
        };
        let mut event = Event::new(receipt.at, kind, text).about(delivery);
        if let Some(reason) = &receipt.reason {
            event = event.because("failed", [("detail", Value::from(reason.clone()))]);
        }
        events.push(event);
    }
    events.extend(delivery_end(delivery, &way));
}

/// A delivery without what its far ends said of it.
fn without_words(delivery: &DeliveryDetail) -> DeliveryDetail {
    let mut delivery = delivery.clone();
    for attempt in &mut delivery.attempts {
        (attempt.reason, attempt.status) = (None, None);
    }
    for receipt in &mut delivery.receipts {
        receipt.reason = None;
    }
    let own = |reason: &String| delivery.state != "dead" && words::skip(reason).0 != "channel";
    if matches!(delivery.state.as_str(), "dead" | "skipped") {
        delivery.reason = delivery.reason.clone().filter(own);
    }
    delivery
}

/// What was done with it, as a sentence begins.
const fn done(kind: Kind) -> &'static str {
    match kind {
        Kind::Seen => "Seen",
        Kind::Clicked => "Its link was followed",
        Kind::Dismissed => "Put away",
        Kind::Acted => "Acted on",
        _ => "Read",
    }
}

fn attempt(made: &AttemptDetail, delivery: &DeliveryDetail, way: &Way) -> Event {
    let outcome = made.outcome.as_deref();
    let over = words::over(way);
    let arrived = matches!(outcome, Some("delivered" | "accepted"));
    let said = match (&made.reason, made.status) {
        (Some(reason), _) => Some(reason.clone()),
        (None, Some(status)) => Some(format!("answered {status}")),
        (None, None) => None,
    };
    let recall = made.operation == "recall";
    let kind = match (arrived, recall) {
        (true, true) => Kind::Recalled,
        (true, false) => Kind::Sent,
        (false, _) => Kind::Tried,
    };
    let text = match (outcome, recall) {
        (Some("delivered" | "accepted"), true) => format!("Taken back {over}."),
        (Some("accepted"), false) => format!("Sent {over}: the provider took it."),
        (Some("delivered"), false) => format!("Sent {over}: it is there."),
        (other, _) => {
            let what = if recall { "Taking it back" } else { "Attempt" };
            let number = if recall {
                String::new()
            } else {
                format!(" {}", made.number)
            };
            let how = match other {
                None => "is under way".to_owned(),
                Some("lost") => "was lost with its process".to_owned(),
                Some("unsent") => "was not begun in time, and begins anew".to_owned(),
                Some("retry") => with("failed", said.as_deref()),
                Some("gone") => with("found the address gone", said.as_deref()),
                Some("rejected") => with("was refused", said.as_deref()),
                Some("skipped") => with("sent nothing", said.as_deref()),
                Some(other) => with(&format!("ended as {other}"), said.as_deref()),
            };
            let next = made.next_at.filter(|_| outcome.is_some());
            let next = next.map_or(String::new(), |at| {
                format!("; the next follows at {}", words::second(at))
            });
            format!("{what}{number} {over} {how}{next}.")
        }
    };
    let mut event = Event::new(made.ended_at.unwrap_or(made.started_at), kind, text).about(delivery);
    event.attempt = Some(made.number);
    let more = [
        said.map(|said| ("detail", Value::from(said))),
        made.status.map(|status| ("status", Value::from(status))),
        made.next_at.map(|at| ("next_at", Value::from(at.to_string()))),
    ];
    event.because(outcome.unwrap_or("running"), more.into_iter().flatten())
}

fn with(how: &str, said: Option<&str>) -> String {
    said.map_or_else(|| how.to_owned(), |said| format!("{how}: {said}"))
}

/// How a delivery ended, where no attempt says so.
fn delivery_end(delivery: &DeliveryDetail, way: &Way) -> Option<Event> {
    let stored = delivery.reason.as_deref();
    let ended = delivery.ended_at.unwrap_or(delivery.created_at);
    let over = words::over(way);
    let detail = stored.map(|reason| ("detail", Value::from(reason)));
    let event = match delivery.state.as_str() {
        "skipped" => {
            let (reason, said) = words::skip(stored.unwrap_or("skipped"));
            let more = (reason == "channel").then_some(detail).flatten();
            let text = format!("Not sent {over}: {said}.");
            Event::new(ended, Kind::Skipped, text).because(reason, more)
        }
        "dead" => {
            let text = format!("{}.", with(&format!("Given up {over}"), stored));
            Event::new(ended, Kind::Dead, text).because("dead", detail)
        }
        "cancelled" => {
            let text = format!("{}.", with(&format!("Not sent {over}"), stored));
            Event::new(ended, Kind::Cancelled, text).because("cancelled", detail)
        }
        "superseded" => {
            let text = format!("Not sent {over}: a newer notification took its place.");
            Event::new(ended, Kind::Superseded, text).because("superseded", detail)
        }
        _ => return None,
    };
    Some(event.about(delivery))
}

/// What devices told of the inbox. What came in from outside is told of its delivery.
fn receipts(recipient: &RecipientDetail) -> Vec<Event> {
    let confirmed = recipient.confirmed.iter().map(|(device, at)| {
        let mut event = Event::new(*at, Kind::Delivered, format!("Arrived on {device}."));
        event.device = Some(device.clone());
        event
    });
    let told = recipient.receipts.iter().filter_map(|receipt| {
        let kind = Kind::of_receipt(&receipt.kind)?;
        let outside = receipt.channel != ChannelKind::IN_APP;
        let of_delivery = recipient.deliveries.iter().any(|delivery| {
            delivery.channel == receipt.channel
                && delivery.receipts.iter().any(|told| told.kind == receipt.kind)
        });
        if outside && of_delivery {
            return None;
        }
        let place = receipt.device.as_ref();
        let place = match place {
            Some(device) => format!("on {device}"),
            None if outside => format!("over {}", receipt.channel),
            None => "in the inbox".to_owned(),
        };
        let mut event = Event::new(receipt.at, kind, format!("{} {place}.", done(kind)));
        event.device = receipt.device.clone();
        Some(event)
    });
    confirmed.chain(told).collect()
}

/// How it ended for the recipient, where no decision says so.
fn end(told: &Told<'_>, latest: Timestamp) -> Option<Event> {
    let Some(recipient) = told.recipient else {
        let (kind, text) = match told.notification.state {
            NotificationState::Cancelled => {
                (Kind::Cancelled, "Cancelled by its sender before it was planned.")
            }
            NotificationState::Expired => (
                Kind::Expired,
                "Expired: its time to live ended before it was planned.",
            ),
            _ => return None,
        };
        return Some(Event::new(told.ended_at.unwrap_or(latest), kind, text.to_owned()));
    };
    let kind = Kind::of_state(recipient.state)?;
    if recipient.state == RecipientState::Acknowledged {
        return Some(acknowledged(told, recipient, latest));
    }
    let decided = recipient
        .decisions
        .iter()
        .any(|row| row.kind == "ended" && row.body.contains(recipient.state.as_str()));
    if decided {
        return None;
    }
    let reason = recipient.reason.as_deref();
    let (at, text) = match recipient.state {
        RecipientState::Cancelled => (
            told.ended_at.unwrap_or(latest),
            "Cancelled by its sender.".to_owned(),
        ),
        state => (latest, words::ended(state.as_str(), reason)),
    };
    let detail = reason.map(|reason| ("detail", Value::from(reason)));
    Some(
        Event::new(at.max(told.notification.created_at), kind, text)
            .because(recipient.state.as_str(), detail),
    )
}

fn acknowledged(told: &Told<'_>, recipient: &RecipientDetail, latest: Timestamp) -> Event {
    let acknowledgement = recipient.acknowledgement.as_ref();
    let at = acknowledgement.map_or(latest, |acknowledgement| acknowledgement.at);
    let how = acknowledgement.map_or("answered", |acknowledgement| acknowledgement.kind.as_str());
    let device = acknowledgement.and_then(|acknowledgement| acknowledgement.device.clone());
    let action = acknowledgement.and_then(|acknowledgement| acknowledgement.action.clone());
    let mut text = match told.answered_by {
        Some(name) => format!("{name} answered for everybody: {how}"),
        None => format!("Answered: {how}"),
    };
    if let Some(action) = &action {
        text.push_str(&format!(" ({action})"));
    }
    if let Some(device) = &device {
        text.push_str(&format!(" on {device}"));
    }
    text.push_str(". Nothing more is sent, and the other devices clear.");
    let mut event = Event::new(at, Kind::Acknowledged, text);
    event.device = device;
    let more = [
        told.answered_by.map(|name| ("by", Value::from(name))),
        action.map(|action| ("action", Value::from(action))),
    ];
    event.because(how, more.into_iter().flatten())
}

fn standing(told: &Told<'_>) -> String {
    let row = told.notification;
    match (told.recipient, row.state) {
        (Some(recipient), _) => words::standing(recipient, row.expires_at),
        (None, NotificationState::Accepted) => {
            format!(
                "Accepted: planned at {} or soon after.",
                words::second(row.send_at)
            )
        }
        (None, state) => words::ended(state.as_str(), None),
    }
}
