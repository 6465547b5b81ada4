//! One notification in, every device rings, an answer on one clears the others.

use serde_json::json;

use crate::harness::{shared, user_name};

#[tokio::test]
async fn a_notification_reaches_a_browser_and_an_app_with_one_position() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut browser = ada.stream("?device=browser").await;
    let mut app = ada.connect(json!({"device": "phone"})).await;

    let id = api.ring(&user, "Build failed").await;

    let event = browser.next().await;
    assert_eq!(event.event, "added");
    assert_eq!(event.data["type"], "added");
    assert_eq!(event.data["entry"]["notification_id"], id);
    assert_eq!(event.data["entry"]["content"]["title"], "Build failed");
    assert_eq!(event.data["entry"]["category"], "default");
    assert_eq!(
        event.data["counts"],
        json!({"total": 1, "unread": 1, "unseen": 1})
    );

    let (offset, change) = app.change().await;
    assert_eq!(change, event.data);
    let epoch = app.connected["subs"]["carillon:inbox"]["epoch"]
        .as_str()
        .expect("an epoch");
    assert_eq!(event.id, Some(format!("{epoch}-{offset}")));
    assert_eq!(offset, 1);
}

#[tokio::test]
async fn reading_over_http_clears_the_app() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut browser = ada.stream("?device=browser").await;
    let mut app = ada.connect(json!({"device": "phone"})).await;
    let id = api.ring(&user, "Build failed").await;
    let entry = browser.next().await.data["entry"]["id"].clone();
    app.change().await;

    let answer = ada
        .post(
            "/v1/acks",
            &json!({"device": "browser", "acks": [{"kind": "read", "entry": entry}]}),
        )
        .await
        .expect(200);
    assert_eq!(answer["results"], json!([{"status": "ok"}]));
    assert_eq!(answer["counts"], json!({"total": 1, "unread": 0, "unseen": 0}));

    let (offset, change) = app.change().await;
    assert_eq!(change["type"], "state_changed");
    assert_eq!(change["change"], "read");
    assert_eq!(change["entries"][0]["id"], entry);
    assert_eq!(change["entries"][0]["notification_id"], id);
    assert_eq!(change["acknowledgement"]["kind"], "read");
    assert_eq!(change["acknowledgement"]["device"], "browser");
    let event = browser.next().await;
    assert_eq!(event.data, change);
    assert_eq!(event.seq(), offset);
    assert_eq!(
        Some(answer["position"].as_str().expect("a position")),
        event.id.as_deref()
    );
}

#[tokio::test]
async fn an_answer_over_websocket_clears_the_browser_and_ends_the_notification() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut browser = ada.stream("?device=browser").await;
    let mut app = ada.connect(json!({"device": "phone"})).await;
    let id = api
        .notify(json!({
            "targets": [{"user": user}],
            "content": {"title": "Deploy?", "actions": [{"id": "go", "title": "Go", "url": "https://ci.example/go"}]},
        }))
        .await;
    browser.next().await;

    let acted = app
        .rpc(
            "carillon.ack",
            json!({"acks": [{"kind": "acted", "notification": id, "action": "go"}]}),
        )
        .await
        .expect("an answer");
    assert_eq!(acted["results"], json!([{"status": "ok"}]));

    let event = browser.next_named("state_changed").await;
    assert_eq!(event.data["change"], "acted");
    assert_eq!(event.data["acknowledgement"]["kind"], "acted");
    assert_eq!(event.data["acknowledgement"]["action"], "go");
    assert_eq!(event.data["acknowledgement"]["device"], "phone");

    let shown = api.notification(&id).await;
    assert_eq!(shown["state"], "planned");
    let recipient = &shown["recipients"]["data"][0];
    assert_eq!(recipient["user"], user);
    assert_eq!(recipient["state"], "acknowledged");
    assert_eq!(recipient["acknowledgement"]["kind"], "acted");
    assert_eq!(recipient["acknowledgement"]["device"], "phone");
    let delivery = &recipient["deliveries"][0];
    assert_eq!(delivery["channel"], "in_app");
    // `delivered` once a device confirmed it, which none has here.
    assert_eq!(delivery["state"], "accepted");
    assert_eq!(delivery["attempts"][0]["number"], 1);
    assert_eq!(delivery["attempts"][0]["outcome"], "accepted");
    let kinds: Vec<_> = recipient["receipts"]
        .as_array()
        .expect("receipts")
        .iter()
        .map(|receipt| &receipt["kind"])
        .collect();
    assert!(kinds.contains(&&json!("acted")), "{recipient}");
}

