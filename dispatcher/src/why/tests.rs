use std::{sync::Arc, time::Duration};

use carillon_domain::{
    AckKind, Acknowledgement, DeliveryId, EntryId, NotificationId, NotificationState, PlainAddress, Position,
    TenantId, Timestamp, UserId,
};

use super::*;
use crate::store::{
    DeliveryDetail, NotificationRow, ReceiptDetail, RecipientDetail, RecipientPhase, RecipientState,
    ladder::DecisionDetail,
    outside::{AttemptDetail, FarReceipt},
};

const PLAN: &str = r#"{"acknowledged_by":"each","steps":[{"channels":["in_app"],"deadline":30},
    {"channels":["fcm"],"deadline":300,"when":["unseen"]},{"channels":["email","webhook"]}]}"#;

/// So many seconds after it was accepted.
fn at(seconds: u64) -> Timestamp {
    let start = Timestamp::parse("2026-11-21T22:00:00Z").expect("a time");
    start.after(Duration::from_secs(seconds))
}

fn notification() -> NotificationRow {
    NotificationRow {
        digest: None,
        tenant: TenantId::default(),
        id: NotificationId::at(at(0)),
        state: NotificationState::Planned,
        category: Default::default(),
        priority: Default::default(),
        collapse_key: None,
        digest_key: None,
        content: Arc::from(r#"{"title":"hello"}"#),
        targets: Vec::new(),
        channels: None,
        template: None,
        plan: Some(Arc::from(PLAN)),
        critical: false,
        created_at: at(0),
        send_at: at(0),
        expires_at: at(3_600),
        topics: None,
    }
}

fn recipient(state: RecipientState) -> RecipientDetail {
    RecipientDetail {
        user: UserId::at(at(0)),
        state,
        reason: None,
        entry: None,
        position: None,
        acknowledgement: None,
        plain: None,
        phase: (state == RecipientState::Open).then_some(RecipientPhase::Climbing),
        step: Some(0),
        step_at: Some(at(1)),
        next_at: None,
        decisions: Vec::new(),
        deliveries: Vec::new(),
        receipts: Vec::new(),
        confirmed: Vec::new(),
    }
}

/// In the inbox since the first second.
fn shown(state: RecipientState) -> RecipientDetail {
    RecipientDetail {
        entry: Some(EntryId::at(at(1))),
        position: Some(Position {
            epoch: "e1".parse().expect("an epoch"),
            seq: 1,
        }),
        deliveries: vec![delivery(0, "in_app", "inbox", "accepted")],
        ..recipient(state)
    }
}

fn delivery(step: u32, channel: &str, address: &str, state: &str) -> DeliveryDetail {
    DeliveryDetail {
        digest: None,
        id: DeliveryId::at(at(1)),
        step,
        channel: channel.to_owned(),
        address: address.to_owned(),
        state: state.to_owned(),
        reason: None,
        device: None,
        created_at: at(1),
        ended_at: None,
        next_at: None,
        attempts: Vec::new(),
        receipts: Vec::new(),
    }
}

fn attempt(number: u32, seconds: u64, outcome: Option<&str>, reason: Option<&str>) -> AttemptDetail {
    AttemptDetail {
        number,
        operation: "deliver".to_owned(),
        started_at: at(seconds),
        ended_at: outcome.map(|_| at(seconds)),
        outcome: outcome.map(str::to_owned),
        status: None,
        reason: reason.map(str::to_owned),
        excerpt: Some("a secret of the far end".to_owned()),
        next_at: (outcome == Some("retry")).then(|| at(seconds + 4)),
    }
}

fn decision(seconds: u64, step: u32, body: &str) -> DecisionDetail {
    let kind = serde_json::from_str::<serde_json::Value>(body).expect("JSON")["kind"].clone();
    DecisionDetail {
        at: at(seconds),
        kind: kind.as_str().expect("a kind").to_owned(),
        step: Some(step),
        body: body.to_owned(),
    }
}

fn read_on(device: &str, seconds: u64) -> Acknowledgement {
    Acknowledgement {
        kind: AckKind::Read,
        at: at(seconds),
        device: Some(device.parse().expect("a name")),
        action: None,
        by: None,
    }
}

fn receipt(kind: &str, seconds: u64, device: Option<&str>) -> ReceiptDetail {
    ReceiptDetail {
        kind: kind.to_owned(),
        channel: if device.is_some() { "in_app" } else { "email" }.to_owned(),
        at: at(seconds),
        device: device.map(|device| device.parse().expect("a name")),
    }
}

fn told(row: &NotificationRow, recipient: Option<&RecipientDetail>) -> (Vec<String>, String) {
    let timeline = timeline(
        &Told {
            notification: row,
            ended_at: Some(at(2)),
            recipient,
            answered_by: None,
            verbatim: true,
        },
        MOST_EVENTS,
    );
    assert!(!timeline.truncated);
    let lines = timeline.events.iter().map(|event| {
        let seconds = event.at.since(row.created_at).as_secs();
        let kind = serde_json::to_value(event.kind).expect("a word");
        format!("{seconds} {}: {}", kind.as_str().unwrap_or_default(), event.text)
    });
    (lines.collect(), timeline.standing)
}

#[test]
fn an_answer_in_the_app_ends_the_ladder_and_says_on_which_device() {
    let row = notification();
    let ada = RecipientDetail {
        acknowledgement: Some(read_on("laptop", 20)),
        decisions: vec![decision(
            1,
            1,
            r#"{"kind":"held","reason":"active","until":"2026-11-21T22:00:31Z"}"#,
        )],
        receipts: vec![
            receipt("seen", 9, Some("phone")),
            receipt("read", 20, Some("laptop")),
        ],
        confirmed: vec![("phone".parse().expect("a name"), at(3))],
        ..shown(RecipientState::Acknowledged)
    };
    let (lines, standing) = told(&row, Some(&ada));
    assert_eq!(
        lines,
        [
            "0 accepted: Accepted.",
            "1 planned: Planned in 3 steps: 1. the inbox for 30 s; 2. fcm for 5 min, if unseen; 3. email, webhook.",
            "1 held: Step 2 is held until 2026-11-21T22:00:31Z: a device of the user is active.",
            "1 sent: Put into the inbox, and pushed to every connected device.",
            "3 delivered: Arrived on phone.",
            "9 seen: Seen on phone.",
            "20 read: Read on laptop.",
            "20 acknowledged: Answered: read on laptop. Nothing more is sent, and the other devices clear.",
        ]
    );
    assert_eq!(standing, "Acknowledged.");
}

#[test]
fn every_address_says_what_became_of_it() {
    let row = notification();
    let mut webhook = delivery(2, "webhook", "https://example.org/hook", "dead");
    webhook.attempts = vec![
        attempt(1, 40, Some("retry"), Some("answered 500")),
        attempt(2, 44, Some("gone"), Some("answered 410")),
    ];
    (webhook.reason, webhook.ended_at) = (Some("answered 410".to_owned()), Some(at(44)));
    let mut email = delivery(2, "email", "ada@example.org", "skipped");
    (email.reason, email.created_at) = (Some("suppressed".to_owned()), at(40));
    let mut nowhere = delivery(1, "fcm", "-", "skipped");
    (nowhere.reason, nowhere.created_at) = (Some("no address".to_owned()), at(31));
    let mut ada = shown(RecipientState::Open);
    ada.deliveries.extend([nowhere, webhook, email]);
    ada.decisions = vec![
        decision(31, 1, r#"{"kind":"skipped","reason":"no_address"}"#),
        decision(40, 2, r#"{"kind":"escalated","reason":"deadline"}"#),
    ];
    let (lines, standing) = told(&row, Some(&ada));
    assert_eq!(
        lines[3..],
        [
            "31 skipped: Step 2 is passed over: the user has no address over these channels.",
            "31 skipped: Not sent over fcm: there is no address.",
            "40 escalated: Step 3 starts: nobody answered the step before in its time.",
            "40 skipped: Not sent over email to ada@example.org: the address is suppressed.",
            "40 tried: Attempt 1 over webhook to https://example.org/hook failed: answered 500; the next follows at \
             2026-11-21T22:00:44Z.",
            "44 tried: Attempt 2 over webhook to https://example.org/hook found the address gone: answered 410.",
            "44 dead: Given up over webhook to https://example.org/hook: answered 410.",
        ]
    );
    assert_eq!(
        standing,
        "Open: waits for an answer, until its time to live ends at 2026-11-21T23:00:00Z."
    );
    let event = timeline(
        &Told {
            notification: &row,
            ended_at: None,
            recipient: Some(&ada),
            answered_by: None,
            verbatim: true,
        },
        MOST_EVENTS,
    );
    let shown = serde_json::to_string(&event.events).expect("JSON");
    assert!(
        shown.contains(r#""why":{"detail":"answered 500","next_at":"#),
        "{shown}"
    );
    assert!(!shown.contains("a secret of the far end"), "{shown}");
}

#[test]
fn holds_conditions_caps_and_the_end_of_the_ladder_are_told() {
    let row = NotificationRow {
        send_at: at(60),
        critical: true,
        ..notification()
    };
    let ada = RecipientDetail {
        reason: Some("the plan's steps are over, and nobody answered".to_owned()),
        decisions: vec![
            decision(
                61,
                1,
                r#"{"kind":"held","reason":"quiet_hours","until":"2026-11-22T06:00:00Z","zone":"Europe/Berlin"}"#,
            ),
            decision(
                70,
                1,
                r#"{"kind":"released","reason":"quiet_hours","until":"2026-11-22T06:00:00Z","zone":"Europe/Berlin"}"#,
            ),
            decision(
                70,
                1,
                r#"{"kind":"passed","reason":"condition","condition":"unseen"}"#,
            ),
            decision(
                70,
                2,
                r#"{"kind":"capped","reason":"cap","max":3,"per":86400,"free_at":"2026-11-22T07:00:00Z"}"#,
            ),
            decision(
                80,
                2,
                r#"{"kind":"ended","state":"completed","reason":"the plan's steps are over, and nobody answered"}"#,
            ),
            decision(81, 2, r#"{"kind":"of another version"}"#),
        ],
        ..shown(RecipientState::Completed)
    };
    let (lines, standing) = told(&row, Some(&ada));
    assert_eq!(
        lines[0],
        "0 accepted: Accepted, to be sent at 2026-11-21T22:01:00Z; critical, so it passes preferences, quiet hours, holds \
         and caps."
    );
    assert_eq!(
        lines[3..],
        [
            "61 held: Step 2 is held until 2026-11-22T06:00:00Z: quiet hours in Europe/Berlin.",
            "70 released: Step 2 goes on: quiet hours are over.",
            "70 passed: Step 2 is passed over: it was seen.",
            "70 capped: Step 3 is skipped: at most 3 alerts in 1 day are allowed, the next from 2026-11-22T07:00:00Z.",
            "80 completed: Completed: the plan's steps are over, and nobody answered.",
        ]
    );
    assert_eq!(
        standing,
        "Completed: the plan's steps are over, and nobody answered."
    );
}

#[test]
fn a_plain_address_has_one_step_and_its_far_end_tells() {
    let row = notification();
    let mut email = delivery(0, "email", "bob@example.org", "delivered");
    email.attempts = vec![attempt(1, 2, Some("accepted"), None)];
    email.receipts = ["delivered", "clicked", "read"]
        .iter()
        .zip([5, 7, 8])
        .map(|(kind, seconds)| FarReceipt {
            kind: (*kind).into(),
            at: at(seconds),
            reason: None,
        })
        .collect();
    let bob = RecipientDetail {
        plain: Some(PlainAddress {
            channel: "email".parse().expect("a channel"),
            to: "bob@example.org".parse().expect("an address"),
        }),
        deliveries: vec![email],
        receipts: vec![receipt("read", 8, None)],
        acknowledgement: Some(Acknowledgement {
            device: None,
            ..read_on("-", 8)
        }),
        ..recipient(RecipientState::Acknowledged)
    };
    let (lines, _) = told(&row, Some(&bob));
    assert_eq!(
        lines[1..],
        [
            "1 planned: Planned: email.",
            "2 sent: Sent over email to bob@example.org: the provider took it.",
            "5 delivered: Arrived over email to bob@example.org.",
            "7 clicked: Its link was followed over email to bob@example.org.",
            "8 read: Read over email to bob@example.org.",
            "8 acknowledged: Answered: read. Nothing more is sent, and the other devices clear.",
        ]
    );
}

#[test]
fn an_answer_by_somebody_else_names_him() {
    let row = notification();
    let bob = RecipientDetail {
        acknowledgement: Some(Acknowledgement {
            device: None,
            ..read_on("-", 8)
        }),
        ..shown(RecipientState::Acknowledged)
    };
    let mut fcm = delivery(1, "fcm", "token-1", "cancelled");
    (fcm.reason, fcm.ended_at) = (Some("another recipient answered".to_owned()), Some(at(8)));
    let mut sent = delivery(1, "fcm", "token-2", "recalled");
    sent.attempts = vec![
        attempt(1, 2, Some("delivered"), None),
        attempt(2, 9, Some("delivered"), None),
    ];
    sent.attempts[1].operation = "recall".to_owned();
    let bob = RecipientDetail {
        deliveries: vec![fcm, sent],
        ..bob
    };
    let told = Told {
        notification: &row,
        ended_at: None,
        recipient: Some(&bob),
        answered_by: Some("ada"),
        verbatim: true,
    };
    let texts: Vec<String> = timeline(&told, MOST_EVENTS)
        .events
        .into_iter()
        .map(|event| event.text)
        .collect();
    assert_eq!(
        texts[2..],
        [
            "Sent over fcm to token-2: it is there.",
            "ada answered for everybody: read. Nothing more is sent, and the other devices clear.",
            "Not sent over fcm to token-1: another recipient answered.",
            "Taken back over fcm to token-2.",
        ]
    );
}

#[test]
fn what_is_not_planned_and_what_was_withdrawn_say_so() {
    let mut row = NotificationRow {
        state: NotificationState::Accepted,
        send_at: at(600),
        ..notification()
    };
    let (lines, standing) = told(&row, None);
    assert_eq!(
        lines,
        ["0 accepted: Accepted, to be sent at 2026-11-21T22:10:00Z."]
    );
    assert_eq!(
        standing,
        "Accepted: planned at 2026-11-21T22:10:00Z or soon after."
    );
    row.state = NotificationState::Cancelled;
    let (lines, _) = told(&row, None);
    assert_eq!(
        lines[1],
        "2 cancelled: Cancelled by its sender before it was planned."
    );
    let ada = RecipientDetail {
        reason: Some("cancelled".to_owned()),
        ..shown(RecipientState::Cancelled)
    };
    let (lines, standing) = told(&row, Some(&ada));
    assert_eq!(
        lines.last().expect("an end"),
        "2 cancelled: Cancelled by its sender."
    );
    assert_eq!(standing, "Cancelled.");
    let held = RecipientDetail {
        phase: Some(RecipientPhase::Held),
        next_at: Some(at(90)),
        ..shown(RecipientState::Open)
    };
    assert_eq!(
        told(&row, Some(&held)).1,
        "Held: decided again at 2026-11-21T22:01:30Z."
    );
}

#[test]
fn of_too_many_events_the_first_and_the_latest_stay() {
    let row = notification();
    let mut webhook = delivery(2, "webhook", "https://example.org/hook", "pending");
    webhook.attempts = (1..=50)
        .map(|number| attempt(number, u64::from(number) * 10, Some("retry"), None))
        .collect();
    let ada = RecipientDetail {
        deliveries: vec![webhook],
        ..recipient(RecipientState::Open)
    };
    let told = Told {
        notification: &row,
        ended_at: None,
        recipient: Some(&ada),
        answered_by: None,
        verbatim: true,
    };
    let short = timeline(&told, 10);
    assert!(short.truncated);
    assert_eq!(short.events.len(), 10);
    assert_eq!(short.events[0].text, "Accepted.");
    assert!(
        short.events[9].text.starts_with("Attempt 50 "),
        "{}",
        short.events[9].text
    );
    assert!(!timeline(&told, 52).truncated);
}

#[test]
fn a_user_is_not_told_what_far_ends_said() {
    let secret = "relay 10.0.0.7 says no";
    let mut email = delivery(2, "email", "ada@example.org", "dead");
    email.reason = Some(secret.to_owned());
    let mut tried = attempt(1, 10, Some("retry"), Some(secret));
    tried.status = Some(451);
    email.attempts = vec![tried, attempt(2, 20, Some("rejected"), Some(secret))];
    email.receipts = vec![FarReceipt {
        kind: "failed".into(),
        at: at(30),
        reason: Some(secret.to_owned()),
    }];
    let mut sms = delivery(2, "sms", "+49", "skipped");
    sms.reason = Some(secret.to_owned());
    let mut push = delivery(2, "fcm", "a", "skipped");
    push.reason = Some("unsubscribed".to_owned());
    let ada = RecipientDetail {
        deliveries: vec![email, sms, push],
        ..recipient(RecipientState::Dead)
    };
    let row = notification();
    let as_told = |verbatim| {
        let told = Told {
            notification: &row,
            ended_at: None,
            recipient: Some(&ada),
            answered_by: None,
            verbatim,
        };
        serde_json::to_string(&timeline(&told, MOST_EVENTS).events).expect("JSON")
    };
    assert!(as_told(true).contains(secret));
    let own = as_told(false);
    assert!(!own.contains(secret) && !own.contains("451"), "{own}");
    assert!(
        own.contains("Attempt 1 over email to ada@example.org failed; the next follows at"),
        "{own}"
    );
    assert!(own.contains("alerts of this kind are turned off"), "{own}");
}
