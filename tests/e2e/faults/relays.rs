use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{NEIGHBOURS, Neighbours, all_in, breaker, now, send, text};
use crate::{
    e2e::outside::{Outside, impatient},
    harness::{Api, Hooks, MailReply, Relay, eventually, free_port, report},
};

/// How many emails.
const MAILS: usize = 30;
/// For how many of them a relay is silent at first.
const SILENT: usize = 8;

fn recipient(index: usize) -> String {
    format!("reader{index}@example.net")
}

/// One notification to each of `MAILS` plain addresses; answers the ids.
async fn mail_everybody(api: &Api) -> Vec<String> {
    let notifications: Vec<Value> = (0..MAILS)
        .map(|index| {
            json!({
                "targets": [{"address": {"channel": "email", "to": recipient(index)}}],
                "content": {"title": "Hello"}
            })
        })
        .collect();
    let batch = json!({"notifications": notifications});
    let accepted = api.post("/v1/notifications/batch", &batch).await.expect(202);
    let accepted = accepted["data"].as_array().expect("a list").clone();
    accepted.iter().map(|one| text(&one["id"])).collect()
}

#[tokio::test]
async fn a_relay_that_is_away_gets_everything_when_it_is_back() {
    let port = free_port();
    let server = impatient(port).serve().await;
    let api = server.api().await;
    let neighbours = Neighbours::of(&server).await;
    let ids = mail_everybody(&api).await;
    eventually("the breaker to open", || async {
        let states = breaker(&api, "email").await;
        states.iter().any(|state| state != "closed").then_some(())
    })
    .await;
    let meanwhile = neighbours.finish().await;
    let waiting = now(&api, &ids, "email").await;
    assert!(waiting.iter().all(|one| one["state"] == "pending"), "{waiting:?}");
    let mut tried = 0;
    for attempt in waiting
        .iter()
        .flat_map(|one| one["attempts"].as_array().expect("attempts"))
    {
        if attempt["ended_at"].is_string() {
            tried += 1;
            assert_eq!(attempt["outcome"], "retry");
            let reason = text(&attempt["reason"]);
            assert!(
                reason.starts_with("the relay gave no answer while connecting"),
                "{reason}"
            );
        }
    }
    assert!(tried > 0);
    let relay = Relay::start_at(port).await;
    all_in(&api, &ids, "email", "accepted").await;
    for index in 0..MAILS {
        assert_eq!(relay.seen(&recipient(index)).len(), 1);
    }
    report(&format!(
        "fault: a relay that is away: attempts end `retry` (no answer while connecting), the breaker opens, {MAILS} emails \
         accepted once each when it is back; {meanwhile}"
    ));
}

#[tokio::test]
async fn a_relay_that_goes_away_in_the_middle_loses_nothing() {
    let port = free_port();
    let relay = Relay::start_at(port).await;
    for index in 0..MAILS {
        relay.script(&recipient(index), [MailReply::After(Duration::from_millis(150))]);
    }
    let server = impatient(port).serve().await;
    let api = server.api().await;
    let ids = mail_everybody(&api).await;
    eventually("the first email", || async {
        (0..MAILS)
            .any(|index| !relay.seen(&recipient(index)).is_empty())
            .then_some(())
    })
    .await;
    relay.stop();
    let next = Relay::start_at(port).await;
    all_in(&api, &ids, "email", "accepted").await;
    let mut twice = 0;
    for index in 0..MAILS {
        let mut all = relay.seen(&recipient(index));
        all.extend(next.seen(&recipient(index)));
        assert!(!all.is_empty(), "{} got nothing", recipient(index));
        assert!(
            all.iter().all(|mail| mail.raw == all[0].raw),
            "a repeat is the same, byte for byte"
        );
        twice += all.len() - 1;
    }
    report(&format!(
        "fault: a relay that goes away among {MAILS} emails: all accepted by its successor, {twice} of them twice, with \
         the same bytes"
    ));
}

