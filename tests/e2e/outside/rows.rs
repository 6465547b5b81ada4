use serde_json::json;

use super::{Outside, plain};
use crate::harness::{MailReply, eventually};

#[tokio::test]
async fn rows_that_contradict_each_other_are_found() {
    let mut outside = Outside::start().await;
    let to = "ada@example.net";
    outside
        .relay
        .script(to, [MailReply::Refuse("451 4.2.0 try again")]);
    outside
        .api
        .notify(json!({"targets": plain("email", to), "content": {"title": "It waits"}}))
        .await;
    eventually("an attempt", || async {
        (outside.relay.tried(to) >= 1).then_some(())
    })
    .await;
    assert_eq!(outside.server.violations().await, Vec::<String>::new());
    outside.server.spoil("DELETE FROM delivery_queue").await;
    let found = outside.server.violations().await;
    assert!(
        found
            .iter()
            .any(|what| what.starts_with("pending, and nothing will try it")),
        "{found:?}"
    );
}
