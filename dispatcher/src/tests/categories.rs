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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_category_is_made_replaced_listed_and_removed() {
    let node = node().await;
    let path = "/v1/categories/billing";
    let made = node
        .key(
            Method::PUT,
            path,
            json!({"title": "Invoices", "channels": ["in_app", "email"]}),
        )
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let replaced = node.key(Method::PUT, path, json!({"channels": ["email"]})).await;
    assert_eq!(
        (replaced.status.as_u16(), &replaced.body["title"]),
        (200, &Value::Null)
    );
    let shown = node.key(Method::GET, path, Value::Null).await;
    assert_eq!(shown.body["channels"], json!(["email"]));
    let listed = node.key(Method::GET, "/v1/categories", Value::Null).await;
    assert_eq!(listed.body["data"], json!([shown.body]));
    assert_eq!(node.key(Method::DELETE, path, Value::Null).await.status, 204);
    assert_eq!(node.key(Method::DELETE, path, Value::Null).await.status, 404);
    assert_eq!(node.key(Method::GET, path, Value::Null).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_category_is_told_with_pointers() {
    let node = node().await;
    let refused = node
        .key(
            Method::PUT,
            "/v1/categories/billing",
            json!({"title": "a\nb", "channels": ["email", "email", "fax", "E Mail"]}),
        )
        .await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.pointers(),
        ["/title", "/channels/1", "/channels/2", "/channels/3"]
    );
    for channels in [json!([]), json!(vec!["email"; 9])] {
        let refused = node
            .key(
                Method::PUT,
                "/v1/categories/billing",
                json!({"channels": channels}),
            )
            .await;
        assert_eq!(refused.pointers(), ["/channels"]);
    }
    let bad_name = node
        .key(
            Method::PUT,
            "/v1/categories/Big%20One",
            json!({"channels": ["email"]}),
        )
        .await;
    assert_eq!(bad_name.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn categories_need_their_scopes() {
    let node = node().await;
    let path = "/v1/categories/billing";
    let body = Some(json!({"channels": ["email"]}));
    let tenant = TenantId::default();
    let writer = key(&tenant, &[Scope::CategoriesWrite]);
    let reader = key(&tenant, &[Scope::NotificationsRead]);
    let refused = node
        .request(reader.clone(), Method::PUT, path, &[], body.clone())
        .await;
    assert_eq!(refused.status, 403);
    let made = node.request(writer.clone(), Method::PUT, path, &[], body).await;
    assert_eq!(made.status, 201);
    assert_eq!(
        node.request(writer, Method::GET, path, &[], None).await.status,
        403
    );
    assert_eq!(
        node.request(reader.clone(), Method::GET, path, &[], None)
            .await
            .status,
        200
    );
    assert_eq!(
        node.request(reader, Method::DELETE, path, &[], None).await.status,
        403
    );
}
