//! Events in from tools: the payload that a tool sends, with the credential that it can send.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{secret, shared, user_name};

const SECRET: &str = "canary-of-a-source-9f2b6c";

fn alerts(user: &str, status: &str) -> Value {
    json!({
        "receiver": "carillon", "status": status, "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alerts.example:9093",
        "alerts": [{
            "status": status, "labels": {"alertname": "DiskFull", "severity": "critical"},
            "annotations": {"summary": "The disk is full"}, "generatorURL": "http://prometheus.example:9090/graph",
            "startsAt": "2026-01-02T03:04:05Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": format!("f-{user}")
        }]
    })
}

#[tokio::test]
async fn a_resolution_takes_the_place_of_its_alert_on_the_screen() {
    secret("source secret", SECRET);
    let api = shared().await.api().await;
    let user = user_name("ada");
    let mut stream = api.user(&user).await.stream("").await;
    let source = user_name("alerts");
    let request = json!({"kind": "alertmanager", "targets": [{"user": user}], "secret": SECRET});
    let put = api.request(Method::PUT, &format!("/v1/sources/{source}"));
    let made = api.send(put.json(&request)).await;
    assert_eq!(made.expect(201)["has_secret"], true);
    assert!(!made.text.contains(SECRET));

    let path = format!("/v1/in/{source}");
    let tool = api.with(SECRET);
    let first = tool.post(&path, &alerts(&user, "firing")).await.expect(202);
    let added = stream.next().await;
    assert_eq!(added.event, "added");
    let entry = &added.data["entry"];
    assert_eq!(entry["notification_id"], first["data"][0]["id"]);
    assert_eq!(entry["content"]["title"], "The disk is full");
    assert_eq!(entry["category"], source);

    let again = tool.post(&path, &alerts(&user, "firing")).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202)["data"], first["data"]);

    tool.post(&path, &alerts(&user, "resolved")).await.expect(202);
    let replaced = stream.next().await;
    assert_eq!(replaced.event, "replaced");
    assert_eq!(replaced.data["entry"]["id"], entry["id"]);
    assert_eq!(
        replaced.data["entry"]["content"]["title"],
        "Resolved: The disk is full"
    );

    api.with("wrong")
        .post(&path, &json!({}))
        .await
        .problem(401, "invalid_token");
    let nobody = tool.post("/v1/in/no-such-source", &json!({})).await;
    nobody.problem(401, "invalid_token");
    let unfit = tool.post(&path, &json!({"alerts": "x"})).await;
    unfit.problem(422, "invalid_request");
    assert_eq!(unfit.pointers(), ["/alerts"]);
    let other = api.send(
        tool.bare(Method::POST, &path)
            .body("alerts")
            .header("x-carillon-token", SECRET),
    );
    other.await.problem(415, "unsupported_media_type");
    let mut large = alerts(&user, "firing");
    large["more"] = "x".repeat(2 * 1024 * 1024).into();
    tool.post(&path, &large).await.problem(413, "too_large");
    let basic = tool
        .bare(Method::POST, &path)
        .basic_auth("alertmanager", Some(SECRET));
    api.send(basic.json(&alerts(&user, "resolved"))).await.expect(202);
}

#[tokio::test]
async fn a_bounce_of_no_delivery_of_ours_tells_nothing() {
    let api = shared().await.api().await;
    let dsn = "From: MAILER-DAEMON@mx.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; \
        report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
        Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; ada@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
        --b--\r\n";
    let post = |kind: &'static str, body: &'static str| {
        let request = api
            .request(Method::POST, "/v1/in/dsn")
            .header("content-type", kind);
        api.send(request.body(body))
    };
    let whole = post("message/rfc822", dsn).await.expect(200);
    assert_eq!(
        whole,
        json!({"data": [], "ignored": ["it does not say which delivery"]})
    );
    let (_, body) = dsn.split_once("\r\n\r\n").expect("a head");
    let alone = post("multipart/report; report-type=delivery-status; boundary=b", body);
    assert_eq!(alone.await.expect(200), whole);
    post("message/rfc822", "Subject: hello\r\n\r\nhello")
        .await
        .problem(422, "invalid_request");
}
