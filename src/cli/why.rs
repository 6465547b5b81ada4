//! `carillon why`: what was decided about a notification, as a timeline.

use carillon_domain::{ExternalUserId, NotificationId};
use clap::Args;
use http::Method;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{
    client::Client,
    exit::Failure,
    output::{self, Paint},
    target::Target,
};

/// How many recipients one page has at the most.
const PAGE: usize = 50;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The notification's id, ntf_...
    notification: NotificationId,

    /// Only for this user
    #[arg(long, value_name = "USER")]
    user: Option<ExternalUserId>,

    /// How many recipients to show at the most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,

    /// Print JSON, one recipient a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// What is told of one recipient.
#[derive(Debug, Deserialize)]
struct Why {
    notification_id: String,
    user: Option<String>,
    address: Option<Address>,
    state: Option<String>,
    standing: String,
    events: Vec<Event>,
    truncated: bool,
}

#[derive(Debug, Deserialize)]
struct Address {
    channel: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    at: Timestamp,
    kind: String,
    text: String,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let read = recipients(&client, &arguments).await;
    client.close().await;
    let (recipients, more) = read?;
    let zone = TimeZone::system();
    for (index, recipient) in recipients.iter().enumerate() {
        if arguments.json {
            output::json(recipient)?;
            continue;
        }
        if index > 0 {
            output::line("")?;
        }
        let why = Why::deserialize(recipient)
            .map_err(|error| Failure::Failed(format!("the server's answer is not understood: {error}")))?;
        for line in lines(&why, &zone, Paint::of_stdout()) {
            output::line(line)?;
        }
    }
    if recipients.is_empty() {
        output::note("it has no recipients, or none yet");
    }
    if more {
        output::note("there are more: --limit N shows them, --user USER one alone");
    }
    Ok(())
}

/// What is told of each recipient, and whether there are more.
async fn recipients(client: &Client, arguments: &Arguments) -> Result<(Vec<Value>, bool), Failure> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Value>,
        next: Option<String>,
    }
    let id = arguments.notification;
    if let Some(user) = &arguments.user {
        let user: String = byte_serialize(user.as_str().as_bytes()).collect();
        // In a path a space is not a plus.
        let path = format!("/v1/users/{}/notifications/{id}/why", user.replace('+', "%20"));
        return Ok((vec![client.call(Method::GET, &path, None, &[]).await?], false));
    }
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = arguments.limit.max(1).saturating_sub(found.len());
        if left == 0 {
            return Ok((found, cursor.is_some()));
        }
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", &left.min(PAGE).to_string());
        if let Some(cursor) = &cursor {
            query.append_pair("cursor", cursor);
        }
        let path = format!("/v1/notifications/{id}/why?{}", query.finish());
        let page: Page = client.call(Method::GET, &path, None, &[]).await?;
        found.extend(page.data);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok((found, false)),
        }
    }
}

/// A recipient's timeline: who, each event with its time and how long after the first, and where he stands.
fn lines(why: &Why, zone: &TimeZone, paint: Paint) -> Vec<String> {
    let who = match (&why.user, &why.address) {
        (Some(user), _) => output::plain(user),
        (None, Some(address)) => output::plain(&format!("{} {}", address.channel, address.to)),
        (None, None) => "somebody who was erased".to_owned(),
    };
    let first = why.events.first().map(|event| event.at);
    let day = first.map_or_else(String::new, |at| {
        at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
    });
    let mut lines = vec![format!(
        "{}  {}  {}  {}",
        paint.bold(&who),
        painted(why.state.as_deref().unwrap_or("accepted"), paint),
        why.notification_id,
        paint.dim(&day),
    )];
    for (index, event) in why.events.iter().enumerate() {
        let first = first.unwrap_or(event.at);
        let after = if index == 0 {
            String::new()
        } else {
            after(first, event.at)
        };
        let name = format!("{:<12}", event.kind);
        lines.push(format!(
            "{}  {}  {}  {}",
            paint.dim(&local(event.at, first, zone)),
            paint.dim(&format!("{after:>9}")),
            paint.bold(&name),
            here(&output::plain(&event.text), first, zone),
        ));
        if index == 0 && why.truncated {
            lines.push(paint.dim("          (events between this one and the next are left out)"));
        }
    }
    let now = first.unwrap_or(Timestamp::UNIX_EPOCH);
    lines.push(format!("now: {}", here(&output::plain(&why.standing), now, zone)));
    lines
}