#[tokio::test]
async fn a_slow_relay_takes_its_time_and_nobody_elses() {
    let outside = Outside::start_with(|start| start.env("CARILLON_CHANNELS__EMAIL__TIMEOUT", "20s")).await;
    let neighbours = Neighbours::of(&outside.server).await;
    for index in 0..MAILS {
        let slow = MailReply::After(Duration::from_secs(1));
        outside.relay.script(&recipient(index), [slow]);
    }
    let begun = Instant::now();
    let ids = mail_everybody(&outside.api).await;
    let meanwhile = neighbours.finish().await;
    let waiting = now(&outside.api, &ids, "email").await;
    assert!(
        waiting.iter().any(|one| one["state"] == "pending"),
        "the neighbours waited for the relay"
    );
    let accepted = all_in(&outside.api, &ids, "email", "accepted").await;
    for delivery in &accepted {
        assert_eq!(
            delivery["attempts"].as_array().map(Vec::len),
            Some(1),
            "{delivery}"
        );
    }
    report(&format!(
        "fault: a relay that takes a second for each email: {MAILS} accepted at the first attempt in {} ms; {meanwhile}",
        begun.elapsed().as_millis()
    ));
}

#[tokio::test]
async fn a_relay_that_is_silent_is_tried_again_with_the_same_message() {
    let outside = Outside::start().await;
    let neighbours = Neighbours::of(&outside.server).await;
    // No more than are under way at a time. Were it silent for all, each probe of its breaker would meet silence again.
    for index in 0..SILENT {
        outside
            .relay
            .script(&recipient(index), [MailReply::Silence, MailReply::Take]);
    }
    let ids = mail_everybody(&outside.api).await;
    let meanwhile = neighbours.finish().await;
    let accepted = all_in(&outside.api, &ids, "email", "accepted").await;
    let mut tried = 0;
    for delivery in &accepted {
        let attempts = delivery["attempts"].as_array().expect("attempts");
        let (last, first) = attempts.split_last().expect("an attempt");
        assert_eq!(last["outcome"], "accepted");
        for attempt in first {
            assert_eq!(attempt["outcome"], "retry");
            assert!(
                text(&attempt["reason"]).starts_with("the relay gave no answer"),
                "{attempt}"
            );
        }
        tried += first.len();
    }
    assert!(tried >= SILENT, "{tried} attempts met silence");
    report(&format!(
        "fault: a relay that falls silent once for {SILENT} recipients: {tried} attempts end `retry` (no answer), {MAILS} emails \
         accepted; {meanwhile}"
    ));
}

#[tokio::test]
async fn a_relay_that_refuses_one_of_ten_delivers_the_other_nine() {
    let outside = Outside::start().await;
    let refused = |index: usize| index.is_multiple_of(10);
    for index in (0..MAILS).filter(|index| refused(*index)) {
        outside.relay.script(
            &recipient(index),
            [MailReply::Refuse("550 5.7.1 not by our policy")],
        );
    }
    let other = outside.server.tenant("acme").await;
    let begun = Instant::now();
    let ids = mail_everybody(&outside.api).await;
    let theirs = send(
        &other,
        &super::plain("email", "theirs@example.net"),
        NEIGHBOURS,
        60,
    )
    .await;
    outside.relay.wait("theirs@example.net", NEIGHBOURS).await;
    let took = begun.elapsed().as_millis();
    for (index, id) in ids.iter().enumerate() {
        let state = if refused(index) { "dead" } else { "accepted" };
        let found = all_in(&outside.api, std::slice::from_ref(id), "email", state).await;
        assert_eq!(found[0]["attempts"].as_array().map(Vec::len), Some(1));
    }
    all_in(&other, &theirs, "email", "accepted").await;
    let states = breaker(&outside.api, "email").await;
    assert!(states.iter().all(|state| state == "closed"), "{states:?}");
    report(&format!(
        "fault: a relay that refuses one of ten: {} dead at once (rejected), {} accepted, the breaker stays closed; \
         {NEIGHBOURS} emails of another tenant in {took} ms meanwhile",
        MAILS / 10,
        MAILS - MAILS / 10
    ));
}

#[tokio::test]
async fn a_relay_that_is_away_keeps_no_webhook_of_the_same_notification() {
    let server = impatient(free_port()).serve().await;
    let api = server.api().await;
    let hooks = Hooks::start().await;
    let targets = json!([
        {"address": {"channel": "email", "to": "ada@example.net"}},
        {"address": {"channel": "webhook", "to": hooks.url("/ada")}},
    ]);
    let id = api
        .notify(json!({"targets": targets, "content": {"title": "Hello"}}))
        .await;
    hooks.wait("/ada", 1).await;
    all_in(&api, std::slice::from_ref(&id), "webhook", "delivered").await;
    let waiting = now(&api, std::slice::from_ref(&id), "email").await;
    assert_eq!(waiting[0]["state"], "pending", "{waiting:?}");
}
