use aws_lc_rs::hmac;
use carillon_domain::{
    DeliveryId, Invalid, NotificationId, Scope, TenantId,
    ports::{Bounce, Bounces},
};
use http::Method;
use serde_json::{Value, json};

use super::node::{Answer, Node, eventually, key};
use crate::store::outside::{Brings, DeliveryState, OutsideRow};

const TOKEN: &str = "a-token-of-twenty-bytes";

/// Registers a source for ada.
async fn put(node: &Node, name: &str, mut source: Value) -> Answer {
    if source.get("targets").is_none() {
        source["targets"] = json!([{"user": "ada"}]);
    }
    node.key(Method::PUT, &format!("/v1/sources/{name}"), source)
        .await
}

async fn say(node: &Node, name: &str, payload: Value) -> Answer {
    let token = format!("Bearer {TOKEN}");
    node.stranger(&format!("/v1/in/{name}"), &[("authorization", &token)], payload)
        .await
}

/// Ada's entries, newest first, once there are so many.
async fn entries(node: &Node, count: usize) -> Vec<Value> {
    eventually(async || node.inbox("ada").await["data"].as_array().map_or(0, Vec::len) >= count).await;
    let inbox = node.inbox("ada").await;
    let entries = inbox["data"].as_array().expect("a list").clone();
    assert_eq!(entries.len(), count, "{inbox}");
    entries
}

async fn until_title(node: &Node, title: &str) -> Value {
    eventually(async || node.inbox("ada").await["data"][0]["content"]["title"] == title).await;
    node.inbox("ada").await["data"][0].clone()
}

/// What Alertmanager 0.25 sends.
fn alerts(alerts: &[Value]) -> Value {
    json!({
        "receiver": "carillon", "status": "firing", "version": "4", "truncatedAlerts": 0,
        "groupKey": "{}:{alertname=\"DiskFull\"}", "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alerts.example:9093", "alerts": alerts
    })
}

fn alert(instance: &str, status: &str) -> Value {
    json!({
        "status": status,
        "labels": {"alertname": "DiskFull", "instance": instance, "severity": "critical"},
        "annotations": {"summary": format!("Disk of {instance} is full"), "description": "97 % used"},
        "startsAt": "2026-01-02T03:04:05.123Z",
        "endsAt": if status == "resolved" { "2026-01-02T04:04:05Z" } else { "0001-01-01T00:00:00Z" },
        "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up&g0.tab=1",
        "fingerprint": format!("f1{instance}")
    })
}

#[tokio::test]
async fn an_alert_rings_once_and_its_resolution_updates_the_same_entry() {
    let node = Node::sqlite().await;
    let made = put(&node, "alerts", json!({"kind": "alertmanager", "secret": TOKEN})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);

    let first = say(&node, "alerts", alerts(&[alert("a", "firing")])).await;
    assert_eq!(first.status, 202, "{:?}", first.body);
    let entry = until_title(&node, "Disk of a is full").await;
    assert_eq!(entry["category"], "alerts");
    assert_eq!(entry["priority"], "high");
    assert_eq!(entry["collapse_key"], "f1a");
    assert_eq!(
        entry["content"]["body"],
        "97 % used\nalertname=DiskFull, instance=a, severity=critical"
    );
    assert_eq!(
        entry["content"]["url"],
        "http://prometheus.example:9090/graph?g0.expr=up&g0.tab=1"
    );
    assert_eq!(entry["content"]["data"]["labels"]["instance"], "a");

    // Sent again, beside an alert that joined the group: only the other one is new.
    let again = say(
        &node,
        "alerts",
        alerts(&[alert("a", "firing"), alert("b", "firing")]),
    )
    .await;
    assert_eq!(again.status, 202);
    assert_eq!(again.body["data"][0]["id"], first.body["data"][0]["id"]);
    assert_eq!(again.headers.get("idempotent-replayed"), None);
    entries(&node, 2).await;
    let replayed = say(&node, "alerts", alerts(&[alert("a", "firing")])).await;
    assert_eq!(replayed.body["data"], first.body["data"]);
    assert_eq!(replayed.headers["idempotent-replayed"], "true");

    let resolved = say(&node, "alerts", alerts(&[alert("a", "resolved")])).await;
    assert_eq!(resolved.status, 202, "{:?}", resolved.body);
    let id = entry["id"].clone();
    eventually(async || {
        let inbox = node.inbox("ada").await;
        inbox["data"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|entry| entry["id"] == id && entry["content"]["title"] == "Resolved: Disk of a is full")
    })
    .await;
    entries(&node, 2).await;
}

