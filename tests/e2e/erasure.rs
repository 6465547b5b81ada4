//! A person is erased everywhere.

use serde_json::json;

use crate::harness::{eventually, shared, user_name};

#[tokio::test]
async fn an_erased_user_leaves_nothing_and_every_connection_ends() {
    let server = shared().await;
    let api = server.api().await;
    let (ada_name, bob_name) = (user_name("ada"), user_name("bob"));
    let (ada, bob) = (api.user(&ada_name).await, api.user(&bob_name).await);
    let mut stream = ada.stream("?device=laptop").await;
    let mut socket = ada.connect(json!({})).await;
    let id = api
        .notify(json!({"targets": [{"user": ada_name}, {"user": bob_name}], "content": {"title": "both"}}))
        .await;
    stream.next().await;
    socket.change().await;

    api.delete(&format!("/v1/users/{ada_name}")).await.expect(202);
    stream.rest().await;
    socket.closed().await;
    eventually("the erasure", || async {
        let shown = api.notification(&id).await;
        let text = shown.to_string();
        let recipients = shown["recipients"]["data"].as_array().expect("recipients");
        let erased = recipients
            .iter()
            .filter(|recipient| recipient["state"] == "erased")
            .count();
        (erased == 1 && !text.contains(&ada_name)).then_some(())
    })
    .await;
    assert!(matches!(ada.get("/v1/inbox").await.status.as_u16(), 401 | 204));
    assert_eq!(bob.inbox().await["counts"]["total"], 1);

    // The name may come back; it is somebody new.
    let again = eventually("a new person", || async {
        let again = api.user(&ada_name).await;
        (again.get("/v1/inbox").await.status == 200).then_some(again)
    })
    .await;
    let inbox = again.inbox().await;
    assert_eq!(inbox["data"], json!([]));
    let mut stream = again.stream("").await;
    api.ring(&ada_name, "hello").await;
    assert_eq!(stream.next().await.data["entry"]["content"]["title"], "hello");
}

#[tokio::test]
async fn erasing_twice_and_erasing_nobody_are_fine() {
    let api = shared().await.api().await;
    let name = user_name("nobody");
    for _ in 0..2 {
        let answer = api.delete(&format!("/v1/users/{name}")).await;
        assert!(matches!(answer.status.as_u16(), 202 | 404), "{answer:?}");
    }
}
