use serde_json::json;

use super::{Outside, delivery_in, over, plain, settled, text};
use crate::harness::{Mail, MailReply, eventually};

#[tokio::test]
async fn cancelling_stops_what_waits_and_says_what_cannot_be_taken_back() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    outside
        .relay
        .script(&email, [MailReply::Refuse("451 4.2.0 try again")]);
    let id = api
        .notify(over(
            &["email", "webhook"],
            json!([{"user": "ada"}]),
            "Sent too early",
        ))
        .await;
    delivery_in(api, &id, "webhook", "delivered").await;
    eventually("an attempt", || async {
        (outside.relay.tried(&email) >= 1).then_some(())
    })
    .await;
    let cancelled = api
        .post(&format!("/v1/notifications/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    let stopped = delivery_in(api, &id, "email", "cancelled").await;
    let sent = delivery_in(api, &id, "webhook", "delivered").await;
    assert_eq!(sent["reason"], "not_recallable");

    // Another email to the same address goes through, and the cancelled one does not come with it.
    outside.relay.script(&email, [MailReply::Take]);
    let next = api
        .notify(json!({"targets": plain("email", &email), "content": {"title": "The right one"}}))
        .await;
    let next = delivery_in(api, &next, "email", "accepted").await;
    let seen = outside.relay.seen(&email);
    assert_eq!(
        seen.iter().map(Mail::delivery).collect::<Vec<_>>(),
        [text(&next["id"])]
    );
    settled(api, &text(&stopped["id"]), "cancelled").await;
}

#[tokio::test]
async fn a_newer_one_with_the_same_collapse_key_takes_the_place_of_what_waits() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let send = |title: &'static str| {
        let mut request = over(&["email"], json!([{"user": "ada"}]), title);
        request["collapse_key"] = "deploy".into();
        async move { api.notify(request).await }
    };
    outside
        .relay
        .script(&email, [MailReply::Refuse("451 4.2.0 try again")]);
    let older = send("Deploying").await;
    eventually("an attempt", || async {
        (outside.relay.tried(&email) >= 1).then_some(())
    })
    .await;
    outside.relay.script(&email, [MailReply::Take]);
    let newer = send("Deployed").await;
    delivery_in(api, &newer, "email", "accepted").await;
    let shown = api.notification(&older).await;
    let state = text(&super::deliveries(&shown, "email")[0]["state"]);
    let subjects: Vec<String> = outside
        .relay
        .seen(&email)
        .iter()
        .map(|mail| mail.header("subject"))
        .collect();
    // It may have gone out just before the newer one was planned; it never comes after it.
    match state.as_str() {
        "superseded" => assert_eq!(subjects, ["Deployed"]),
        "accepted" => assert_eq!(subjects, ["Deploying", "Deployed"]),
        _ => panic!("{shown}"),
    }
}