#[tokio::test]
async fn a_source_names_only_channels_and_categories_that_can_be() {
    let node = Node::sqlite().await;
    for (field, value, pointer) in [
        ("channels", json!(["in_app", "carrier_pigeon"]), "/channels/1"),
        ("channels", json!([]), "/channels"),
        ("category", json!("no category"), "/category"),
    ] {
        let mut body = json!({"kind": "alertmanager", "secret": TOKEN});
        body[field] = value;
        let refused = put(&node, "alerts", body).await;
        assert_eq!(refused.status, 422, "{:?}", refused.body);
        assert_eq!(refused.pointers(), [pointer]);
    }
    let body = json!({"kind": "alertmanager", "secret": TOKEN, "channels": ["in_app"], "category": "ops"});
    assert_eq!(put(&node, "alerts", body).await.status, 201);
    say(&node, "alerts", alerts(&[alert("a", "firing")])).await;
    assert_eq!(until_title(&node, "Disk of a is full").await["category"], "ops");
}

#[tokio::test]
async fn other_words_for_the_same_alert_are_not_another_alert() {
    let node = Node::sqlite().await;
    put(&node, "alerts", json!({"kind": "alertmanager", "secret": TOKEN})).await;
    let first = say(&node, "alerts", alerts(&[alert("a", "firing")])).await;
    let mut changed = alert("a", "firing");
    changed["annotations"]["description"] = json!("98 % used");
    let second = say(&node, "alerts", alerts(&[changed])).await;
    assert_eq!(
        (second.status, &second.body["data"]),
        (first.status, &first.body["data"])
    );
}

#[tokio::test]
async fn grafana_alerts_ring_with_their_panel_and_buttons() {
    let node = Node::sqlite().await;
    put(
        &node,
        "grafana",
        json!({"kind": "grafana", "secret": TOKEN, "category": "ops", "priority": "low"}),
    )
    .await;
    let payload = json!({
        "receiver": "carillon", "status": "firing", "orgId": 1, "title": "[FIRING:1] High load", "state": "alerting",
        "externalURL": "https://grafana.example/", "version": "1", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing", "labels": {"alertname": "High load", "grafana_folder": "ops"}, "annotations": {},
            "startsAt": "2026-01-02T03:04:05Z", "endsAt": "0001-01-01T00:00:00Z", "values": {"B": 22.5},
            "valueString": "[ var='B' labels={} value=22.5 ]", "fingerprint": "c6eadffa33fcdf37",
            "generatorURL": "https://grafana.example/alerting/1afz29v7z/edit", "dashboardURL": "", "panelURL": "",
            "silenceURL": "https://grafana.example/alerting/silence/new?alertmanager=grafana"
        }]
    });
    let answer = say(&node, "grafana", payload).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let entry = until_title(&node, "High load").await;
    assert_eq!(
        (&entry["category"], &entry["priority"]),
        (&json!("ops"), &json!("low"))
    );
    assert_eq!(
        entry["content"]["url"],
        "https://grafana.example/alerting/1afz29v7z/edit"
    );
    let actions = &entry["content"]["actions"];
    assert_eq!(
        (&actions[0]["id"], actions.as_array().map(Vec::len)),
        (&json!("silence"), Some(1))
    );
    assert_eq!(entry["content"]["data"]["values"]["B"], 22.5);
}

