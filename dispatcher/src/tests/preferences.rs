use std::{sync::Arc, time::Duration};

use carillon_domain::{Capabilities, Category, Scope, TenantId, Timestamp, ports::Profile};
use carillon_policy::{
    AddressFacts, CategoryPolicy, End, Move, Plan, Reason, Stand, TenantPolicy, Verdict, climb,
};
use carillon_testkit::RecordingChannel;
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, key};
use crate::{
    policy::{About, Wishes, counted_since},
    store::policy::{Choices, PreferenceRow},
};

pub(super) async fn node() -> Node {
    let channel = |name| Arc::new(RecordingChannel::new(name, Capabilities::default())) as _;
    Node::with(Setup {
        channels: vec![channel("email"), channel("sms")],
        ..Setup::default()
    })
    .await
}

const ADA: &str = "/v1/users/ada/preferences";

async fn category(node: &Node, name: &str, body: Value) {
    let answer = node
        .key(Method::PUT, &format!("/v1/categories/{name}"), body)
        .await;
    assert!(answer.status.is_success(), "{:?}", answer.body);
}

async fn put(node: &Node, path: &str, body: Value) {
    let answer = node.key(Method::PUT, path, body).await;
    assert!(answer.status.is_success(), "{path}: {:?}", answer.body);
}

/// What holds for a category over a channel: on, who decided, how often.
async fn holds(node: &Node, name: &str, channel: &str) -> (bool, String, String) {
    let shown = node.key(Method::GET, ADA, Value::Null).await.body;
    let find = |list: &Value, key: &str, name: &str| {
        let list = list.as_array().expect("a list").clone();
        let found = list.into_iter().find(|item| item[key] == name);
        found.unwrap_or_else(|| panic!("no {name}: {shown}"))
    };
    let of = find(
        &find(&shown["effective"], "category", name)["channels"],
        "channel",
        channel,
    );
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (
        of["enabled"] == true,
        text(&of["decided_by"]),
        text(&of["digest"]),
    )
}

