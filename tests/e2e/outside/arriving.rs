use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Outside, PASSWORD, deliveries, delivery, delivery_in, fits_ed25519, outcomes, over, plain, text,
};

#[tokio::test]
async fn a_notification_reaches_every_address_once_under_the_ids_that_answers_show() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let request = over(
        &["in_app", "email", "webhook"],
        json!([{"user": "ada"}]),
        "The disk is full",
    );
    let id = api.notify(request).await;
    let hook = outside.hooks.wait("/ada", 1).await.remove(0);
    let mail = outside.relay.wait(&email, 1).await.remove(0);

    let by_hook = delivery_in(api, &id, "webhook", "delivered").await;
    let by_mail = delivery_in(api, &id, "email", "accepted").await;
    assert_eq!(by_hook["id"], hook.id.as_str());
    assert_eq!(by_mail["id"], mail.delivery());
    assert_eq!(
        mail.envelope,
        mail.delivery(),
        "bounces bring the delivery's id back"
    );
    assert_eq!(mail.header("subject"), "The disk is full");
    assert_eq!(mail.header("to"), email);
    let signed = mail.header("dkim-signature");
    assert!(
        signed.contains("d=example.net") && signed.contains("s=s1"),
        "{signed}"
    );
    let body = hook.json();
    assert_eq!(body["type"], "notification.created");
    let data = &body["data"];
    assert_eq!(
        (&data["notification_id"], &data["delivery_id"]),
        (&json!(id), &by_hook["id"])
    );
    assert_eq!(
        (&data["user"], &data["content"]["title"]),
        (&json!("ada"), &json!("The disk is full"))
    );
    for (shown, outcome) in [(&by_hook, "delivered"), (&by_mail, "accepted")] {
        let alone = delivery(api, &text(&shown["id"])).await;
        assert_eq!(outcomes(&alone), [outcome]);
        assert_eq!(alone["attempts"], shown["attempts"]);
        assert_eq!(alone["notification_id"], id.as_str());
        assert_eq!((&alone["user"], &alone["next_at"]), (&json!("ada"), &Value::Null));
    }
    assert_eq!(
        delivery(api, &text(&by_hook["id"])).await["attempts"][0]["status"],
        204
    );
    // A plain URL is signed with the tenant's own key.
    let key = api.get("/v1/webhooks/key").await.expect(200);
    assert!(fits_ed25519(&text(&key["public_key"]), &hook), "{hook:?}");
    let altered = crate::harness::Hook {
        body: hook.body.replace("full", "fine"),
        ..hook.clone()
    };
    assert!(!fits_ed25519(&text(&key["public_key"]), &altered));

    // Once each: what follows is the second that comes.
    let next = api
        .notify(over(
            &["email", "webhook"],
            json!([{"user": "ada"}]),
            "And now this",
        ))
        .await;
    delivery_in(api, &next, "webhook", "delivered").await;
    delivery_in(api, &next, "email", "accepted").await;
    assert_eq!(outside.hooks.seen("/ada").len(), 2);
    assert_eq!(outside.relay.seen(&email).len(), 2);
    let inbox = api.user("ada").await.inbox().await;
    assert_eq!(inbox["data"].as_array().map(Vec::len), Some(1), "{inbox}");
    assert_eq!(
        outside.relay.credentials(),
        Some(("hub".to_owned(), PASSWORD.to_owned()))
    );
}

#[tokio::test]
async fn plain_addresses_are_reached_without_a_user() {
    let outside = Outside::start().await;
    let api = &outside.api;
    let mut targets = plain("email", "Bob@EXAMPLE.net");
    let hook = json!({"address": {"channel": "webhook", "to": outside.hooks.url("/plain")}});
    targets.as_array_mut().expect("a list").push(hook);
    let id = api
        .notify(json!({"targets": targets, "content": {"title": "To whom it may concern"}}))
        .await;
    let hook = outside.hooks.wait("/plain", 1).await.remove(0);
    // One mailbox, however it is spelled: opt-outs and suppressions are found by the address in lower case.
    let mail = outside.relay.wait("bob@example.net", 1).await.remove(0);
    assert_eq!(hook.json()["data"].get("user"), None);
    assert_eq!(hook.json()["data"]["content"]["title"], "To whom it may concern");
    let by_hook = delivery_in(api, &id, "webhook", "delivered").await;
    let by_mail = delivery_in(api, &id, "email", "accepted").await;
    assert_eq!(
        (&by_hook["id"], &by_mail["id"]),
        (&json!(hook.id), &json!(mail.delivery()))
    );
    let shown = api.notification(&id).await;
    let recipients = shown["recipients"]["data"].as_array().expect("recipients");
    assert_eq!(recipients.len(), 2, "{shown}");
    for recipient in recipients {
        assert_eq!(
            (&recipient["user"], &recipient["entry_id"]),
            (&Value::Null, &Value::Null)
        );
        assert!(recipient["address"]["to"].is_string(), "{recipient}");
    }
}

