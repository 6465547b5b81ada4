use std::sync::Arc;

use carillon_domain::{Capabilities, Scope, TenantId};
use carillon_testkit::RecordingChannel;
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, key};

async fn node() -> Node {
    Node::with(Setup {
        channels: vec![Arc::new(RecordingChannel::new("email", Capabilities::default()))],
        ..Setup::default()
    })
    .await
}

fn welcome(title: &str) -> Value {
    json!({
        "default_locale": "en",
        "locales": {
            "en": {"subject": "Welcome, {{ name }}", "in_app": {"title": title}},
            "de": {"in_app": {"title": "Hallo {{ name }}"}},
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_has_versions_that_are_previewed_and_sent() {
    let node = node().await;
    let path = "/v1/templates/welcome";
    let made = node.key(Method::PUT, path, welcome("Hello {{ name }}")).await;
    assert_eq!(made.body, json!({"name": "welcome", "version": 1}));
    let request = json!({
        "targets": [{"user": "ada"}], "template": {"name": "welcome"}, "data": {"name": "Ada"},
    });
    let first = node.send(request.clone()).await;
    assert_eq!(
        node.key(Method::PUT, path, welcome("Hi {{ name }}")).await.body["version"],
        2
    );
    let second = node.send(request.clone()).await;
    for (id, title, version) in [(first, "Hello Ada", 1), (second, "Hi Ada", 2)] {
        let shown = node.show(&id).await;
        assert_eq!(shown["content"]["title"], title);
        assert_eq!(shown["template"], json!({"name": "welcome", "version": version}));
    }
    let preview = json!({"data": {"name": "Ada"}, "locale": "de-AT"});
    let previewed = node
        .key(Method::POST, "/v1/templates/welcome/preview", preview)
        .await;
    assert_eq!(
        previewed.body,
        json!({"locale": "de", "version": 2, "content": {"title": "Hallo Ada"}, "forms": {}})
    );
    let shown = node
        .key(Method::GET, "/v1/templates/welcome?version=1", Value::Null)
        .await;
    assert_eq!(shown.body["locales"]["en"]["in_app"]["title"], "Hello {{ name }}");
    assert_eq!(shown.body["versions"], json!([2, 1]));
    let listed = node.key(Method::GET, "/v1/templates", Value::Null).await;
    assert_eq!(listed.body["data"][0]["name"], "welcome");
    assert_eq!(node.key(Method::DELETE, path, Value::Null).await.status, 204);
    let refused = node.key(Method::POST, "/v1/notifications", request).await;
    assert_eq!(refused.pointers(), ["/template/name"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_template_is_told_with_pointers() {
    let node = node().await;
    let refused = node
        .key(
            Method::PUT,
            "/v1/templates/welcome",
            json!({"default_locale": "fr", "locales": {
                "en": {"html": "{{ x", "in_app": {"title": "}}"}},
                "e/n~x": {"in_app": {"title": "t"}},
            }}),
        )
        .await;
    assert_eq!(
        refused.pointers(),
        [
            "/default_locale",
            "/locales/e~1n~0x",
            "/locales/en/in_app/title",
            "/locales/en/html"
        ]
    );
    let tenant = TenantId::default();
    let reader = key(&tenant, &[Scope::NotificationsRead]);
    let body = Some(welcome("x"));
    let forbidden = node
        .request(reader, Method::PUT, "/v1/templates/welcome", &[], body)
        .await;
    assert_eq!(forbidden.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_content_or_a_template_that_renders() {
    let node = node().await;
    node.key(Method::PUT, "/v1/templates/welcome", welcome("Hello {{ name }}"))
        .await;
    let targets = json!([{"user": "ada"}]);
    for (rest, pointer) in [
        (json!({}), "/content"),
        (
            json!({"content": {"title": "t"}, "template": {"name": "welcome"}}),
            "/template",
        ),
        (json!({"content": {"title": "t"}, "data": {}}), "/data"),
        (json!({"template": {"name": "nothing"}}), "/template/name"),
        (json!({"template": {"name": "Big One"}}), "/template/name"),
        (json!({"template": {"name": "welcome"}, "data": {}}), "/data"),
        (
            json!({"template": {"name": "welcome"}, "data": {"name": "x".repeat(40_000)}}),
            "/data",
        ),
    ] {
        let mut request = rest.clone();
        request["targets"] = targets.clone();
        let refused = node.key(Method::POST, "/v1/notifications", request.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.pointers()),
            (422, vec![pointer]),
            "{rest}"
        );
        let batch = json!({"notifications": [request]});
        let refused = node.key(Method::POST, "/v1/notifications/batch", batch).await;
        assert_eq!(
            refused.pointers(),
            [format!("/notifications/0{pointer}")],
            "{rest}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_and_plain_addresses_are_checked_when_they_are_accepted() {
    let node = node().await;
    let refused = node
        .key(
            Method::POST,
            "/v1/notifications",
            json!({
                "content": {"title": "t"}, "channels": ["email", "fax"],
                "targets": [
                    {"address": {"channel": "email", "to": "ada@example.org"}},
                    {"address": {"channel": "email", "to": "Ada@Example.org"}},
                    {"address": {"channel": "email", "to": "nobody"}},
                    {"address": {"channel": "fax", "to": "1"}},
                    {"address": {"channel": "in_app", "to": "inbox"}},
                    {"user": "ada", "address": {"channel": "email", "to": "ada@example.org"}},
                ],
            }),
        )
        .await;
    let mut pointers = refused.pointers();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/channels/1",
            "/targets/1",
            "/targets/2/address/to",
            "/targets/3/address/channel",
            "/targets/4/address/channel",
            "/targets/5",
        ]
    );
    let sent = node
        .send(json!({
            "content": {"title": "t"},
            "targets": [{"address": {"channel": "email", "to": "Ada@Example.org"}}],
        }))
        .await;
    assert_eq!(
        node.show(&sent).await["targets"],
        json!([{"address": {"channel": "email", "to": "ada@example.org"}}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_has_the_links_that_are_the_recipient_s_own() {
    let email = Arc::new(RecordingChannel::new("email", Capabilities::default()));
    let node = Node::with(Setup {
        channels: vec![email.clone()],
        ..Setup::default()
    })
    .await;
    let template = json!({"default_locale": "en", "locales": {"en": {
        "html": "<a href=\"{{ carillon.unsubscribe_url }}\">off</a> {{ carillon.preferences_url }}",
        "in_app": {"title": "Hello{{ carillon.unsubscribe_url }}"},
    }}});
    node.key(Method::PUT, "/v1/templates/welcome", template).await;
    let previewed = node
        .key(Method::POST, "/v1/templates/welcome/preview", json!({"data": {}}))
        .await;
    let html = previewed.body["forms"]["html"].as_str().expect("a form");
    assert!(
        html.contains("https://carillon.invalid/v1/unsubscribe/"),
        "{html}"
    );
    let id = node
        .send(json!({
            "targets": [{"address": {"channel": "email", "to": "ada@example.org"}}],
            "template": {"name": "welcome"}, "data": {"carillon": {"unsubscribe_url": "mine"}},
        }))
        .await;
    assert_eq!(node.show(&id).await["content"]["title"], "Hello", "nobody's own");
    let works = email.until(1).await;
    let carillon_domain::ports::Message::Notification(message) = &works[0].message else {
        panic!("a notification");
    };
    let (off, choose) = (
        message.unsubscribe.as_deref().expect("a link"),
        message.preferences.as_deref().expect("a link"),
    );
    let html = format!("<a href=\"{off}\">off</a> {choose}");
    assert_eq!(message.forms.html.as_deref(), Some(html.as_str()));
}
