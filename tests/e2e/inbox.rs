//! One user's inbox: states, filters, replacement, snooze.

use serde_json::{Value, json};

use crate::harness::{Api, Sse, shared, user_name};

struct Reader {
    api: Api,
    ada: Api,
    user: String,
    stream: Sse,
}

/// A user with an open stream.
async fn reader() -> Reader {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let stream = ada.stream("").await;
    Reader {
        api,
        ada,
        user,
        stream,
    }
}

impl Reader {
    /// Sends and answers the entry's id.
    async fn ring(&mut self, title: &str) -> String {
        self.api.ring(&self.user, title).await;
        self.entry().await
    }

    async fn entry(&mut self) -> String {
        let event = self.stream.next_named("added").await;
        event.data["entry"]["id"].as_str().expect("an id").to_owned()
    }

    async fn act(&self, entry: &str, verb: &str, body: Value) -> Value {
        self.ada
            .post(&format!("/v1/inbox/{entry}/{verb}"), &body)
            .await
            .expect(200)
    }

    async fn titles(&self, query: &str) -> Vec<String> {
        let page = self.ada.get(&format!("/v1/inbox{query}")).await.expect(200);
        page["data"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|entry| entry["content"]["title"].as_str().expect("a title").to_owned())
            .collect()
    }
}

#[tokio::test]
async fn states_change_once_and_are_counted() {
    let mut reader = reader().await;
    let entry = reader.ring("one").await;
    reader.ring("two").await;

    let seen = reader.act(&entry, "seen", json!({})).await;
    assert_eq!(seen["counts"], json!({"total": 2, "unread": 2, "unseen": 1}));
    let read = reader.act(&entry, "read", json!({})).await;
    assert_eq!(read["counts"], json!({"total": 2, "unread": 1, "unseen": 1}));
    // Twice changes nothing and writes nothing.
    assert_eq!(reader.act(&entry, "read", json!({})).await, read);

    let shown = reader.ada.get(&format!("/v1/inbox/{entry}")).await.expect(200);
    assert!(
        shown["seen_at"].is_string() && shown["read_at"].is_string(),
        "{shown}"
    );
    assert_eq!(shown["acknowledgement"]["kind"], "read");

    let unread = reader.act(&entry, "unread", json!({})).await;
    assert_eq!(unread["counts"], json!({"total": 2, "unread": 2, "unseen": 1}));
    let shown = reader.ada.get(&format!("/v1/inbox/{entry}")).await.expect(200);
    assert!(shown.get("read_at").is_none_or(Value::is_null), "{shown}");
    // Never an acknowledgement undone.
    assert_eq!(shown["acknowledgement"]["kind"], "read");

    let changes: Vec<_> = [
        reader.stream.next_named("state_changed").await,
        reader.stream.next_named("state_changed").await,
        reader.stream.next_named("state_changed").await,
    ]
    .iter()
    .map(|event| event.data["change"].clone())
    .collect();
    assert_eq!(changes, ["seen", "read", "unread"]);
    assert_eq!(
        reader.ada.get("/v1/inbox/counts").await.expect(200)["counts"],
        unread["counts"]
    );
}

