//! Two tenants with the same names in them.

use serde_json::{Value, json};

use crate::harness::{shared, user_name};

#[tokio::test]
async fn tenants_share_nothing() {
    let server = shared().await;
    let (one, two) = (server.api().await, server.tenant("acme").await);
    let user = user_name("ada");
    let (ours, theirs) = (one.user(&user).await, two.user(&user).await);
    let (mut our_stream, mut their_stream) = (ours.stream("").await, theirs.stream("").await);
    let our_id = one.ring(&user, "ours").await;
    let their_id = two.ring(&user, "theirs").await;
    assert_eq!(our_stream.next().await.data["entry"]["content"]["title"], "ours");
    assert_eq!(
        their_stream.next().await.data["entry"]["content"]["title"],
        "theirs"
    );
    assert_eq!(ours.inbox().await["counts"]["total"], 1);
    assert_eq!(theirs.inbox().await["counts"]["total"], 1);

    // Another tenant's is exactly as absent as what never was.
    let body = |answer: &crate::harness::Answer| {
        let mut body = answer.problem(404, "not_found");
        for varies in ["trace_id", "instance"] {
            body.as_object_mut().expect("an object").remove(varies);
        }
        body
    };
    let foreign = body(&one.get(&format!("/v1/notifications/{their_id}")).await);
    let absent = body(
        &one.get("/v1/notifications/ntf_0190d6a5c0de70008000000000000000")
            .await,
    );
    assert_eq!(foreign, absent);
    two.post(&format!("/v1/notifications/{our_id}/cancel"), &json!({}))
        .await
        .problem(404, "not_found");
    let listed = two
        .get(&format!("/v1/notifications?user={user}"))
        .await
        .expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");

    let entry = ours.inbox().await["data"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    theirs
        .get(&format!("/v1/inbox/{entry}"))
        .await
        .problem(404, "not_found");
    let acked = theirs
        .post(
            "/v1/acks",
            &json!({"acks": [{"kind": "read", "entry": entry}, {"kind": "read", "notification": our_id}]}),
        )
        .await
        .expect(200);
    assert_eq!(
        acked["results"],
        json!([{"status": "not_found"}, {"status": "not_found"}])
    );
}

#[tokio::test]
async fn a_credential_counts_only_under_its_tenants_prefix() {
    let server = shared().await;
    let (one, two) = (server.api().await, server.tenant("initech").await);
    let user = user_name("ada");
    let (ours, theirs) = (one.user(&user).await, two.user(&user).await);
    for (caller, prefix) in [
        (&ours, "/t/initech"),
        (&theirs, ""),
        (&theirs, "/t/acme"),
        (&theirs, "/t/default"),
    ] {
        let answer = caller.under(prefix).get("/v1/inbox").await;
        answer.problem(401, "invalid_token");
    }
    for (caller, prefix) in [(&one, "/t/initech"), (&two, ""), (&two, "/t/nobody")] {
        let answer = caller.under(prefix).get("/v1/notifications").await;
        assert!(matches!(answer.status.as_u16(), 401 | 403), "{answer:?}");
    }
    // The default tenant has a prefix too.
    one.under("/t/default").get("/v1/notifications").await.expect(200);
    ours.under("/t/default").get("/v1/inbox").await.expect(200);
    // No header chooses a tenant.
    let request = one
        .request(reqwest::Method::GET, "/v1/notifications?limit=1")
        .header("x-tenant", "initech")
        .header("x-tenant-id", "initech");
    one.send(request).await.expect(200);
}

#[tokio::test]
async fn topics_are_private_to_their_tenant() {
    let server = shared().await;
    let (one, two) = (server.api().await, server.tenant("globex").await);
    let topic = user_name("room.");
    let grants = json!({"user": "ada", "topics": {"subscribe": ["*"]}});
    let (ours, theirs) = (one.user_with(grants.clone()).await, two.user_with(grants).await);
    let mut our_stream = ours.stream(&format!("?topic={topic}")).await;
    let mut their_stream = theirs.stream(&format!("?topic={topic}")).await;
    let publish = |data: Value| json!({"publications": [{"data": data}]});
    let path = format!("/v1/topics/{topic}/publish");
    let our_position = one.post(&path, &publish(json!("ours"))).await.expect(200);
    let their_position = two.post(&path, &publish(json!("theirs"))).await.expect(200);
    assert_ne!(our_position, their_position);
    assert_eq!(our_stream.next_named("publication").await.data["data"], "ours");
    assert_eq!(
        their_stream.next_named("publication").await.data["data"],
        "theirs"
    );
}
