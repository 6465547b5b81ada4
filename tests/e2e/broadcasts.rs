//! One notification to many: topics' stored subscribers, segments; and what comes at its time.

use serde_json::{Value, json};

use super::in_millis;
use crate::harness::{Api, eventually, shared, user_name};

/// The titles in a user's inbox, once there are `count`.
async fn titles(user: &Api, count: usize) -> Vec<String> {
    eventually("entries in the inbox", || async {
        let inbox = user.inbox().await;
        let entries = inbox["data"].as_array().expect("entries");
        let title = |entry: &Value| entry["content"]["title"].as_str().expect("a title").to_owned();
        (entries.len() >= count).then(|| entries.iter().map(title).collect())
    })
    .await
}

async fn planned(api: &Api, id: &str) -> Value {
    eventually("the notification is planned", || async {
        let shown = api.notification(id).await;
        (shown["state"] == "planned").then_some(shown)
    })
    .await
}

#[tokio::test]
async fn a_topic_reaches_its_subscribers_and_who_listens() {
    let api = shared().await.api().await;
    let (topic, ada) = (user_name("room."), user_name("ada"));
    let path = format!("/v1/topics/{topic}/subscriptions/{ada}");
    api.put(&path, &json!({})).await.expect(204);
    let bob = json!({"user": user_name("bob"), "topics": {"subscribe": [topic], "publish": []}});
    let bob = api.user_with(bob).await;
    let mut stream = bob.stream(&format!("?topic={topic}")).await;
    let id = api
        .notify(json!({"targets": [{"topic": topic}], "content": {"title": "News"}}))
        .await;
    let heard = stream.next_named("publication").await;
    assert_eq!(heard.data["data"]["notification"]["id"], id, "{:?}", heard.data);
    let ada = api.user(&ada).await;
    assert_eq!(titles(&ada, 1).await, ["News"]);
    let shown = planned(&api, &id).await;
    assert_eq!(shown["broadcast"]["state"], "done", "{shown}");
    assert_eq!(shown["broadcast"]["planned"], 1);
    assert_eq!(
        bob.inbox().await["data"],
        json!([]),
        "he listens, and is not subscribed"
    );
}

#[tokio::test]
async fn a_segment_reaches_whom_it_holds_and_nobody_twice() {
    let api = shared().await.api().await;
    let (ada, bob, eve) = (user_name("ada"), user_name("bob"), user_name("eve"));
    let city = user_name("city");
    for (user, home) in [(&ada, city.as_str()), (&bob, "elsewhere"), (&eve, city.as_str())] {
        let profile = json!({"attributes": {"city": home}});
        api.put(&format!("/v1/users/{user}"), &profile).await;
    }
    let segment = user_name("s");
    let filter = json!({"filter": {"attribute": "city", "is": city}});
    api.put(&format!("/v1/segments/{segment}"), &filter)
        .await
        .expect(201);
    let id = api
        .notify(json!({"targets": [{"segment": segment}, {"user": ada}], "content": {"title": "We meet"}}))
        .await;
    let shown = planned(&api, &id).await;
    let mut reached: Vec<&str> = shown["recipients"]["data"]
        .as_array()
        .expect("recipients")
        .iter()
        .filter_map(|recipient| recipient["user"].as_str())
        .collect();
    reached.sort_unstable();
    assert_eq!(reached, [ada.as_str(), eve.as_str()]);
    assert_eq!(titles(&api.user(&eve).await, 1).await, ["We meet"]);
    let unknown = json!({"targets": [{"segment": user_name("no")}], "content": {"title": "t"}});
    let refused = api.post("/v1/notifications", &unknown).await;
    refused.problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/targets/0/segment"]);
}

#[tokio::test]
async fn a_schedule_sends_at_its_time_and_when_it_is_asked() {
    let api = shared().await.api().await;
    let (name, ada) = (user_name("s"), user_name("ada"));
    let schedule = json!({
        "at": in_millis(1_500),
        "notification": {"targets": [{"user": ada}], "content": {"title": "It is time"}}
    });
    api.put(&format!("/v1/schedules/{name}"), &schedule)
        .await
        .expect(201);
    let ran = api
        .post(&format!("/v1/schedules/{name}/run"), &json!({}))
        .await
        .expect(202);
    let ada = api.user(&ada).await;
    assert_eq!(titles(&ada, 2).await, ["It is time", "It is time"]);
    let shown = api.get(&format!("/v1/schedules/{name}")).await.expect(200);
    assert_eq!(shown["next_at"], Value::Null, "{shown}");
    let runs = shown["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2, "{shown}");
    assert!(
        runs.iter()
            .any(|run| run["manual"] == true && run["notification_id"] == ran["id"])
    );
    api.delete(&format!("/v1/schedules/{name}")).await.expect(204);
}