fn decided(on: bool, by: &str, digest: &str) -> (bool, String, String) {
    (on, by.to_owned(), digest.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_specific_choice_decides_and_says_so() {
    let node = node().await;
    node.names.describe("ada", Profile::default());
    category(&node, "news", json!({"channels": ["email"]})).await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(true, "default", "immediate")
    );
    put(&node, "/v1/policy", json!({"channels": {"email": false}})).await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(false, "tenant", "immediate")
    );
    let daily = json!([{"name": "daily", "window": {"cron": "0 9 * * *"}}, {"name": "hourly", "window": {"fixed": {"every": 3600}}}]);
    let policy = json!({"enabled": true, "channels": {"sms": false}, "digests": daily, "digest": "daily"});
    category(&node, "news", json!({"channels": ["email"], "policy": policy})).await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(true, "category", "daily")
    );
    assert_eq!(
        holds(&node, "news", "sms").await,
        decided(false, "category", "daily")
    );
    put(
        &node,
        &format!("{ADA}/news/*"),
        json!({"enabled": false, "digest": "hourly"}),
    )
    .await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(false, "user_category", "hourly")
    );
    put(&node, &format!("{ADA}/*/email"), json!({"enabled": true})).await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(true, "user_channel", "hourly")
    );
    assert_eq!(
        holds(&node, "news", "sms").await,
        decided(false, "user_category", "hourly")
    );
    put(
        &node,
        &format!("{ADA}/news/email"),
        json!({"enabled": false, "digest": "immediate"}),
    )
    .await;
    assert_eq!(
        holds(&node, "news", "email").await,
        decided(false, "user_category_channel", "immediate")
    );

    let rows = node.key(Method::GET, ADA, Value::Null).await.body["preferences"].clone();
    let at = "2026-01-02T03:04:05.000000Z";
    assert_eq!(
        rows,
        json!([
            {"category": null, "channel": "email", "enabled": true, "digest": null, "at": at},
            {"category": "news", "channel": null, "enabled": false, "digest": "hourly", "at": at},
            {"category": "news", "channel": "email", "enabled": false, "digest": "immediate", "at": at},
        ])
    );
    for (path, after) in [
        ("news/email", decided(true, "user_channel", "hourly")),
        ("*/email", decided(false, "user_category", "hourly")),
        ("news/*", decided(true, "category", "daily")),
    ] {
        let path = format!("{ADA}/{path}");
        assert_eq!(node.key(Method::DELETE, &path, Value::Null).await.status, 204);
        assert_eq!(holds(&node, "news", "email").await, after);
        assert_eq!(node.key(Method::DELETE, &path, Value::Null).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mandatory_stays_on() {
    let node = node().await;
    node.names.describe("ada", Profile::default());
    category(&node, "bills", json!({"channels": ["email"]})).await;
    put(&node, &format!("{ADA}/bills/email"), json!({"enabled": false})).await;
    let mandatory = json!({"channels": ["email"], "policy": {"may_turn_off": false}});
    category(&node, "bills", mandatory).await;
    assert_eq!(
        holds(&node, "bills", "email").await,
        decided(true, "default", "immediate")
    );
    put(&node, &format!("{ADA}/*/email"), json!({"enabled": false})).await;
    assert_eq!(
        holds(&node, "bills", "email").await,
        decided(true, "default", "immediate")
    );
    let refused = node
        .key(Method::PUT, &format!("{ADA}/bills/*"), json!({"enabled": false}))
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.pointers()),
        (422, vec!["/enabled"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_is_replaced_or_nothing_is() {
    let node = node().await;
    let digests = json!([{"name": "daily", "window": {"cron": "0 9 * * *"}}]);
    category(
        &node,
        "news",
        json!({"channels": ["email"], "policy": {"digests": digests}}),
    )
    .await;
    put(&node, &format!("{ADA}/news/sms"), json!({"enabled": false})).await;
    let whole = json!({"preferences": [
        {"category": "news", "digest": "daily"}, {"channel": "sms", "enabled": true, "digest": "daily"},
    ]});
    put(&node, ADA, whole).await;
    let wrong = json!({"preferences": [
        {"category": "news", "enabled": true},
        {"enabled": true},
        {"category": "news"},
        {"category": "news", "channel": "fax", "enabled": true},
        {"category": "news", "digest": "weekly"},
        {"category": "chat", "digest": "daily"},
        {"channel": "email", "digest": "weekly"},
        {"category": "Big News", "enabled": true},
    ]});
    let refused = node.key(Method::PUT, ADA, wrong.clone()).await;
    assert_eq!(refused.pointers(), ["/preferences/7/category"]);
    let mut wrong = wrong;
    wrong["preferences"].as_array_mut().expect("a list").pop();
    let refused = node.key(Method::PUT, ADA, wrong).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.pointers(),
        [
            "/preferences/1",
            "/preferences/2",
            "/preferences/2",
            "/preferences/3/channel",
            "/preferences/4/digest",
            "/preferences/4",
            "/preferences/5/digest",
            "/preferences/6/digest",
        ]
    );
    let rows = node.key(Method::GET, ADA, Value::Null).await.body["preferences"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    let nothing = node
        .key(Method::PUT, &format!("{ADA}/*/*"), json!({"enabled": true}))
        .await;
    assert_eq!((nothing.status.as_u16(), nothing.pointers()), (422, vec![""]));
    for path in ["Big%20News/*", "news/Fax", "**/sms"] {
        let answer = node
            .key(Method::PUT, &format!("{ADA}/{path}"), json!({"enabled": true}))
            .await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let many: Vec<_> = (0..1_001)
        .map(|number| json!({"category": format!("c{number}"), "enabled": true}))
        .collect();
    let refused = node.key(Method::PUT, ADA, json!({"preferences": many})).await;
    assert_eq!(refused.pointers(), ["/preferences"]);
    put(&node, ADA, json!({"preferences": many[..1_000]})).await;
    let full = node
        .key(
            Method::PUT,
            &format!("{ADA}/news/email"),
            json!({"enabled": true}),
        )
        .await;
    assert_eq!(full.status, 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_reaches_his_own_choices_and_a_backend_everybodys() {
    let node = node().await;
    let tenant = TenantId::default();
    let quiet = "/v1/users/ada/quiet-hours";
    let off = json!({"enabled": false});
    let own = format!("{ADA}/news/email");
    for (method, path, body) in [
        (Method::PUT, own.as_str(), Some(off.clone())),
        (Method::GET, ADA, None),
        (Method::DELETE, own.as_str(), None),
        (Method::PUT, quiet, Some(json!({"windows": []}))),
        (Method::GET, quiet, None),
        (Method::DELETE, quiet, None),
    ] {
        let done = node.user("ada", method.clone(), path, body.clone()).await;
        assert!(done.status.is_success(), "{method} {path}: {:?}", done.body);
        assert_eq!(
            node.user("bob", method.clone(), path, body.clone()).await.status,
            403
        );
        let reader = key(&tenant, &[Scope::NotificationsRead]);
        assert_eq!(
            node.request(reader, method.clone(), path, &[], body.clone())
                .await
                .status,
            403
        );
        let writer = key(&tenant, &[Scope::UsersWrite]);
        let done = node.request(writer, method.clone(), path, &[], body).await;
        assert_ne!(done.status, 403, "{method} {path}");
    }
    for path in ["/v1/users/nobody/preferences", "/v1/users/nobody/quiet-hours"] {
        assert_eq!(node.key(Method::GET, path, Value::Null).await.status, 404);
    }
    // Whom a backend chooses for is thereby known.
    put(&node, "/v1/users/nobody/preferences/news/email", off).await;
    assert_eq!(
        node.key(Method::GET, "/v1/users/nobody/preferences", Value::Null)
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_hours_are_read_on_the_wall_clock_that_is_nearest_to_the_user() {
    let node = node().await;
    let path = "/v1/users/ada/quiet-hours";
    // Friday, 2026-01-02, 03:04:05 UTC.
    let windows = json!([{"days": ["thu", "fri"], "start": "22:00", "end": "03:30"}]);
    let put = async || {
        let answer = node.key(Method::PUT, path, json!({"windows": windows})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    };
    let shown = put().await;
    assert_eq!(
        shown,
        json!({
            "windows": windows, "time_zone": "UTC", "time_zone_from": "default",
            "quiet": true, "until": "2026-01-02T03:30:00.000000Z", "next": "2026-01-02T22:00:00.000000Z",
        })
    );
    let policy = json!({"time_zone": "asia/kathmandu"});
    let answer = node.key(Method::PUT, "/v1/policy", policy).await;
    assert_eq!(answer.body, json!({"time_zone": "Asia/Kathmandu"}));
    let shown = node.key(Method::GET, path, Value::Null).await.body;
    assert_eq!(
        (&shown["time_zone_from"], &shown["quiet"]),
        (&json!("tenant"), &json!(false))
    );
    assert_eq!(
        (&shown["until"], &shown["next"]),
        (&Value::Null, &json!("2026-01-02T16:15:00.000000Z"))
    );
    let berlin = Profile {
        zone: Some("Europe/Berlin".into()),
        ..Profile::default()
    };
    node.names.describe("ada", berlin);
    let shown = node.key(Method::GET, path, Value::Null).await.body;
    assert_eq!(
        (&shown["time_zone"], &shown["time_zone_from"]),
        (&json!("Europe/Berlin"), &json!("user"))
    );
    node.advance(Duration::from_secs(18 * 3_600));
    let shown = node.key(Method::GET, path, Value::Null).await.body;
    assert_eq!(
        (&shown["quiet"], &shown["until"]),
        (&json!(true), &json!("2026-01-03T02:30:00.000000Z"))
    );
    assert_eq!(node.key(Method::DELETE, path, Value::Null).await.status, 204);
    let shown = node.key(Method::GET, path, Value::Null).await.body;
    assert_eq!(
        (&shown["windows"], &shown["quiet"], &shown["next"]),
        (&json!([]), &json!(false), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_where_it_stands() {
    let node = node().await;
    let window = |days: Value, start: &str, end: &str| json!({"days": days, "start": start, "end": end});
    let quiet = |windows: Value| ("/v1/users/ada/quiet-hours", json!({"windows": windows}));
    let policy = |body: Value| ("/v1/policy", body);
    let category = |body: Value| ("/v1/categories/news", body);
    let digest = |window: Value| {
        category(json!({"channels": ["email"], "policy": {"digests": [{"name": "d", "window": window}]}}))
    };
    for ((path, body), pointer) in [
        (
            quiet(json!([window(json!(["mon"]), "22:00", "24:00")])),
            "/windows/0/end",
        ),
        (
            quiet(json!([window(json!(["mon"]), "9:00", "10:00")])),
            "/windows/0/start",
        ),
        (
            quiet(json!([window(json!(["monday"]), "09:00", "10:00")])),
            "/windows/0/days/0",
        ),
        (
            quiet(json!([window(json!([]), "09:00", "10:00")])),
            "/windows/0/days",
        ),
        (
            quiet(json!([window(json!(["mon", "mon"]), "09:00", "10:00")])),
            "/windows/0/days/1",
        ),
        (
            quiet(json!(vec![window(json!(["mon"]), "09:00", "10:00"); 15])),
            "/windows",
        ),
        (policy(json!({"time_zone": "Europe/Bielefeld"})), "/time_zone"),
        (
            policy(json!({"caps": [{"max": 5, "per": 3600}, {"max": 0, "per": 60}]})),
            "/caps/1/max",
        ),
        (policy(json!({"throttle": {"max": 1, "per": 0}})), "/throttle/per"),
        (policy(json!({"channels": {"fax": true}})), "/channels/fax"),
        (policy(json!({"cap": []})), "/cap"),
        (
            digest(json!({"cron": "0 25 * * *"})),
            "/policy/digests/0/window/cron",
        ),
        (
            digest(json!({"fixed": {"every": 0}})),
            "/policy/digests/0/window/fixed/every",
        ),
        (
            category(json!({"channels": ["email"], "policy": {"digest": "daily"}})),
            "/policy/digest",
        ),
        (
            category(json!({"channels": ["email"], "policy": {"channels": {"fax": false}}})),
            "/policy/channels/fax",
        ),
        (category(json!({"title": "News"})), "/channels"),
        (
            category(json!({"channels": ["email"], "plan": {"steps": [{"channels": ["email"]}]}})),
            "/plan",
        ),
        (category(json!({"plan": {"steps": []}})), "/plan/steps"),
        (
            category(json!({"plan": {"steps": [{"channels": ["in_app"], "deadline": 0}]}})),
            "/plan/steps/0/deadline",
        ),
        (
            category(json!({"plan": {"steps": [{"channels": ["fax"]}]}})),
            "/plan/steps/0/channels/0",
        ),
        (
            category(json!({"plan": {"steps": [{"channels": ["email"], "when": ["asleep"]}]}})),
            "/plan/steps/0/when/0",
        ),
    ] {
        let refused = node.key(Method::PUT, path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.pointers()),
            (422, vec![pointer]),
            "{body} {:?}",
            refused.body
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_categorys_plan_and_policy_are_kept_and_shown() {
    let node = node().await;
    let plan = json!({"acknowledged_by": "any", "steps": [
        {"channels": ["in_app"], "deadline": 60}, {"channels": ["sms", "email"], "when": ["unseen"]},
    ]});
    let policy = json!({"may_turn_off": false, "channels": {"sms": true}});
    let body = json!({"title": "Incidents", "plan": plan, "policy": policy, "critical": true});
    let made = node.key(Method::PUT, "/v1/categories/incidents", body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let shown = node
        .key(Method::GET, "/v1/categories/incidents", Value::Null)
        .await
        .body;
    assert_eq!(shown, made.body);
    assert_eq!(
        (&shown["plan"], &shown["policy"], &shown["critical"]),
        (&plan, &policy, &json!(true))
    );
    assert_eq!(shown["channels"], json!(["in_app", "sms", "email"]));
    category(&node, "incidents", json!({"channels": ["email"]})).await;
    let shown = node
        .key(Method::GET, "/v1/categories/incidents", Value::Null)
        .await
        .body;
    assert_eq!(
        (&shown["plan"], &shown["critical"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(shown["policy"], json!({"may_turn_off": true}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_policy_needs_its_scope() {
    let node = node().await;
    let tenant = TenantId::default();
    let (writer, reader) = (
        key(&tenant, &[Scope::PolicyWrite]),
        key(&tenant, &[Scope::NotificationsRead]),
    );
    let body = json!({"caps": [{"max": 3, "per": 3600}]});
    let path = "/v1/policy";
    let refused = node
        .request(reader.clone(), Method::PUT, path, &[], Some(body.clone()))
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        node.request(reader.clone(), Method::GET, path, &[], None)
            .await
            .body,
        json!({})
    );
    let done = node
        .request(writer.clone(), Method::PUT, path, &[], Some(body.clone()))
        .await;
    assert_eq!(done.status, 200, "{:?}", done.body);
    assert_eq!(
        node.request(writer, Method::GET, path, &[], None).await.status,
        403
    );
    assert_eq!(
        node.request(reader, Method::GET, path, &[], None).await.body,
        body
    );
    assert_eq!(node.user("ada", Method::GET, path, None).await.status, 403);
    let acme = key(&"acme".parse().expect("a tenant"), &Scope::ALL);
    assert_eq!(
        node.request(acme, Method::GET, path, &[], None).await.body,
        json!({})
    );
}

/// What the ladder is told of one recipient's only step.
fn first_move(choices: &Choices, tenant: &TenantPolicy, zone: Option<&str>, now: Timestamp) -> Move {
    let wishes = Wishes::new(choices, tenant, zone);
    let news: Category = "news".parse().expect("a category");
    let email: carillon_domain::ChannelKind = "email".parse().expect("a channel");
    let (addresses, policy) = ([AddressFacts::new(email.clone())], CategoryPolicy::default());
    let about = About {
        category: &news,
        category_policy: &policy,
        tenant,
        critical: false,
        is_digest: false,
        closes_at: now.after(Duration::from_secs(86_400)),
    };
    let facts = wishes.facts(&about, &addresses, None);
    let moves = climb(&Plan::of_address(email), &Stand::default(), &facts, now);
    moves.into_iter().next().expect("a move")
}

#[test]
fn the_ladder_gets_preferences_quiet_hours_zone_and_counts() {
    let now = Timestamp::from_seconds(1_767_323_045);
    let plain = TenantPolicy::default();
    let free = first_move(&Choices::default(), &plain, None, now);
    let Move::Start(start) = &free else {
        panic!("{free:?}")
    };
    assert_eq!((&start.alerts[0].verdict, start.counts), (&Verdict::Send, true));
    let off = Choices {
        preferences: vec![PreferenceRow {
            category: None,
            channel: Some("email".parse().expect("a channel")),
            enabled: Some(false),
            digest: None,
            at: now,
        }],
        ..Choices::default()
    };
    match first_move(&off, &plain, None, now) {
        Move::Pass { skipped, .. } => {
            assert!(
                matches!(skipped[0].verdict, Verdict::Skip(Reason::Preference { .. })),
                "{skipped:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    let windows = r#"{"quiet_hours": {"windows": [{"days": ["fri"], "start": "08:00", "end": "09:00"}]}}"#;
    let quiet = Choices {
        body: Some(windows.into()),
        ..Choices::default()
    };
    assert!(
        matches!(first_move(&quiet, &plain, None, now), Move::Start(_)),
        "it is 03:04 in UTC"
    );
    let kathmandu = TenantPolicy {
        time_zone: Some("Asia/Kathmandu".parse().expect("a zone")),
        ..TenantPolicy::default()
    };
    for zone in [None, Some("Nowhere/At_All")] {
        match first_move(&quiet, &kathmandu, zone, now) {
            Move::Hold {
                reason: Reason::QuietHours { until, .. },
                ..
            } => {
                assert_eq!(
                    until,
                    Timestamp::parse("2026-01-02T03:15:00.000000Z").expect("a time")
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let own = first_move(&quiet, &kathmandu, Some("Europe/Berlin"), now);
    assert!(matches!(own, Move::Start(_)), "{own:?}");
    let unreadable = Choices {
        body: Some("{".into()),
        ..Choices::default()
    };
    assert!(matches!(
        first_move(&unreadable, &plain, None, now),
        Move::Start(_)
    ));

    let capped: TenantPolicy = serde_json::from_value(
        json!({"caps": [{"max": 1, "per": 60}, {"max": 9, "per": 3600}], "throttle": {"max": 5, "per": 600}}),
    )
    .expect("a policy");
    let taken = |seconds: u64| Choices {
        alerts: vec![now.before(Duration::from_secs(seconds))],
        ..Choices::default()
    };
    match first_move(&taken(59), &capped, None, now) {
        Move::Pass { reason, .. } => assert!(matches!(reason, Reason::Cap { .. }), "{reason:?}"),
        Move::End(End::Skipped) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        first_move(&taken(61), &capped, None, now),
        Move::Start(_)
    ));
    assert_eq!(
        counted_since(&capped, now),
        now.before(Duration::from_secs(3_600))
    );
    assert_eq!(counted_since(&plain, now), now);
}