#[tokio::test]
async fn archive_and_delete_acknowledge_as_dismissed() {
    let mut reader = reader().await;
    let archived = reader.ring("archived").await;
    let deleted = reader.ring("deleted").await;
    reader.ring("kept").await;

    reader.act(&archived, "archive", json!({})).await;
    let change = reader.stream.next_named("state_changed").await;
    assert_eq!(change.data["change"], "archived");
    assert_eq!(change.data["acknowledgement"]["kind"], "dismissed");

    reader
        .ada
        .delete(&format!("/v1/inbox/{deleted}?device=laptop"))
        .await
        .expect(200);
    let change = reader.stream.next_named("deleted").await;
    assert_eq!(change.data["entries"][0]["id"], deleted);
    assert_eq!(change.data["acknowledgement"]["kind"], "dismissed");
    assert_eq!(change.data["acknowledgement"]["device"], "laptop");

    assert_eq!(reader.titles("").await, ["kept"]);
    assert_eq!(reader.titles("?view=archived").await, ["archived"]);
    let mut all = reader.titles("?view=all").await;
    all.sort();
    assert_eq!(all, ["archived", "kept"]);
    reader
        .ada
        .get(&format!("/v1/inbox/{deleted}"))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn the_inbox_is_filtered_and_paged_newest_first() {
    let mut reader = reader().await;
    for number in 0..5 {
        let category = if number % 2 == 0 { "even" } else { "odd" };
        reader
            .api
            .notify(json!({"targets": [{"user": reader.user}], "category": category,
                "content": {"title": format!("{number}")}}))
            .await;
        let entry = reader.entry().await;
        if number < 2 {
            reader.act(&entry, "read", json!({})).await;
        }
    }
    assert_eq!(reader.titles("").await, ["4", "3", "2", "1", "0"]);
    assert_eq!(reader.titles("?unread=true").await, ["4", "3", "2"]);
    assert_eq!(reader.titles("?category=odd").await, ["3", "1"]);
    let page = reader.ada.get("/v1/inbox?limit=2").await.expect(200);
    assert_eq!(page["data"][1]["content"]["title"], "3");
    let next = page["next"].as_str().expect("a cursor");
    assert_eq!(
        reader.titles(&format!("?limit=2&cursor={next}")).await,
        ["2", "1"]
    );
}

#[tokio::test]
async fn a_collapse_key_replaces_the_open_entry() {
    let mut reader = reader().await;
    let body = |title: &str| json!({"targets": [{"user": reader.user}], "category": "ci", "collapse_key": "main", "content": {"title": title}});
    let (first_body, second_body) = (body("failed"), body("failed again"));
    let first = reader.api.notify(first_body).await;
    let added = reader.stream.next().await;
    let entry = added.data["entry"]["id"].as_str().expect("an id").to_owned();
    reader.act(&entry, "read", json!({})).await;
    reader.stream.next_named("state_changed").await;

    let second = reader.api.notify(second_body).await;
    let replaced = reader.stream.next().await;
    assert_eq!(replaced.event, "replaced");
    assert_eq!(replaced.data["entry"]["id"], entry);
    assert_eq!(replaced.data["entry"]["notification_id"], second);
    assert_eq!(replaced.data["superseded"], first);
    assert!(
        replaced.data["entry"].get("read_at").is_none(),
        "a replaced entry is unread: {replaced:?}"
    );
    assert_eq!(
        replaced.data["counts"],
        json!({"total": 1, "unread": 1, "unseen": 1})
    );
    assert_eq!(reader.titles("").await, ["failed again"]);

    let shown = reader.api.notification(&first).await;
    let old = &shown["recipients"]["data"][0];
    // It had been read: an acknowledgement is final, and the record is kept either way.
    assert!(
        old["state"] == "superseded" || old["state"] == "acknowledged",
        "{shown}"
    );
    assert_eq!(
        reader.api.notification(&second).await["recipients"]["data"][0]["state"],
        "open"
    );
}

#[tokio::test]
async fn an_unanswered_notification_that_is_replaced_ends_superseded() {
    let mut reader = reader().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(
            reader
                .api
                .notify(json!({"targets": [{"user": reader.user}], "collapse_key": "same",
                    "content": {"title": format!("{number}")}}))
                .await,
        );
    }
    reader.stream.next_named("added").await;
    reader.stream.next_named("replaced").await;
    reader.stream.next_named("replaced").await;
    for (id, state) in ids.iter().zip(["superseded", "superseded", "open"]) {
        let shown = reader.api.notification(id).await;
        assert_eq!(shown["recipients"]["data"][0]["state"], state, "{shown}");
    }
}