fn painted(state: &str, paint: Paint) -> String {
    match state {
        "acknowledged" | "completed" => paint.good(state),
        "dead" | "expired" => paint.fault(state),
        _ => paint.warning(state),
    }
}

/// A time where the terminal is; with its day where that is another one than the first event's.
fn local(at: Timestamp, first: Timestamp, zone: &TimeZone) -> String {
    let (at, first) = (at.to_zoned(zone.clone()), first.to_zoned(zone.clone()));
    let form = if at.date() == first.date() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    at.strftime(form).to_string()
}

/// The same text with its times, which come in UTC, as they are where the terminal is.
fn here(text: &str, first: Timestamp, zone: &TimeZone) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches([';', ',', '.', ':']);
        match bare.parse::<Timestamp>() {
            Ok(at) => format!("{}{}", local(at, first, zone), &word[bare.len()..]),
            Err(_) => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// How long after the first event: `+3 ms`, `+1.2 s`, `+4 min`, `+2.5 h`, `+3 d`.
fn after(first: Timestamp, at: Timestamp) -> String {
    let millis = at.duration_since(first).as_millis().max(0);
    match millis {
        ..1_000 => format!("+{millis} ms"),
        1_000..60_000 => format!("+{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("+{} min", millis / 60_000),
        3_600_000..86_400_000 => format!("+{}.{} h", millis / 3_600_000, millis % 3_600_000 / 360_000),
        _ => format!("+{} d", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeline_is_told_in_local_times_one_line_an_event() {
        let why = json!({
            "notification_id": "ntf_1",
            "user": "ada",
            "state": "open",
            "standing": "Held: decided again at 2026-11-22T06:00:00Z.",
            "truncated": false,
            "events": [
                {"at": "2026-11-21T22:00:00.000000Z", "kind": "accepted", "text": "Accepted."},
                {"at": "2026-11-21T22:00:00.004000Z", "kind": "sent",
                 "text": "Put into the inbox, and pushed to every connected device."},
                {"at": "2026-11-21T22:00:01.250000Z", "kind": "held",
                 "text": "Step 2 is held until 2026-11-22T06:00:00Z: quiet hours in Europe/Berlin."},
                {"at": "2026-11-22T06:00:00.000000Z", "kind": "tried",
                 "text": "Attempt 1 over webhook to https://x.example failed: a\u{1b}[2Jb; the next follows at \
                          2026-11-22T06:00:04Z."},
            ],
        });
        let why = Why::deserialize(&why).expect("is understood");
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(
            lines(&why, &zone, Paint::none()),
            [
                "ada  open  ntf_1  2026-11-21",
                "23:00:00             accepted      Accepted.",
                "23:00:00      +4 ms  sent          Put into the inbox, and pushed to every connected device.",
                "23:00:01     +1.2 s  held          Step 2 is held until 2026-11-22 07:00:00: quiet hours in Europe/Berlin.",
                "2026-11-22 07:00:00     +8.0 h  tried         Attempt 1 over webhook to https://x.example failed: a [2Jb; \
                 the next follows at 2026-11-22 07:00:04.",
                "now: Held: decided again at 2026-11-22 07:00:00.",
            ]
        );
    }

    #[test]
    fn addresses_are_recipients_too_and_what_was_left_out_is_said() {
        let why = json!({
            "notification_id": "ntf_1",
            "user": null,
            "address": {"channel": "email", "to": "bob@example.org"},
            "state": "acknowledged",
            "standing": "Acknowledged.",
            "truncated": true,
            "events": [{"at": "2026-11-21T22:00:00Z", "kind": "accepted", "text": "Accepted."}],
        });
        let why = Why::deserialize(&why).expect("is understood");
        assert_eq!(
            lines(&why, &TimeZone::UTC, Paint::none()),
            [
                "email bob@example.org  acknowledged  ntf_1  2026-11-21",
                "22:00:00             accepted      Accepted.",
                "          (events between this one and the next are left out)",
                "now: Acknowledged.",
            ]
        );
    }
}