const SECRET: &str = "It's-a-Secret-to-Everybody";

async fn github(node: &Node, event: &str, delivery: &str, secret: &str, payload: &Value) -> Answer {
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        payload.to_string().as_bytes(),
    );
    let signature = format!("sha256={}", hex::encode(tag));
    let headers = [
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &*signature),
    ];
    node.stranger("/v1/in/hub", &headers, payload.clone()).await
}

#[tokio::test]
async fn github_events_ring_once_per_delivery_when_the_signature_fits() {
    let node = Node::sqlite().await;
    let unsigned = put(&node, "hub", json!({"kind": "github"})).await;
    assert_eq!(
        (unsigned.status.as_u16(), unsigned.pointers()),
        (422, vec!["/secret"])
    );
    let made = put(&node, "hub", json!({"kind": "github", "secret": SECRET})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);

    let repository = json!({"full_name": "o/r", "html_url": "https://github.com/o/r"});
    let ping = github(&node, "ping", "d0", SECRET, &json!({"zen": "x", "hook": {}})).await;
    assert_eq!(ping.status, 200);
    assert_eq!(ping.body["ignored"][0]["reason"], "a ping: the webhook works");
    // Nor does what was ignored ring as another event: its headers are not signed.
    let muted = json!({"action": "unlabeled", "repository": {"full_name": "o/r"}, "issue": {"number": 1, "title": "x"},
        "ref": "refs/heads/main", "head_commit": {"message": "Ring"}});
    let ignored = github(&node, "issues", "d2", SECRET, &muted).await;
    assert_eq!(ignored.body["ignored"].as_array().map(Vec::len), Some(1));
    let pushed = github(&node, "push", "d3", SECRET, &muted).await;
    assert_eq!(
        (pushed.status.as_u16(), &pushed.body["data"]),
        (200, &json!([])),
        "{:?}",
        pushed.body
    );
    let star = github(&node, "star", "d1", SECRET, &json!({"action": "created"})).await;
    assert_eq!(
        star.body["ignored"][0]["reason"],
        "the event star created is not mapped"
    );

    for (event, payload, title) in [
        (
            "push",
            json!({"ref": "refs/heads/main", "after": "0123456789", "compare": "https://github.com/o/r/compare/a...b",
                "repository": repository, "deleted": false, "head_commit": {"message": "Fix it\n\nLong."},
                "commits": [{"message": "One\n\nx"}, {"message": "Fix it"}], "pusher": {"name": "ada"}}),
            "o/r@main: Fix it",
        ),
        (
            "pull_request",
            json!({"action": "opened", "repository": repository, "sender": {"login": "ada"},
                "pull_request": {"number": 7, "title": "Better", "html_url": "https://github.com/o/r/pull/7", "body": null, "merged": false}}),
            "o/r#7 opened: Better",
        ),
        (
            "pull_request",
            json!({"action": "closed", "repository": repository, "sender": {"login": "ada"},
                "pull_request": {"number": 7, "title": "Better", "html_url": "https://github.com/o/r/pull/7", "merged": true, "base": {"ref": "main"}}}),
            "o/r#7 merged: Better",
        ),
        (
            "issues",
            json!({"action": "opened", "repository": repository, "sender": {"login": "ada"},
                "issue": {"number": 8, "title": "Broken", "html_url": "https://github.com/o/r/issues/8", "body": "It is."}}),
            "o/r#8 opened: Broken",
        ),
        (
            "workflow_run",
            json!({"action": "completed", "repository": repository,
                "workflow_run": {"name": "CI", "conclusion": "failure", "head_branch": "main", "workflow_id": 5, "run_number": 9,
                    "event": "push", "head_sha": "0123456789", "display_title": "Fix it", "html_url": "https://github.com/o/r/actions/runs/1"}}),
            "o/r: CI failure on main",
        ),
        (
            "release",
            json!({"action": "published", "repository": repository,
                "release": {"name": null, "tag_name": "v1.0", "body": "Notes", "html_url": "https://github.com/o/r/releases/v1.0"}}),
            "o/r: v1.0 is released",
        ),
    ] {
        let delivery = format!("72d3162e-{title}");
        let answer = github(&node, event, &delivery, SECRET, &payload).await;
        assert_eq!(answer.status, 202, "{event}: {:?}", answer.body);
        let id = answer.body["data"][0]["id"].as_str().expect("an id");
        node.until_state(id, "planned").await;
        assert_eq!(node.show(id).await["content"]["title"], title);
        let again = github(&node, event, &delivery, SECRET, &payload).await;
        assert_eq!(again.body["data"][0]["id"], id, "the same delivery");
        // The signature covers neither header: what was seen once rings under no other id, and as no other event.
        let replayed = github(&node, event, "invented", SECRET, &payload).await;
        assert_eq!(replayed.body["data"][0]["id"], id, "the same body");
        let forged = github(&node, event, "another", "not-the-secret-of-it", &payload).await;
        assert_eq!(forged.status, 401);
    }
    // The pull request's two notifications share an entry.
    entries(&node, 5).await;
}

