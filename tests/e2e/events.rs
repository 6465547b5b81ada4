//! Domain events: CloudEvents over HTTP in its three modes, with the specification's own examples, and the rules that make
//! notifications of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, eventually, shared, user_name};

async fn hand_in(api: &Api, headers: &[(&str, &str)], body: String) -> Answer {
    let request = api.request(Method::POST, "/v1/events").body(body);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    api.send(request).await
}

/// The event, once all rules saw it.
async fn done(api: &Api, id: &Value) -> Value {
    let path = format!("/v1/events/{}", id.as_str().expect("an id"));
    eventually("rules see the event", || async {
        let event = api.get(&path).await.expect(200);
        (event["state"] == "done").then_some(event)
    })
    .await
}

/// As in the JSON format's example; the id is the test's own, since a source and id are taken once.
fn example(id: &str) -> Value {
    json!({
        "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null, "id": id,
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "datacontenttype": "application/json", "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}
    })
}

#[tokio::test]
async fn the_specification_s_examples_are_taken_in_all_three_modes() {
    let api = shared().await.api().await;
    let own = |id: &str| user_name(id);

    let structured = example(&own("C234-1234-1234"));
    let kind = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let taken = hand_in(&api, &kind, structured.to_string()).await.expect(202);
    let shown = done(&api, &taken["id"]).await;
    let mut expected = structured;
    expected.as_object_mut().expect("an object").remove("subject");
    assert_eq!(shown["event"], expected, "null is absent");

    let id = own("1234-1234-1234");
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-id", id.as_str()),
        ("ce-source", "/mycontext/subcontext"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let taken = hand_in(&api, &headers, r#"{"appinfoA": "abc"}"#.to_owned()).await;
    let shown = done(&api, &taken.expect(202)["id"]).await;
    assert_eq!(shown["event"]["data"], json!({"appinfoA": "abc"}));
    assert_eq!(shown["event"]["subject"], "Euro \u{20ac} \u{1f600}");
    assert_eq!(
        shown["event"]["datacontenttype"],
        "application/json; charset=utf-8"
    );
    let xml = own("B234-1234-1234");
    let mut binary = headers;
    (binary[3].1, binary[6].1) = (&xml, "application/xml");
    let taken = hand_in(&api, &binary, r#"<much wow="xml"/>"#.to_owned()).await;
    let shown = done(&api, &taken.expect(202)["id"]).await;
    assert_eq!(shown["event"]["data_base64"], "PG11Y2ggd293PSJ4bWwiLz4=");
    binary[5].1 = "%C0%A0";
    let overlong = hand_in(&api, &binary, String::new()).await;
    overlong.problem(422, "invalid_request");
    assert_eq!(overlong.pointers(), ["/subject"]);

    let kind = [(
        "content-type",
        "application/cloudevents-batch+json; charset=utf-8",
    )];
    let first = json!({
        "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext/4", "id": own("B234"),
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "YmFzZTY0"
    });
    let second = json!({
        "specversion": "1.0", "type": "com.example.someotherevent", "source": "/mycontext/9", "id": own("C234"),
        "data": "I'm just a string"
    });
    let batch = json!([first, second, {"specversion": "1.0"}]);
    let answer = hand_in(&api, &kind, batch.to_string()).await.expect(207);
    let items = answer["data"].as_array().expect("a list");
    assert_eq!(
        (&items[0]["status"], &items[1]["status"]),
        (&json!(202), &json!(202))
    );
    assert_eq!(items[2]["errors"][0]["pointer"], "/2/id");
    assert_eq!(done(&api, &items[1]["id"]).await["event"], second);
    let again = hand_in(&api, &kind, json!([second]).to_string())
        .await
        .expect(202);
    assert_eq!(
        (&again["data"][0]["id"], &again["data"][0]["replayed"]),
        (&items[1]["id"], &json!(true))
    );
    assert_eq!(
        hand_in(&api, &kind, "[]".to_owned()).await.expect(202),
        json!({"data": []})
    );
}

#[tokio::test]
async fn an_order_that_is_shipped_rings_at_its_customer_once() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let mut stream = api.user(&user).await.stream("").await;
    let rule = user_name("shipped");
    let kind = format!("com.example.{rule}");
    let request = json!({
        "type": kind, "when": {"test": {"not": true}},
        "notify": {
            "targets": [{"user": "{customer}"}], "category": "orders",
            "content": {"title": "Order {number} is on its way"}
        }
    });
    let path = format!("/v1/rules/{rule}");
    assert_eq!(api.put(&path, &request).await.expect(201)["version"], 1);
    let event = json!({
        "specversion": "1.0", "id": user_name("e"), "source": "/shop", "type": kind,
        "data": {"customer": user, "number": 1042}
    });
    let tried = api
        .post(&format!("{path}/dry-run"), &json!({"event": event}))
        .await
        .expect(200);
    assert_eq!(
        tried["notification"]["texts"][0]["content"]["title"],
        "Order 1042 is on its way"
    );

    let headers = [("content-type", "application/cloudevents+json")];
    let taken = hand_in(&api, &headers, event.to_string()).await.expect(202);
    let added = stream.next().await;
    assert_eq!(added.event, "added");
    let entry = &added.data["entry"];
    assert_eq!(entry["content"]["title"], "Order 1042 is on its way");
    let again = hand_in(&api, &headers, event.to_string()).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202)["id"], taken["id"]);
    let shown = done(&api, &taken["id"]).await;
    assert_eq!(shown["rules"][0]["notification_id"], entry["notification_id"]);
    let mut test = event.clone();
    (test["id"], test["data"]["test"]) = (user_name("e").into(), true.into());
    let taken = hand_in(&api, &headers, test.to_string()).await.expect(202);
    assert_eq!(done(&api, &taken["id"]).await["rules"][0]["outcome"], "unmatched");
    api.delete(&path).await.expect(204);
}
