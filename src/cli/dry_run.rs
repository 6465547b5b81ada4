//! `carillon send --dry-run`: what a notification would do, step by step.

use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use super::{
    exit::Failure,
    output::{self, Paint, plain},
};

/// What the server foresees; the parts of it that are shown.
#[derive(Debug, Deserialize)]
struct Foreseen {
    critical: bool,
    recipients: Vec<Recipient>,
    #[serde(default)]
    topics: Vec<String>,
    audience: Option<Audience>,
}

#[derive(Debug, Deserialize)]
struct Audience {
    more: bool,
}

#[derive(Debug, Deserialize)]
struct Recipient {
    user: Option<String>,
    address: Option<Address>,
    steps: Vec<Step>,
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Deserialize)]
struct Address {
    channel: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Step {
    channels: Vec<String>,
    state: String,
    why: Option<Value>,
    until: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Delivery {
    channel: String,
    address: String,
    state: String,
    reason: Option<String>,
    digest: Option<String>,
    until: Option<Timestamp>,
}

/// Shows the answer to a dry run.
///
/// # Errors
/// When it is not understood, or nobody reads any more.
pub(super) fn show(answer: &Value) -> Result<(), Failure> {
    let foreseen = Foreseen::deserialize(answer)
        .map_err(|error| Failure::Failed(format!("the server's answer is not understood: {error}")))?;
    for line in lines(&foreseen, &TimeZone::system(), Paint::of_stdout()) {
        output::line(line)?;
    }
    output::note("nothing was sent");
    Ok(())
}

fn lines(foreseen: &Foreseen, zone: &TimeZone, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if foreseen.critical {
        lines.push("It is critical: preferences, quiet hours and caps do not hold it.".to_owned());
    }
    for topic in &foreseen.topics {
        lines.push(format!(
            "{} to whoever listens",
            paint.bold(&format!("topic {topic}"))
        ));
    }
    for recipient in &foreseen.recipients {
        let name = match (&recipient.user, &recipient.address) {
            (Some(user), _) => plain(user),
            (None, Some(address)) => format!("{} {}", address.channel, plain(&address.to)),
            (None, None) => "somebody new".to_owned(),
        };
        lines.push(paint.bold(&name));
        for (index, step) in recipient.steps.iter().enumerate() {
            lines.push(format!(
                "  {}  {}  {}",
                index + 1,
                step.channels.join(", "),
                paint.dim(&standing(step, zone))
            ));
            let own = recipient
                .deliveries
                .iter()
                .filter(|delivery| step.channels.contains(&delivery.channel));
            lines.extend(own.map(|delivery| format!("     {}", going(delivery, zone))));
        }
    }
    if foreseen.audience.as_ref().is_some_and(|audience| audience.more) {
        lines.push("There are more recipients, who are not shown.".to_owned());
    }
    lines
}

fn standing(step: &Step, zone: &TimeZone) -> String {
    let until = step.until.map(|until| time(until, zone));
    let reason = step
        .why
        .as_ref()
        .and_then(|why| why["reason"].as_str())
        .map(|reason| reason.replace('_', " "));
    match (step.state.as_str(), until, reason) {
        ("starts", Some(until), _) => format!("starts now; the next one at {until}, unless it is answered"),
        ("starts", None, _) => "starts now".to_owned(),
        ("later", ..) => "once the ones before are over".to_owned(),
        ("passed", _, reason) => format!(
            "passed over: {}",
            reason.unwrap_or_else(|| "nothing to send".to_owned())
        ),
        (state, Some(until), Some(reason)) => format!("{state} until {until}: {reason}"),
        (state, Some(until), None) => format!("{state} until {until}"),
        (state, None, Some(reason)) => format!("{state}: {reason}"),
        (state, None, None) => state.to_owned(),
    }
}

fn going(delivery: &Delivery, zone: &TimeZone) -> String {
    let address = plain(&delivery.address);
    let place = if delivery.channel == "in_app" {
        "the inbox".to_owned()
    } else {
        format!("{} {address}", delivery.channel)
    };
    let state = match (delivery.state.as_str(), &delivery.digest) {
        ("pending", _) => "would be sent".to_owned(),
        (_, Some(digest)) => {
            let until = delivery
                .until
                .map(|until| format!(", until {}", time(until, zone)));
            format!(
                "waits in the digest {}{}",
                plain(digest),
                until.unwrap_or_default()
            )
        }
        (state, None) => state.to_owned(),
    };
    match &delivery.reason {
        Some(reason) => format!("{place}  {state}: {}", plain(reason)),
        None => format!("{place}  {state}"),
    }
}

fn time(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_says_when_and_each_address_what_would_become_of_it() {
        let answer = json!({
            "plan": {}, "critical": false, "topics": ["news"], "texts": [],
            "audience": {"listed": 1, "more": true},
            "recipients": [{
                "user": "ada", "locale": null,
                "steps": [
                    {"channels": ["in_app"], "state": "starts", "until": "2026-11-23T09:00:30Z"},
                    {"channels": ["email", "webhook"], "state": "held", "until": "2026-11-24T07:00:00Z",
                     "why": {"reason": "quiet_hours"}},
                    {"channels": ["sms"], "state": "later"},
                ],
                "deliveries": [
                    {"channel": "in_app", "address": "-", "state": "pending", "reason": null},
                    {"channel": "email", "address": "ada@example.org", "state": "gathered", "reason": null,
                     "digest": "daily", "until": "2026-11-24T08:00:00Z"},
                    {"channel": "webhook", "address": "-", "state": "skipped", "reason": "no address"},
                ],
            }],
        });
        let foreseen = Foreseen::deserialize(&answer).expect("an answer");
        assert_eq!(
            lines(&foreseen, &TimeZone::UTC, Paint::none()),
            [
                "topic news to whoever listens",
                "ada",
                "  1  in_app  starts now; the next one at Mon 09:00:30, unless it is answered",
                "     the inbox  would be sent",
                "  2  email, webhook  held until Tue 07:00:00: quiet hours",
                "     email ada@example.org  waits in the digest daily, until Tue 08:00:00",
                "     webhook -  skipped: no address",
                "  3  sms  once the ones before are over",
                "There are more recipients, who are not shown.",
            ]
        );
    }
}