#[tokio::test]
async fn an_archived_or_deleted_entry_is_not_replaced_and_another_category_neither() {
    let mut reader = reader().await;
    for (category, then) in [
        ("a", Some("archive")),
        ("a", Some("delete")),
        ("a", None),
        ("b", None),
    ] {
        reader
            .api
            .notify(
                json!({"targets": [{"user": reader.user}], "category": category, "collapse_key": "same",
                "content": {"title": "x"}}),
            )
            .await;
        let entry = reader.entry().await;
        match then {
            Some("delete") => drop(reader.ada.delete(&format!("/v1/inbox/{entry}")).await.expect(200)),
            Some(verb) => drop(reader.act(&entry, verb, json!({})).await),
            None => {}
        }
    }
    assert_eq!(reader.titles("").await.len(), 2);
}

#[tokio::test]
async fn a_snoozed_entry_comes_back_when_its_time_comes() {
    let mut reader = reader().await;
    let entry = reader.ring("later").await;
    let until = super::schedule::in_millis(1_500);
    let snoozed = reader.act(&entry, "snooze", json!({"until": until})).await;
    assert_eq!(snoozed["counts"], json!({"total": 0, "unread": 0, "unseen": 0}));
    let change = reader.stream.next_named("state_changed").await;
    assert_eq!(change.data["change"], "snoozed");
    assert!(change.data["until"].is_string(), "{change:?}");
    assert_eq!(reader.titles("").await, Vec::<String>::new());
    assert_eq!(reader.titles("?view=snoozed").await, ["later"]);

    let change = reader.stream.next_named("state_changed").await;
    assert_eq!(change.data["change"], "unsnoozed");
    assert_eq!(change.data["counts"]["total"], 1);
    assert_eq!(reader.titles("").await, ["later"]);
}

#[tokio::test]
async fn a_snooze_needs_a_time_within_a_year() {
    let mut reader = reader().await;
    let entry = reader.ring("later").await;
    for body in [
        json!({}),
        json!({"until": "2999-01-01T00:00:00Z"}),
        json!({"until": "tomorrow"}),
    ] {
        let answer = reader.ada.post(&format!("/v1/inbox/{entry}/snooze"), &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), ["/until"], "{body}");
    }
}

#[tokio::test]
async fn read_all_reads_what_it_is_asked_to() {
    let mut reader = reader().await;
    for category in ["a", "b", "a"] {
        reader
            .api
            .notify(json!({"targets": [{"user": reader.user}], "category": category, "content": {"title": category}}))
            .await;
        reader.stream.next_named("added").await;
    }
    let before = reader.ada.inbox().await["position"].clone();
    reader.ring("later").await;

    let answer = reader
        .ada
        .post("/v1/inbox/read-all", &json!({"category": "a", "before": before}))
        .await
        .expect(200);
    assert_eq!(
        answer["counts"],
        json!({"total": 4, "unread": 2, "unseen": answer["counts"]["unseen"]})
    );
    let change = reader.stream.next_named("state_changed").await;
    assert_eq!(change.data["change"], "read");
    assert_eq!(change.data["entries"].as_array().map(Vec::len), Some(2));

    let answer = reader
        .ada
        .post("/v1/inbox/read-all", &json!({}))
        .await
        .expect(200);
    assert_eq!(answer["counts"]["unread"], 0);
    let again = reader
        .ada
        .post("/v1/inbox/read-all", &json!({}))
        .await
        .expect(200);
    assert_eq!(again["position"], answer["position"]);
}

#[tokio::test]
async fn an_unknown_entry_is_not_found() {
    let reader = reader().await;
    let stranger = "ent_0190d6a5c0de70008000000000000000";
    for path in [format!("/v1/inbox/{stranger}"), "/v1/inbox/nonsense".to_owned()] {
        reader.ada.get(&path).await.problem(404, "not_found");
        reader
            .ada
            .post(&format!("{path}/read"), &json!({}))
            .await
            .problem(404, "not_found");
        reader.ada.delete(&path).await.problem(404, "not_found");
    }
}
