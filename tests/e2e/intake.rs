//! What is accepted, shown and listed.

use serde_json::{Value, json};

use crate::harness::{eventually, listed, shared, user_name};

#[tokio::test]
async fn a_batch_is_accepted_whole_and_in_order() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut stream = ada.stream("").await;
    let notifications: Vec<_> = (0..250)
        .map(|number| json!({"targets": [{"user": user}], "content": {"title": format!("number {number}")}}))
        .collect();
    let accepted = api
        .post(
            "/v1/notifications/batch",
            &json!({"notifications": notifications}),
        )
        .await
        .expect(202);
    let ids: Vec<_> = accepted["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            assert_eq!(item["state"], "accepted");
            item["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 250);
    for (number, id) in ids.iter().enumerate() {
        let event = stream.next().await;
        assert_eq!(event.seq(), 1 + number as u64);
        assert_eq!(
            event.data["entry"]["content"]["title"],
            format!("number {number}")
        );
        assert_eq!(event.data["entry"]["notification_id"], *id);
    }
}

#[tokio::test]
async fn one_bad_item_refuses_the_whole_batch_and_is_named() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let good = json!({"targets": [{"user": user}], "content": {"title": "good"}});
    let no_title = json!({"targets": [{"user": user}], "content": {"title": ""}});
    let bad_ttl = json!({"targets": [{"user": user}], "content": {"title": "bad"}, "ttl": 0});
    let answer = api
        .post(
            "/v1/notifications/batch",
            &json!({"notifications": [good, no_title, good, bad_ttl]}),
        )
        .await;
    answer.problem(422, "invalid_request");
    let pointers = answer.pointers();
    assert!(
        pointers.contains(&"/notifications/1/content/title".to_owned()),
        "{pointers:?}"
    );
    assert!(
        pointers.contains(&"/notifications/3/ttl".to_owned()),
        "{pointers:?}"
    );
    assert_eq!(pointers.len(), 2, "{pointers:?}");

    // A marker that goes the same way afterwards is the first thing that arrives.
    let ada = api.user(&user).await;
    let mut stream = ada.stream("?last_event_id=earliest").await;
    api.ring(&user, "marker").await;
    assert_eq!(stream.next().await.data["entry"]["content"]["title"], "marker");
    let listed = api
        .get(&format!("/v1/notifications?user={user}"))
        .await
        .expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn a_batch_has_between_one_and_a_thousand_items() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let item = json!({"targets": [{"user": user}], "content": {"title": "x"}});
    let empty = api
        .post("/v1/notifications/batch", &json!({"notifications": []}))
        .await;
    empty.problem(422, "invalid_request");
    assert_eq!(empty.pointers(), ["/notifications"]);
    let many: Vec<_> = (0..1_001).map(|_| item.clone()).collect();
    let answer = api
        .post("/v1/notifications/batch", &json!({"notifications": many}))
        .await;
    answer.problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/notifications"]);
    let thousand: Vec<_> = (0..1_000).map(|_| item.clone()).collect();
    let accepted = api
        .post("/v1/notifications/batch", &json!({"notifications": thousand}))
        .await
        .expect(202);
    assert_eq!(accepted["data"].as_array().map(Vec::len), Some(1_000));
    let ada = api.user(&user).await;
    eventually("a thousand entries", || async {
        (ada.get("/v1/inbox/counts").await.expect(200)["counts"]["total"] == 1_000).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_notification_is_shown_as_it_was_sent() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let content = json!({
        "title": "Build failed", "body": "main is red", "url": "https://ci.example/1", "icon": "https://ci.example/icon.png",
        "actions": [{"id": "retry", "title": "Retry", "url": "https://ci.example/retry"}],
        "data": {"build": 1, "nested": {"list": [1, 2.5, null, "ü"]}},
    });
    let id = api
        .notify(json!({
            "targets": [{"user": user}], "category": "ci", "content": content, "priority": "high",
            "collapse_key": "build-main", "ttl": 60, "send_at": "2020-01-01T00:00:00+01:00",
        }))
        .await;
    assert!(id.starts_with("ntf_"), "{id}");
    let shown = eventually("the plan", || async {
        let shown = api.notification(&id).await;
        (shown["state"] == "planned").then_some(shown)
    })
    .await;
    assert_eq!(shown["content"], content);
    assert_eq!(shown["category"], "ci");
    assert_eq!(shown["priority"], "high");
    assert_eq!(shown["collapse_key"], "build-main");
    assert_eq!(shown["targets"], json!([{"user": user}]));
    for time in ["created_at", "send_at", "expires_at"] {
        let text = shown[time].as_str().unwrap_or_else(|| panic!("{time}: {shown}"));
        assert!(
            text.ends_with('Z') || text.ends_with("+00:00"),
            "{time} is not in UTC: {text}"
        );
    }
}

#[tokio::test]
async fn notifications_are_listed_newest_first_by_cursor_and_filter() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let mut ids = Vec::new();
    for number in 0..7 {
        let category = if number % 2 == 0 { "even" } else { "odd" };
        ids.push(
            api.notify(json!({"targets": [{"user": user}], "category": category, "content": {"title": "x"}}))
                .await,
        );
    }
    ids.reverse();
    // The filter finds who was planned for.
    listed(&api, &user, 7).await;
    let mut listed: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .get(&format!("/v1/notifications?user={user}&limit=3{cursor}"))
            .await
            .expect(200);
        let data = page["data"].as_array().expect("a list");
        assert!(data.len() <= 3);
        assert!(data.iter().all(|item| item.get("recipients").is_none()), "{page}");
        listed.extend(
            data.iter()
                .map(|item| item["id"].as_str().expect("an id").to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let odd = api
        .get(&format!("/v1/notifications?user={user}&category=odd"))
        .await
        .expect(200);
    let odd: Vec<&Value> = odd["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| &item["category"])
        .collect();
    assert_eq!(odd, [&json!("odd"); 3]);
}
