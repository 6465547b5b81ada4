use carillon_domain::{TenantId, UserId, ports::Profile};
use http::Method;
use serde_json::{Value, json};

use super::{node::Node, preferences::node};
use crate::store::Erasure;

/// Somebody with a link to the page.
struct Reader {
    node: Node,
    user: UserId,
    path: String,
}

async fn reader() -> Reader {
    let node = node().await;
    let profile = Profile {
        zone: Some("Europe/Berlin".into()),
        ..Profile::default()
    };
    node.names.describe("ada", profile);
    let user = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    let digests = json!([{"name": "daily", "window": {"cron": "0 9 * * *"}}]);
    for (name, body) in [
        (
            "news",
            json!({"title": "News & <views>", "channels": ["email", "sms"], "policy": {"digests": digests}}),
        ),
        (
            "bills",
            json!({"channels": ["email"], "policy": {"may_turn_off": false}}),
        ),
        ("codes", json!({"channels": ["sms"], "critical": true})),
    ] {
        let answer = node
            .key(Method::PUT, &format!("/v1/categories/{name}"), body)
            .await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }
    let links = node.dispatcher.links.clone().expect("signs");
    let link = links.preferences(&TenantId::default(), user).expect("a link");
    let path = link
        .strip_prefix("https://bell.example.org")
        .expect("ours")
        .to_owned();
    Reader { node, user, path }
}

impl Reader {
    async fn look(&self) -> String {
        let answer = self.node.click(Method::GET, &self.path, "").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        String::from_utf8(answer.bytes.to_vec()).expect("text")
    }

    async fn save(&self, form: &'static str) {
        let answer = self.node.click(Method::POST, &self.path, form).await;
        assert_eq!(answer.status, 303, "{:?}", answer.body);
        assert_eq!(answer.headers["location"], "?saved=true");
    }

    async fn rows(&self) -> Value {
        let path = "/v1/users/ada/preferences";
        let mut rows = self.node.key(Method::GET, path, Value::Null).await.body["preferences"].clone();
        for row in rows.as_array_mut().expect("a list") {
            row.as_object_mut().expect("an object").remove("at");
        }
        rows
    }

