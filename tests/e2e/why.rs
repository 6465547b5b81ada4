//! Why somebody was, or was not, notified; and how many were.

use serde_json::{Value, json};

use crate::harness::{Api, Start, eventually, shared, user_name};

fn texts(why: &Value) -> Vec<String> {
    let events = why["events"].as_array().expect("a list").iter();
    events
        .map(|event| event["text"].as_str().expect("a text").to_owned())
        .collect()
}

/// The user's first entry, once it is there.
async fn entry(user: &Api) -> Value {
    eventually("an entry", || async {
        user.inbox().await["data"].get(0).map(|entry| entry["id"].clone())
    })
    .await
}

async fn acknowledge(user: &Api, device: &str, kind: &str) {
    let acks = json!({"device": device, "acks": [{"kind": kind, "entry": entry(user).await}]});
    user.post("/v1/acks", &acks).await.expect(200);
}

#[tokio::test]
async fn why_is_told_by_the_api_and_by_the_command_line() {
    let server = shared().await;
    let api = server.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let plan = json!({"steps": [{"channels": ["in_app"], "deadline": 30}, {"channels": ["webhook"], "when": ["unseen"]}]});
    let id = api
        .notify(json!({"targets": [{"user": user}], "plan": plan, "content": {"title": "Build failed"}}))
        .await;
    acknowledge(&ada, "phone", "seen").await;
    acknowledge(&ada, "laptop", "dismissed").await;
    let path = format!("/v1/users/{user}/notifications/{id}/why");
    let told = api.get(&path).await.expect(200);
    let words = texts(&told);
    assert_eq!(
        words[..2],
        [
            "Accepted.",
            "Planned in 2 steps: 1. the inbox for 30 s; 2. webhook, if unseen."
        ]
    );
    for text in [
        "Put into the inbox, and pushed to every connected device.",
        "Seen on phone.",
        "Answered: dismissed on laptop. Nothing more is sent, and the other devices clear.",
    ] {
        assert!(words.iter().any(|word| word == text), "{words:?}");
    }
    let times: Vec<&str> = told["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|event| event["at"].as_str())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(
        ada.get(&path).await.expect(200)["events"],
        told["events"],
        "the user may read his own"
    );
    let eve = api.user(&user_name("eve")).await;
    eve.get(&path).await.problem(403, "forbidden");
    server
        .tenant("acme")
        .await
        .get(&path)
        .await
        .problem(404, "not_found");

    let printed = server.command(&["why", &id, "--user", &user]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{user}  acknowledged  {id}")),
        "{printed:?}"
    );
    assert!(lines[1].ends_with("accepted      Accepted."), "{printed:?}");
    assert!(
        lines.last().is_some_and(|line| *line == "now: Acknowledged."),
        "{printed:?}"
    );
    assert!(
        !printed.stdout.contains('\u{1b}'),
        "no colours where nobody looks"
    );
    let all = server.command(&["why", &id, "--json"]).await;
    let one: Value = serde_json::from_str(all.line()).expect("JSON");
    assert_eq!(one["events"], told["events"]);
    let unknown = server
        .command(&["why", "ntf_0190d6a5c0de70008000000000000000"])
        .await;
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
}

#[tokio::test]
async fn counts_are_the_same_after_the_process_was_killed() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let category = user_name("news");
    let mut users = Vec::new();
    for _ in 0..3 {
        let name = user_name("ada");
        let user = api.user(&name).await;
        api.notify(json!({"targets": [{"user": name}], "category": category, "content": {"title": "News"}}))
            .await;
        entry(&user).await;
        users.push(user);
    }
    acknowledge(&users[0], "phone", "seen").await;
    acknowledge(&users[0], "laptop", "seen").await;
    acknowledge(&users[0], "laptop", "clicked").await;
    acknowledge(&users[1], "phone", "dismissed").await;
    let query = format!("/v1/analytics?category={category}&group_by=category,channel");
    let before = api.get(&query).await.expect(200);
    let row = &before["data"][0];
    for (what, count) in [
        ("deliveries", 3),
        ("accepted", 3),
        ("seen", 1),
        ("clicked", 1),
        ("read", 1),
        ("dismissed", 1),
        ("skipped", 0),
    ] {
        assert_eq!(row[what], count, "{what}: {before}");
    }
    assert_eq!(
        (&row["category"], &row["channel"]),
        (&json!(category), &json!("in_app"))
    );
    server.kill();
    server.start_again().await;
    let after = server.api().await.get(&query).await.expect(200);
    assert_eq!(after["data"], before["data"]);
    let empty = format!("/v1/analytics?category={}", user_name("other"));
    let none = server.api().await.get(&empty).await.expect(200);
    assert_eq!((&none["data"], &none["next"]), (&json!([]), &Value::Null));
}