#[tokio::test]
async fn a_templates_forms_go_where_they_belong_in_the_recipients_language() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    api.put("/v1/users/ada", &json!({"locale": "de-AT"}))
        .await
        .expect(200);
    let template = json!({
        "default_locale": "en",
        "locales": {
            "en": {"in_app": {"title": "Order {{ order }} is on its way"}, "subject": "Your order {{ order }}", "text": "Hello {{ name }}"},
            "de": {
                "in_app": {"title": "Bestellung {{ order }} ist unterwegs"}, "subject": "Ihre Bestellung {{ order }}",
                "text": "Hallo {{ name }}", "html": "<p>Hallo {{ name }}</p>"
            }
        }
    });
    api.put("/v1/templates/shipped", &template).await.expect(200);
    let request = json!({
        "targets": [{"user": "ada"}], "channels": ["in_app", "email", "webhook"],
        "template": {"name": "shipped"}, "data": {"order": 7, "name": "Ada <Lovelace>"}
    });
    api.notify(request).await;
    let mail = outside.relay.wait(&email, 1).await.remove(0);
    assert_eq!(mail.header("subject"), "Ihre Bestellung 7");
    assert!(mail.raw.contains("\r\nHallo Ada <Lovelace>"), "{}", mail.raw);
    assert!(
        mail.raw.contains("<p>Hallo Ada &lt;Lovelace&gt;</p>"),
        "{}",
        mail.raw
    );
    let hook = outside.hooks.wait("/ada", 1).await.remove(0);
    let title = "Bestellung 7 ist unterwegs";
    assert_eq!(hook.json()["data"]["content"]["title"], title);
    let inbox = api.user("ada").await.inbox().await;
    assert_eq!(inbox["data"][0]["content"]["title"], title);
}

#[tokio::test]
async fn the_link_in_a_mail_turns_that_category_and_channel_off_and_on_again() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let send = |category: &'static str| {
        let mut request = over(&["email", "webhook"], json!([{"user": "ada"}]), "News");
        request["category"] = category.into();
        async move { api.notify(request).await }
    };
    let first = send("news").await;
    delivery_in(api, &first, "email", "accepted").await;
    let mail = outside.relay.seen(&email).remove(0);
    assert_eq!(mail.header("list-unsubscribe-post"), "List-Unsubscribe=One-Click");
    let link = mail.header("list-unsubscribe");
    let path = link
        .strip_prefix("<https://bell.example.net")
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or_else(|| panic!("{link}"));

    // Mail programs look at links; looking changes nothing.
    let page = api.send(api.bare(Method::GET, path)).await;
    assert!(page.status.is_success() && page.text.contains("You get these messages here."));
    delivery_in(api, &send("news").await, "email", "accepted").await;

    let click = api
        .bare(Method::POST, path)
        .body("List-Unsubscribe=One-Click")
        .header("content-type", "application/x-www-form-urlencoded");
    let clicked = api.send(click).await;
    assert!(
        clicked.text.contains("You no longer get these messages here."),
        "{clicked:?}"
    );
    let after = send("news").await;
    let skipped = delivery_in(api, &after, "email", "skipped").await;
    assert_eq!(skipped["reason"], "unsubscribed");
    // Neither the other channel nor other categories.
    delivery_in(api, &after, "webhook", "delivered").await;
    delivery_in(api, &send("orders").await, "email", "accepted").await;
    assert_eq!(outside.relay.seen(&email).len(), 3);

    let on = api.send(api.bare(Method::POST, &format!("{path}?on=true"))).await;
    assert!(on.text.contains("You get these messages here."), "{on:?}");
    delivery_in(api, &send("news").await, "email", "accepted").await;
    let forged = path.replace("~news~", "~orders~");
    api.send(api.bare(Method::POST, &forged))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn who_cannot_be_reached_is_said_and_the_others_are_reached() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let targets = json!([{"user": "ada"}, {"user": "nobody"}]);
    let id = api.notify(over(&["email"], targets, "To both")).await;
    outside.relay.wait(&email, 1).await;
    let shown = api.notification(&id).await;
    let found = deliveries(&shown, "email");
    let nowhere = found.iter().find(|delivery| delivery["address"] == "-");
    let nowhere = nowhere.unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(
        (&nowhere["state"], &nowhere["reason"]),
        (&json!("skipped"), &json!("no address"))
    );
}