    async fn windows(&self) -> Value {
        let path = "/v1/users/ada/quiet-hours";
        self.node.key(Method::GET, path, Value::Null).await.body["windows"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_holds_and_looking_changes_nothing() {
    let reader = reader().await;
    let page = reader.look().await;
    for shown in [
        "News &amp; &lt;views&gt;",
        r#"name="on:news:email" value="on" checked>"#,
        r#"<option value="immediate" selected>At once</option><option value="daily">Daily digest</option>"#,
        "Cannot be turned off.",
        "Important: comes at once",
        "Europe/Berlin</strong>, where it is 04:04 on Friday",
    ] {
        assert!(page.contains(shown), "{shown} is missing: {page}");
    }
    for hidden in [
        "name=\"on:bills:email\"",
        "name=\"on:codes:sms\"",
        "<views>",
        "<script",
        "carillon.verification",
    ] {
        assert!(!page.contains(hidden), "{hidden} stands in {page}");
    }
    let answer = reader.node.click(Method::GET, &reader.path, "").await;
    let policy = answer.headers["content-security-policy"].to_str().expect("text");
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("form-action 'self'"),
        "{policy}"
    );
    assert_eq!(answer.headers["x-robots-tag"], "noindex");
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(
        (reader.rows().await, reader.windows().await),
        (json!([]), json!([]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_saved_is_what_differs_from_what_holds() {
    let reader = reader().await;
    reader
        .save(
            "on:news:email=off&on:news:sms=off&on:news:sms=on&digest:news=daily&on:bills:email=off&on:other:email=off\
             &quiet:0:start=22%3A00&quiet:0:end=07%3A00&quiet:0:day=mon&quiet:0:day=tue",
        )
        .await;
    assert_eq!(
        reader.rows().await,
        json!([
            {"category": "news", "channel": null, "enabled": null, "digest": "daily"},
            {"category": "news", "channel": "email", "enabled": false, "digest": null},
        ])
    );
    let night = json!([{"days": ["mon", "tue"], "start": "22:00", "end": "07:00"}]);
    assert_eq!(reader.windows().await, night);
    let page = reader.look().await;
    assert!(
        page.contains(r#"name="on:news:email" value="on"></label>"#),
        "{page}"
    );
    assert!(page.contains(r#"<option value="daily" selected>"#), "{page}");
    assert!(page.contains("Quiet from 22:00 to 07:00"), "{page}");
    // A form without quiet hours leaves them; one whose times are cleared removes them.
    reader
        .save("on:news:email=off&on:news:email=on&digest:news=weekly")
        .await;
    assert_eq!(reader.windows().await, night);
    reader.save("quiet:0:start=&quiet:0:end=&quiet:0:day=mon").await;
    assert_eq!(reader.windows().await, json!([]));
    assert_eq!(
        reader.rows().await,
        json!([
            {"category": "news", "channel": null, "enabled": null, "digest": "daily"},
            {"category": "news", "channel": "email", "enabled": true, "digest": null},
        ])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_often_is_what_holds_over_the_channels_and_saving_changes_that() {
    let reader = reader().await;
    let prefer = async |path: &str| {
        let path = format!("/v1/users/ada/preferences/{path}");
        let answer = reader
            .node
            .key(Method::PUT, &path, json!({"digest": "daily"}))
            .await;
        assert!(answer.status.is_success(), "{:?}", answer.body);
    };
    prefer("news/email").await;
    let page = reader.look().await;
    assert!(
        page.contains(r#"<option value="" selected>Differs by channel"#),
        "{page}"
    );
    reader.save("digest:news=").await;
    prefer("*/sms").await;
    let page = reader.look().await;
    assert!(page.contains(r#"<option value="daily" selected>"#), "{page}");
    reader.save("digest:news=daily").await;
    assert_eq!(
        reader.rows().await.as_array().map(Vec::len),
        Some(2),
        "nothing changed"
    );
    reader.save("digest:news=immediate").await;
    let page = reader.look().await;
    assert!(page.contains(r#"<option value="immediate" selected>"#), "{page}");
    assert_eq!(
        reader.rows().await,
        json!([
            {"category": null, "channel": "sms", "enabled": null, "digest": "daily"},
            {"category": "news", "channel": null, "enabled": null, "digest": "immediate"},
            {"category": "news", "channel": "email", "enabled": null, "digest": "immediate"},
            {"category": "news", "channel": "sms", "enabled": null, "digest": "immediate"},
        ])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_shown_beside_what_was_filled_in_and_nothing_is_saved() {
    let reader = reader().await;
    let form = "on:news:email=off&quiet:0:start=22%3A00&quiet:0:end=&quiet:0:day=mon";
    let answer = reader.node.click(Method::POST, &reader.path, form).await;
    assert_eq!(answer.status, 422);
    let page = String::from_utf8(answer.bytes.to_vec()).expect("text");
    for shown in [
        "role=\"alert\"",
        "Give both a start and an end.",
        r#"value="22:00" aria-invalid="true" aria-describedby="fault-0""#,
        r#"name="on:news:email" value="on"></label>"#,
    ] {
        assert!(page.contains(shown), "{shown} is missing: {page}");
    }
    assert_eq!(
        (reader.rows().await, reader.windows().await),
        (json!([]), json!([]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_link_of_somebody_who_is_there_opens_a_page() {
    let reader = reader().await;
    let forged = reader.path.replace("usr_0", "usr_1");
    let elsewhere = reader.path.replace("/v1/preferences/", "/v1/unsubscribe/");
    for path in [
        forged.as_str(),
        elsewhere.as_str(),
        &reader.path[..reader.path.len() - 1],
    ] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(
                reader.node.click(method, path, "on:news:email=off").await.status,
                404,
                "{path}"
            );
        }
    }
    let erasure = Erasure {
        tenant: TenantId::default(),
        user: reader.user,
        name: None,
    };
    let node = &reader.node;
    node.dispatcher
        .store
        .erase(node.now(), &erasure)
        .await
        .expect("erases");
    let late = node.click(Method::POST, &reader.path, "on:news:email=off").await;
    assert_eq!(late.status, 404);
    assert_eq!(reader.rows().await, json!([]));
}