#[tokio::test]
async fn any_json_rings_by_a_mapping() {
    let node = Node::sqlite().await;
    let mapping = json!({
        "each": "jobs[*]",
        "key": "{$.run}/{id}",
        "defaults": {"body": ["{log[*] | list}", "{absent}", "of {$.run}"], "data": {"id": "{id}", "log": "{log}"}},
        "rules": [
            {"when": {"state": "ok"}, "ignore": "{name} is well"},
            {"when": {"state": "fail*"}, "title": "{name} failed", "url": "{link}", "ttl": 60, "category": "{kind}",
                "targets": [{"user": "{owners[*]}"}, {"user": "{nobody}"}]},
            {"title": "{name}"}
        ]
    });
    let made = put(
        &node,
        "batch",
        json!({"kind": "json", "secret": TOKEN, "mapping": mapping}),
    )
    .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let shown = node.key(Method::GET, "/v1/sources/batch", Value::Null).await;
    assert_eq!(shown.body["mapping"], mapping);
    assert_eq!(shown.body["has_secret"], true);

    let payload = json!({"run": "r1", "jobs": [
        {"id": 1, "name": "One", "state": "ok"},
        {"id": 2, "name": "Two\nlines", "state": "failed", "kind": "nightly", "owners": ["ada", "bob", "ada"],
            "link": "javascript:alert(1)", "log": ["x", "y"]},
        {"id": 3, "name": "Three", "state": "odd"}
    ]});
    let answer = say(&node, "batch", payload.clone()).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    assert_eq!(
        answer.body["ignored"],
        json!([{"pointer": "/jobs/0", "reason": "One is well"}])
    );
    let id = answer.body["data"][0]["id"].as_str().expect("an id");
    let shown = node.show(id).await;
    assert_eq!(
        shown["content"],
        json!({"title": "Two lines failed", "body": "x, y\nof r1", "data": {"id": 2, "log": ["x", "y"]}})
    );
    assert_eq!(shown["targets"], json!([{"user": "ada"}, {"user": "bob"}]));
    assert_eq!(shown["category"], "nightly");
    let again = say(&node, "batch", payload).await;
    assert_eq!(again.body["data"], answer.body["data"]);
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_its_place() {
    let node = Node::sqlite().await;
    let wrong = json!({"kind": "json", "secret": "short", "targets": [{"user": ""}], "category": "Big", "mapping": {
        "rules": [{"title": "{a b}"}]
    }});
    let refused = put(&node, "x", wrong).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.pointers(),
        [
            "/mapping/rules/0/title",
            "/targets/0/user",
            "/category",
            "/secret"
        ]
    );
    for (mapping, pointer) in [
        (json!({"rules": []}), "/mapping/rules"),
        (json!({"rules": [{}]}), "/mapping/rules/0/title"),
        (
            json!({"rules": [{"title": "t", "titel": "t"}]}),
            "/mapping/rules/0/titel",
        ),
        (
            json!({"each": "@host", "rules": [{"title": "t"}]}),
            "/mapping/each",
        ),
        (
            json!({"defaults": {"ignore": "x"}, "rules": [{"title": "t"}]}),
            "/mapping/defaults",
        ),
    ] {
        let refused = put(&node, "x", json!({"kind": "json", "mapping": mapping})).await;
        assert_eq!(
            (refused.status.as_u16(), refused.pointers()),
            (422, vec![pointer])
        );
    }
    assert_eq!(
        put(&node, "x", json!({"kind": "json"})).await.pointers(),
        ["/mapping"]
    );
    assert_eq!(
        put(&node, "dsn", json!({"kind": "grafana"})).await.pointers(),
        ["/kind"]
    );

    put(&node, "alerts", json!({"kind": "alertmanager", "secret": TOKEN})).await;
    let fault = say(&node, "alerts", json!({"status": "firing"})).await;
    assert_eq!((fault.status.as_u16(), fault.pointers()), (422, vec!["/alerts"]));
    let mapping = json!({"each": "l[*]", "rules": [{"title": "{a.t}", "category": "{c}"}]});
    put(
        &node,
        "own",
        json!({"kind": "json", "secret": TOKEN, "mapping": mapping}),
    )
    .await;
    let fault = say(&node, "own", json!({"l": [{"a": {}}, {"a": {"u": 1}}]})).await;
    assert_eq!(
        (fault.status.as_u16(), fault.pointers()),
        (422, vec!["/l/0/a/t", "/l/1/a/t"])
    );
    let fault = say(&node, "own", json!({"l": [{"a": {"t": "x"}, "c": "Big"}]})).await;
    assert_eq!((fault.status.as_u16(), fault.pointers()), (422, vec!["/l/0"]));
    let detail = fault.body["errors"][0]["detail"].as_str().expect("words");
    assert!(detail.contains("/category"), "{detail}");
    assert!(
        node.inbox("ada").await["data"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
}

#[tokio::test]
async fn only_who_knows_the_secret_or_has_a_key_gets_in() {
    let node = Node::sqlite().await;
    put(&node, "alerts", json!({"kind": "alertmanager", "secret": TOKEN})).await;
    let payload = alerts(&[alert("a", "firing")]);
    let path = "/v1/in/alerts";
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("x-carillon-token", "wrong")],
    ] {
        assert_eq!(node.stranger(path, headers, payload.clone()).await.status, 401);
        let unknown = node.stranger("/v1/in/nothing", headers, payload.clone()).await;
        assert_eq!(unknown.status, 401, "nobody learns which sources there are");
    }
    let url = node
        .stranger(&format!("{path}?token={TOKEN}"), &[], payload.clone())
        .await;
    assert_eq!(url.status, 401, "a token in the URL would be logged");
    let token = node
        .stranger(path, &[("x-carillon-token", TOKEN)], payload.clone())
        .await;
    assert_eq!(token.status, 202);
    let with = async |scope: Scope, path: &str| {
        let principal = key(&TenantId::default(), &[scope]);
        node.request(principal, Method::POST, path, &[], Some(payload.clone()))
            .await
            .status
    };
    assert_eq!(with(Scope::NotificationsWrite, path).await, 202);
    assert_eq!(with(Scope::SourcesWrite, path).await, 403);
    assert_eq!(with(Scope::NotificationsWrite, "/v1/in/nothing").await, 404);
    let token = ("x-carillon-token", TOKEN);
    let form = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(
        node.stranger(path, &[token, form], payload.clone()).await.status,
        415
    );
    let null = node.stranger(path, &[token], Value::Null).await;
    assert_eq!((null.status.as_u16(), null.pointers()), (422, vec!["/alerts"]));

    // It stays while it is not named, and goes by null.
    put(&node, "alerts", json!({"kind": "alertmanager"})).await;
    assert_eq!(say(&node, "alerts", payload.clone()).await.status, 202);
    let bare = put(&node, "alerts", json!({"kind": "alertmanager", "secret": null})).await;
    assert_eq!(
        (bare.status.as_u16(), &bare.body["has_secret"]),
        (200, &json!(false))
    );
    assert_eq!(say(&node, "alerts", payload.clone()).await.status, 401);
    let text = String::from_utf8(bare.bytes.to_vec()).expect("text");
    assert!(!text.contains(TOKEN));
    assert_eq!(
        node.key(Method::DELETE, "/v1/sources/alerts", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(with(Scope::NotificationsWrite, path).await, 404);
}

#[tokio::test]
async fn a_storm_of_alerts_is_taken_in_and_its_end_is_told() {
    let node = Node::sqlite().await;
    put(&node, "alerts", json!({"kind": "alertmanager", "secret": TOKEN})).await;
    let many: Vec<Value> = (0..1_100).map(|n| alert(&n.to_string(), "firing")).collect();
    let answer = say(&node, "alerts", alerts(&many)).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    assert_eq!(answer.body["data"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(answer.body["ignored"][0]["pointer"], "/alerts/1000");
}

/// The port's in-process version: a line `failed ID` or `dead ID` for each recipient, the id as JSON text, of
/// `ada@example.org` unless an address follows.
pub(super) struct Lines;

impl Bounces for Lines {
    fn read(&self, raw: &[u8]) -> Result<Vec<Bounce>, Invalid> {
        let text = std::str::from_utf8(raw).map_err(|_| Invalid("it is no text"))?;
        let line = |line: &str| {
            let (word, id) = line
                .trim_matches('"')
                .split_once(' ')
                .ok_or(Invalid("it has no id"))?;
            let (id, address) = id.split_once(' ').unwrap_or((id, "Ada@example.org"));
            Ok(Bounce {
                delivery: id.parse().ok(),
                address: address.to_owned(),
                failed: word != "delayed",
                hard: word == "dead",
                detail: Some(word.to_owned()),
            })
        };
        text.lines().map(line).collect()
    }
}

#[tokio::test]
async fn a_bounce_marks_its_delivery_and_stops_what_would_follow() {
    let node = Node::sqlite().await;
    let made = node
        .key(
            Method::PUT,
            "/v1/sources/dsn",
            json!({"kind": "dsn", "secret": TOKEN}),
        )
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let wrong = put(&node, "dsn", json!({"kind": "dsn"})).await;
    assert_eq!((wrong.status.as_u16(), wrong.pointers()), (422, vec!["/targets"]));
    assert_eq!(
        put(&node, "other", json!({"kind": "dsn"})).await.pointers()[0],
        "/kind"
    );

    let now = node.now();
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}}))
        .await;
    let row = OutsideRow {
        tenant: TenantId::default(),
        id: DeliveryId::at(now),
        brings: Brings::Notification(id.parse::<NotificationId>().expect("an id")),
        user: Some(ada),
        step: 0,
        name: None,
        channel: "email".parse().expect("a channel"),
        address: "ada@example.org".parse().expect("an address"),
        device: None,
        lane: "relay".into(),
        locale: None,
        state: DeliveryState::Accepted,
        reason: None,
        provider_id: None,
        collapse: None,
        created_at: now,
        expires_at: now,
    };
    node.dispatcher
        .store
        .open_work(std::slice::from_ref(&row), &[])
        .await
        .expect("commits");
    let say = async |text: String| {
        let headers = [("x-carillon-token", TOKEN), ("content-type", "message/rfc822")];
        node.stranger("/v1/in/dsn", &headers, Value::String(text)).await
    };
    let delayed = say(format!("delayed {}", row.id)).await;
    assert_eq!(
        (delayed.status.as_u16(), &delayed.body["ignored"]),
        (200, &json!(["it is no failure"]))
    );
    // Who got it and forwards it elsewhere sends us the bounces of there.
    let forwarded = say(format!("dead {} bob@dead.example", row.id)).await;
    assert_eq!(
        forwarded.body["data"],
        json!([{"delivery_id": row.id, "suppressed": false}]),
        "{:?}",
        forwarded.body
    );
    let stands = async || {
        let shown = node.show(&id).await;
        let deliveries = shown["recipients"]["data"][0]["deliveries"].clone();
        let all = deliveries.as_array().expect("deliveries").iter();
        let mut email = all.filter(|delivery| delivery["channel"] == "email");
        email.next().expect("one by email").clone()
    };
    let forwarded = stands().await;
    assert_eq!(forwarded["state"], "accepted", "whose it was has it");
    assert_eq!(forwarded["receipts"][0]["reason"], "bounced: dead");
    for _ in 0..2 {
        let dead = say(format!("dead {}", row.id)).await;
        assert_eq!(
            dead.body["data"],
            json!([{"delivery_id": row.id, "suppressed": true}]),
            "{:?}",
            dead.body
        );
    }
    let lost = stands().await;
    assert_eq!(
        (&lost["state"], &lost["reason"]),
        (&json!("dead"), &json!("bounced: dead"))
    );
    let dead = node.key(Method::GET, "/v1/dead-letters", Value::Null).await.body;
    assert_eq!(dead["data"][0]["id"], json!(row.id), "{dead}");
    let suppressions = node.key(Method::GET, "/v1/suppressions", Value::Null).await.body;
    assert_eq!(suppressions["data"][0]["address"], "ada@example.org");
    assert_eq!(suppressions["data"][0]["reason"], "bounced");
    let receipts = node.show(&id).await["recipients"]["data"][0]["receipts"].clone();
    assert_eq!(receipts[0]["kind"], "failed", "{receipts}");
    let unknown = say(format!("dead {}", DeliveryId::at(now))).await;
    assert_eq!(
        unknown.body["ignored"],
        json!(["there is no such delivery by email"])
    );
    assert_eq!(say("nothing".to_owned()).await.status, 422);
    assert_eq!(say("x".repeat(1024 * 1024)).await.status, 413, "with its quotes");
    let typed = node
        .stranger("/v1/in/dsn", &[("x-carillon-token", TOKEN)], json!("dead x"))
        .await;
    assert_eq!(typed.status, 415);
    assert_eq!(
        node.stranger("/v1/in/dsn", &[], json!("dead x")).await.status,
        401
    );
}

#[tokio::test]
async fn a_bad_item_takes_no_neighbour_along() {
    let node = Node::sqlite().await;
    let mapping = json!({"each": "l[*]", "key": "{k}", "rules": [{"title": "{t}", "category": "{c}"}]});
    put(
        &node,
        "own",
        json!({"kind": "json", "secret": TOKEN, "mapping": mapping}),
    )
    .await;
    let payload = json!({"l": [
        {"t": "first"}, {"t": "bad", "c": "Big one"}, {"k": "no title"}, {"t": "last", "k": "1"},
    ]});
    let taken = say(&node, "own", payload).await;
    assert_eq!(taken.status, 202, "{:?}", taken.body);
    assert_eq!(taken.body["data"].as_array().map(Vec::len), Some(2));
    let ignored = taken.body["ignored"].as_array().expect("a list");
    let pointers: Vec<_> = ignored.iter().map(|one| &one["pointer"]).collect();
    assert_eq!(pointers, ["/l/1", "/l/2/t"], "{ignored:?}");
    assert!(
        ignored[0]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("/category"))
    );
    entries(&node, 2).await;
}