#[tokio::test]
async fn delivered_and_seen_are_receipts_and_stop_nothing() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut browser = ada.stream("?device=browser").await;
    let id = api.ring(&user, "Build failed").await;
    let added = browser.next().await;
    let position = added.id.clone().expect("an id");

    let answer = ada
        .post(
            "/v1/acks",
            &json!({"device": "browser", "acks": [
                {"kind": "delivered", "position": position},
                {"kind": "seen", "entry": added.data["entry"]["id"]},
                {"kind": "seen", "entry": added.data["entry"]["id"]},
                {"kind": "read", "entry": "ent_0190d6a5c0de70008000000000000000"},
            ]}),
        )
        .await
        .expect(200);
    let statuses: Vec<_> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].clone())
        .collect();
    assert_eq!(statuses, ["ok", "ok", "unchanged", "not_found"]);
    assert_eq!(answer["counts"], json!({"total": 1, "unread": 1, "unseen": 0}));
    let seen = browser.next().await;
    assert_eq!(seen.data["change"], "seen");
    assert!(seen.data.get("acknowledgement").is_none(), "{seen:?}");

    let shown = api.notification(&id).await;
    let recipient = &shown["recipients"]["data"][0];
    assert_eq!(recipient["state"], "open");
    assert_eq!(recipient["deliveries"][0]["state"], "delivered");
    let kinds: Vec<_> = recipient["receipts"]
        .as_array()
        .expect("receipts")
        .iter()
        .map(|receipt| receipt["kind"].clone())
        .collect();
    assert!(
        kinds.contains(&json!("delivered")) && kinds.contains(&json!("seen")),
        "{recipient}"
    );
}

#[tokio::test]
async fn delivered_without_a_device_is_refused() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let position = ada.inbox().await["position"].clone();
    let answer = ada
        .post(
            "/v1/acks",
            &json!({"acks": [{"kind": "delivered", "position": position}]}),
        )
        .await;
    answer.problem(422, "invalid_request");
}

#[tokio::test]
async fn a_dismissal_leaves_the_inbox_on_every_device() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut browser = ada.stream("?device=browser").await;
    let mut app = ada.connect(json!({"device": "phone"})).await;
    api.ring(&user, "Build failed").await;
    let entry = browser.next().await.data["entry"]["id"].clone();

    ada.post(
        "/v1/acks",
        &json!({"device": "browser", "acks": [{"kind": "dismissed", "entry": entry}]}),
    )
    .await
    .expect(200);
    app.change().await;
    let (_, change) = app.change().await;
    assert_eq!(change["acknowledgement"]["kind"], "dismissed");
    assert_eq!(change["counts"], json!({"total": 0, "unread": 0, "unseen": 0}));
    assert_eq!(ada.inbox().await["data"], json!([]));
}

#[tokio::test]
async fn each_of_many_targets_gets_an_entry() {
    let api = shared().await.api().await;
    let users: Vec<_> = (0..60)
        .map(|number| user_name(&format!("user{number}")))
        .collect();
    let ada = api.user(&users[0]).await;
    let mut stream = ada.stream("").await;
    let targets: Vec<_> = users.iter().map(|user| json!({"user": user})).collect();
    let id = api
        .notify(json!({"targets": targets, "content": {"title": "All hands"}}))
        .await;
    assert_eq!(stream.next().await.data["entry"]["notification_id"], id);

    let mut named = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .get(&format!("/v1/notifications/{id}?limit=25{cursor}"))
            .await
            .expect(200);
        let recipients = page["recipients"]["data"].as_array().expect("recipients");
        assert!(recipients.len() <= 25);
        named.extend(
            recipients
                .iter()
                .map(|recipient| recipient["user"].as_str().expect("a user").to_owned()),
        );
        match page["recipients"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    named.sort();
    let mut expected = users;
    expected.sort();
    assert_eq!(named, expected);
}
