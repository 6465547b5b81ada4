use serde_json::{Value, json};

use super::{Outside, delivery_in, outcomes, over, plain, settled, text};
use crate::harness::{Api, Mail, MailReply};

/// What a mail server sends when nobody is at an address that it took a message for.
fn bounce(mail: &Mail, address: &str) -> String {
    let head = mail.raw.split("\r\n\r\n").next().unwrap_or_default();
    format!(
        "From: MAILER-DAEMON@mx.example.net\r\nTo: hub@example.net\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nI'm sorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.example.net\r\nOriginal-Envelope-Id: {envelope}\r\n\r\n\
         Final-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\n{head}\r\n\r\n--b--\r\n",
        envelope = mail.envelope,
    )
}

async fn report(api: &Api, dsn: String) -> Value {
    let request = api
        .request(reqwest::Method::POST, "/v1/in/dsn")
        .header("content-type", "message/rfc822")
        .body(dsn);
    api.send(request).await.expect(200)
}

#[tokio::test]
async fn a_bounce_suppresses_the_address_before_the_next_attempt_of_whatever_waits() {
    let outside = Outside::start().await;
    let api = &outside.api;
    outside
        .endpoint(
            "/events",
            json!({"events": ["delivery.bounced", "delivery.dead"]}),
        )
        .await;
    let address = "gone@example.net";
    let send = |title: &'static str| async move {
        api.notify(
            json!({"targets": plain("email", address), "priority": "high", "content": {"title": title}}),
        )
        .await
    };
    let first = send("Taken at first").await;
    delivery_in(api, &first, "email", "accepted").await;
    let mail = outside.relay.seen(address).remove(0);

    // This one is put off again and again.
    outside
        .relay
        .script(address, [MailReply::Refuse("451 4.2.0 try again")]);
    let waiting = send("Put off").await;
    let waiting = delivery_in(api, &waiting, "email", "pending").await;
    let waiting = text(&waiting["id"]);
    crate::harness::eventually("an attempt", || async {
        (outside.relay.tried(address) >= 3).then_some(())
    })
    .await;

    let taken = report(api, bounce(&mail, address)).await;
    let delivery = mail.delivery();
    assert_eq!(
        taken,
        json!({"data": [{"delivery_id": delivery, "suppressed": true}], "ignored": []})
    );
    let skipped = settled(api, &waiting, "skipped").await;
    let tried = outside.relay.tried(address);
    assert_eq!(skipped["reason"], "suppressed");
    assert!(
        outcomes(&skipped).iter().all(|outcome| *outcome == "retry"),
        "{skipped}"
    );
    let later = send("Later").await;
    let later = delivery_in(api, &later, "email", "skipped").await;
    assert_eq!(later["reason"], "suppressed");
    assert_eq!(outside.relay.tried(address), tried, "nobody was asked any more");

    let list = api.get("/v1/suppressions?channel=email").await.expect(200);
    let row = &list["data"][0];
    assert_eq!(
        (&row["address"], &row["reason"], &row["delivery_id"]),
        (&json!(address), &json!("bounced"), &json!(delivery))
    );

    let told = outside.hooks.wait_kind("/events", "delivery.bounced", 1).await;
    assert_eq!(told[0].json()["data"]["delivery_id"], delivery.as_str());
    let told = outside.hooks.wait_kind("/events", "delivery.dead", 1).await;
    assert_eq!(told[0].json()["data"]["delivery_id"], delivery.as_str());
    let lost = delivery_in(api, &first, "email", "dead").await;
    assert_eq!(lost["reason"], "bounced: 5.1.1 550 5.1.1 no such user", "{lost}");

    // The same report again, and one about somebody else, change nothing.
    report(api, bounce(&mail, address)).await;
    let lift = format!("/v1/suppressions/email/{address}");
    api.delete(&lift).await.expect(204);
    outside.relay.script(address, [MailReply::Take]);
    let lifted = send("Back again").await;
    delivery_in(api, &lifted, "email", "accepted").await;
    assert_eq!(outside.relay.seen(address).len(), 2);
}

#[tokio::test]
async fn an_address_that_the_relay_knows_to_be_dead_is_retired_from_its_user() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    outside
        .relay
        .script(&email, [MailReply::Refuse("550 5.1.1 no such user")]);
    let id = api
        .notify(over(&["email"], json!([{"user": "ada"}]), "Anybody there?"))
        .await;
    let dead = delivery_in(api, &id, "email", "dead").await;
    assert_eq!(dead["attempts"][0]["outcome"], "gone");
    assert!(text(&dead["reason"]).contains("5.1.1"), "{dead}");
    crate::harness::eventually("the address to be retired", || async {
        let shown = api.get("/v1/users/ada").await.expect(200);
        let addresses = shown["addresses"].as_array().cloned().unwrap_or_default();
        addresses
            .iter()
            .any(|one| one["address"] == email && one["state"] == "retired")
            .then_some(())
    })
    .await;
    let list = api.get("/v1/suppressions").await.expect(200);
    assert_eq!(list["data"][0]["reason"], "gone", "{list}");
    assert_eq!(outside.relay.tried(&email), 1);
    // Named again it is in use, and it says that nothing goes there until that is lifted.
    let suppressed = async || {
        let again = json!({"addresses": [{"channel": "email", "address": email, "verified": true}]});
        let shown = api.put("/v1/users/ada", &again).await.expect(200);
        assert_eq!(shown["addresses"][0]["state"], "active", "{shown}");
        assert_eq!(
            shown["addresses"],
            api.get("/v1/users/ada").await.expect(200)["addresses"]
        );
        shown["addresses"][0]["suppressed"].clone()
    };
    assert_eq!(suppressed().await, "gone");
    let lift = format!("/v1/suppressions/email/{email}");
    api.delete(&lift).await.expect(204);
    assert_eq!(suppressed().await, Value::Null);
}

#[tokio::test]
async fn bounces_of_every_tenant_are_taken_in_with_one_key() {
    let outside = Outside::start().await;
    let (one, two) = (&outside.api, outside.server.tenant("acme").await);
    let arguments = ["keys", "create", "--all-tenants", "--name", "bounces", "--scope"];
    let key = async |scope: &'static str| {
        let made = outside.server.command(&[&arguments[..], &[scope]].concat()).await;
        made.line().to_owned()
    };
    let worker = one.with(&key("channel:email").await);
    for (api, address) in [(one, "ours@example.net"), (&two, "theirs@example.net")] {
        let id = api
            .notify(json!({"targets": plain("email", address), "content": {"title": "Anybody?"}}))
            .await;
        delivery_in(api, &id, "email", "accepted").await;
        let mail = outside.relay.seen(address).remove(0);
        let known = json!({"data": [{"delivery_id": mail.delivery(), "suppressed": true}], "ignored": []});
        if api.url("") != one.url("") {
            let taken = report(one, bounce(&mail, address)).await;
            assert_eq!(
                taken["data"],
                json!([]),
                "another tenant's key knows nothing of it"
            );
        }
        assert_eq!(report(&worker, bounce(&mail, address)).await, known);
        delivery_in(api, &id, "email", "dead").await;
        let list = api.get("/v1/suppressions?channel=email").await.expect(200);
        assert_eq!(list["data"][0]["address"], address, "{list}");
        assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list}");
    }
    let mail = outside.relay.seen("ours@example.net").remove(0);
    let request = one
        .with(&key("channel:sms").await)
        .request(reqwest::Method::POST, "/v1/in/dsn")
        .header("content-type", "message/rfc822")
        .body(bounce(&mail, "ours@example.net"));
    one.send(request).await.problem(403, "forbidden");
}
