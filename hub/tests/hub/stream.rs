//! `GET /v1/stream`, as docs/protocol.md section 5 says it.

use std::{sync::atomic::Ordering, time::Duration};

use carillon_domain::{Revocation, Timestamp};
use carillon_runtime::config::Span;
use serde_json::json;

use crate::{
    client::{Sse, bearer},
    world::{Server, eventually},
};

#[tokio::test]
async fn a_stream_starts_with_retry_and_position_and_brings_changes_and_publications() {
    let server = Server::start();
    let token = server.world.token("ada");
    let mut stream = Sse::open(server.address, &token, "?device=laptop&topic=room.1&topic=live.1").await;
    for expected in [
        "HTTP/1.1 200 OK",
        "content-type: text/event-stream; charset=utf-8",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "connection: close",
        "x-content-type-options: nosniff",
        "x-trace-id: ",
    ] {
        assert!(stream.head.contains(expected), "{expected} in {}", stream.head);
    }
    let first = stream.next().await;
    assert_eq!(first.name, "position");
    assert_eq!(first.data["user"], "ada");
    assert_eq!(first.data["device"], "laptop");
    assert!(
        matches!(stream.retries[..], [2_000..=10_000]),
        "{:?}",
        stream.retries
    );

    let position = server.world.ring("ada", "one");
    let change = stream.next().await;
    assert_eq!(
        (change.name.as_str(), change.id),
        ("added", Some(position.to_string()))
    );
    assert_eq!(change.data, json!({"type": "added", "text": "one"}));

    let position = server
        .world
        .publish("room.1", "{\n \"x\": \"a\\nb\"\r\n}")
        .unwrap();
    let publication = stream.next().await;
    assert_eq!((publication.name.as_str(), publication.id), ("publication", None));
    assert_eq!(publication.data["topic"], "room.1");
    assert_eq!(publication.data["epoch"], position.epoch.as_str());
    assert_eq!(
        (&publication.data["seq"], &publication.data["data"]),
        (&json!(1), &json!({"x": "a\nb"}))
    );

    server.world.publish("live.1", "7");
    let live = stream.next().await;
    assert_eq!(
        (&live.data["topic"], &live.data["data"]),
        (&json!("live.1"), &json!(7))
    );
    assert!(live.data.get("seq").is_none() && live.data.get("epoch").is_none());
}

#[tokio::test]
async fn a_stream_resumes_by_header_or_query_without_hole_or_repeat() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = Sse::open(server.address, &token, "").await.position().await;
    for number in 0..200 {
        server.world.ring("ada", &number.to_string());
    }
    for query in ["", "?last_event_id=", "?lastEventID=", "?lastEventId="] {
        let mut stream = if query.is_empty() {
            Sse::resume(server.address, &token, "?last_event_id=earliest", &start).await
        } else {
            Sse::open(server.address, &token, &format!("{query}{start}")).await
        };
        assert_eq!(stream.position().await, start);
        for seq in 1..=200 {
            assert_eq!(stream.next().await.seq(), seq);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_resumed_is_announced_and_the_stream_goes_on() {
    let server = Server::start();
    let token = server.world.token("ada");
    for number in 0..20 {
        server.world.log("ada", &number.to_string());
    }
    server.world.trim("ada", 10);
    let head = Sse::open(server.address, &token, "").await.position().await;
    let epoch = head.split_once('-').unwrap().0.to_owned();
    let cases = [
        (format!("{epoch}-3"), "trimmed"),
        ("zzzz-3".to_owned(), "epoch"),
        (format!("{epoch}-99"), "future"),
        ("' OR 1=1".to_owned(), "malformed"),
        ("9".repeat(6_000), "malformed"),
    ];
    for (presented, reason) in cases {
        let mut stream = Sse::resume(server.address, &token, "", &presented).await;
        assert_eq!(stream.position().await, head, "{presented}");
        let gap = stream.next().await;
        assert_eq!(
            (gap.name.as_str(), gap.id.as_deref()),
            ("gap", Some(head.as_str()))
        );
        assert_eq!(gap.data, json!({"reason": reason, "position": head}));
    }
    let mut stream = Sse::open(server.address, &token, "?last_event_id=earliest").await;
    assert_eq!(
        stream.position().await,
        format!("{epoch}-10"),
        "the oldest that is kept"
    );
    assert_eq!(stream.next().await.seq(), 11);
    // The numbering begins anew while the stream is open.
    let mut live = Sse::open(server.address, &token, "").await;
    live.position().await;
    server.world.renumber("ada");
    server.world.ring("ada", "new life");
    let gap = live.next().await;
    assert_eq!((gap.name.as_str(), &gap.data["reason"]), ("gap", &json!("epoch")));
    assert!(gap.id.unwrap().ends_with("-1"));
    server.world.ring("ada", "second");
    assert_eq!(live.next().await.seq(), 2);
}

#[tokio::test]
async fn a_topic_begins_with_a_gap_after_a_reconnect_unless_its_position_covers_it() {
    let server = Server::start();
    let token = server.world.token("ada");
    let position = server.world.publish("room.1", "1").unwrap();
    server.world.publish("room.1", "2");
    let start = Sse::open(server.address, &token, "").await.position().await;
    let query = format!("?topic=room.1@{position}&topic=room.2&topic=live.1");
    let mut stream = Sse::resume(server.address, &token, &query, &start).await;
    stream.position().await;
    let gap = stream.next().await;
    assert_eq!((gap.name.as_str(), gap.id.as_ref()), ("gap", None));
    assert_eq!(
        (&gap.data["topic"], &gap.data["reason"]),
        (&json!("room.2"), &json!("unknown"))
    );
    let gap = stream.next().await;
    assert_eq!(
        (&gap.data["topic"], &gap.data["position"]),
        (&json!("live.1"), &json!(null))
    );
    let covered = stream.next().await;
    assert_eq!(
        (&covered.data["topic"], &covered.data["seq"]),
        (&json!("room.1"), &json!(2))
    );

    let mut without = Sse::open(server.address, &token, "?inbox=false&topic=room.1").await;
    let first = without.next().await;
    assert_eq!((first.id, &first.data["position"]), (None, &json!(null)));
    assert_eq!(
        without.next().await.name,
        "gap",
        "without ids nobody can tell a reconnect"
    );
    server.world.ring("ada", "not for this stream");
    server.world.publish("room.1", "3");
    assert_eq!(without.next().await.data["data"], 3);
}

#[tokio::test]
async fn a_device_gets_again_what_it_has_not_confirmed() {
    let server = Server::start();
    let token = server.world.token("ada");
    let positions: Vec<_> = (0..4)
        .map(|n| server.world.ring("ada", &n.to_string()).to_string())
        .collect();
    server.world.confirm("ada", "phone", &positions[1]);
    let mut phone = Sse::resume(server.address, &token, "?device=phone", &positions[3]).await;
    assert_eq!(phone.position().await, positions[1]);
    assert_eq!(phone.next().await.seq(), 3);
    assert_eq!(phone.next().await.seq(), 4);
    let mut tablet = Sse::resume(server.address, &token, "?device=tablet", &positions[3]).await;
    assert_eq!(
        tablet.position().await,
        positions[3],
        "it never confirmed anything"
    );
    // Confirming more than is presented does not skip anything.
    server.world.confirm("ada", "tv", &positions[3]);
    let mut tv = Sse::resume(server.address, &token, "?device=tv", &positions[0]).await;
    assert_eq!(tv.position().await, positions[0]);
    assert_eq!(tv.next().await.seq(), 2);
}

#[tokio::test]
async fn credentials_come_by_header_ticket_or_cookie_and_never_by_url() {
    let server = Server::start();
    let token = server.world.token("ada");
    let get = |path: String, headers: String| async move { Sse::get(server.address, &path, &headers).await };
    for name in ["access_token", "token", "authorization"] {
        let refused = get(format!("/v1/stream?{name}={token}"), String::new()).await;
        assert_eq!(refused.status, 400);
    }
    for headers in [
        String::new(),
        bearer("nonsense"),
        "Authorization: Basic eA==\r\n".to_owned(),
    ] {
        let refused = get("/v1/stream".to_owned(), headers).await;
        assert_eq!(refused.status, 401);
        assert!(
            refused
                .head
                .contains("www-authenticate: Bearer error=\"invalid_token\""),
            "{}",
            refused.head
        );
    }
    let ticket = server.world.ticket(&token);
    let mut first = get(format!("/v1/stream?ticket={ticket}"), String::new()).await;
    first.position().await;
    let cookie = format!("carillon_stream=cookie-{token}");
    assert!(
        first.head.contains(&format!(
            "set-cookie: {cookie}; Path=/v1/stream; HttpOnly; SameSite=Lax"
        )),
        "{}",
        first.head
    );
    // EventSource comes back with the spent ticket and the cookie.
    let cookies = format!("Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n");
    let mut again = get(format!("/v1/stream?ticket={ticket}"), cookies.clone()).await;
    again.position().await;
    assert_eq!(
        get(format!("/v1/stream?ticket={ticket}"), String::new())
            .await
            .status,
        401
    );
    for origin in ["https://evil.example", "null", "https://hub.test.evil"] {
        let foreign = format!("Cookie: {cookie}\r\nOrigin: {origin}\r\n");
        assert_eq!(
            get("/v1/stream".to_owned(), foreign).await.status,
            403,
            "{origin}"
        );
    }
    assert_eq!(
        get(
            "/v1/stream".to_owned(),
            format!("Cookie: {cookie}\r\nOrigin: http://hub.test\r\n")
        )
        .await
        .status,
        200
    );
    server.world.spoil(&token, "revoked");
    assert_eq!(get("/v1/stream".to_owned(), cookies).await.status, 204);
    assert_eq!(get("/v1/stream".to_owned(), bearer(&token)).await.status, 204);
    server.world.spoil(&token, "away");
    assert_eq!(get("/v1/stream".to_owned(), bearer(&token)).await.status, 503);
}

#[tokio::test]
async fn a_topic_that_the_token_does_not_grant_is_forbidden() {
    let server = Server::start();
    let token = server.world.token("ada");
    let path = "/v1/stream?topic=room.1&topic=secret.1";
    assert_eq!(Sse::get(server.address, path, &bearer(&token)).await.status, 403);
    let many = "&topic=room.1".repeat(65);
    assert_eq!(
        Sse::get(server.address, &format!("/v1/stream?{many}"), &bearer(&token))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_silent_stream_has_a_heartbeat_and_a_busy_one_needs_none() {
    let server = Server::configured(|config| {
        config.ping_interval = Span::from_secs(1);
        config.pong_timeout = Span::from_millis(500);
    });
    let token = server.world.token("ada");
    let mut stream = Sse::open(server.address, &token, "").await;
    stream.position().await;
    stream.comment().await;
    for number in 0..6 {
        server.world.ring("ada", &number.to_string());
        stream.next().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(stream.comments, 1);
}

#[tokio::test]
async fn a_stream_ends_with_a_word_when_its_token_expires_or_is_revoked() {
    let server = Server::configured(|config| config.expired_close_delay = Span::from_millis(250));
    let soon = Timestamp::from_micros(
        carillon_domain::Clock::now(&carillon_domain::SystemClock).as_micros() + 500_000,
    );
    let expiring = server
        .world
        .token_with("ada", |caller| caller.expires_at = Some(soon));
    let mut stream = Sse::open(server.address, &expiring, "").await;
    stream.position().await;
    server.world.ahead.store(60_000_000, Ordering::Relaxed);
    // The wheel looks at a silent stream at its heartbeat, or when its token ends.
    let bye = stream.next().await;
    assert_eq!(
        (bye.name.as_str(), &bye.data["reason"]),
        ("bye", &json!("expired"))
    );
    assert_eq!(stream.next_or_end().await, None);
    server.world.ahead.store(0, Ordering::Relaxed);

    let token = server.world.token("bob");
    let mut by_user = Sse::open(server.address, &token, "").await;
    let other = server
        .world
        .token_with("bob", |caller| caller.jti = Some("other".into()));
    let mut by_token = Sse::open(server.address, &other, "").await;
    by_user.position().await;
    by_token.position().await;
    server.world.revoke(Revocation::Token("other".into()));
    assert_eq!(by_token.next().await.data["reason"], "revoked");
    assert_eq!(by_token.next_or_end().await, None);
    server.world.ring("bob", "still there");
    assert_eq!(by_user.next().await.name, "added");
    server.world.revoke(Revocation::User(server.world.user("bob")));
    assert_eq!(by_user.next().await.data["reason"], "revoked");
    assert_eq!(by_user.retries.len(), 2, "retry comes before bye");
    eventually("all connections are gone", || server.hub.connections() == 0).await;
}

#[tokio::test]
async fn a_new_login_outlives_the_revocation_of_the_old_one() {
    let server = Server::start();
    let now = carillon_domain::Clock::now(&carillon_domain::SystemClock);
    let (past, future) = (
        now.before(Duration::from_secs(5)),
        now.after(Duration::from_secs(5)),
    );
    let old = server
        .world
        .token_with("ada", |caller| caller.issued_at = Some(past));
    let new = server
        .world
        .token_with("ada", |caller| caller.issued_at = Some(future));
    let mut old = Sse::open(server.address, &old, "").await;
    let mut new = Sse::open(server.address, &new, "").await;
    old.position().await;
    new.position().await;
    server.world.revoke(Revocation::User(server.world.user("ada")));
    assert_eq!(old.next().await.data["reason"], "revoked");
    server.world.ring("ada", "hello");
    assert_eq!(new.next().await.name, "added");
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_stream_come_back_later() {
    let server = Server::start();
    let token = server.world.token("ada");
    *server.world.away.lock().unwrap() = true;
    let mut stream = Sse::open(server.address, &token, "").await;
    assert_eq!(stream.next_or_end().await, None);
    assert!(
        matches!(stream.retries[..], [_, 5_000..=30_000]),
        "{:?}",
        stream.retries
    );
}

#[tokio::test]
async fn a_tenants_prefix_belongs_to_the_cookies_path() {
    let server = Server::start();
    let token = server.world.token("ada");
    let ticket = server.world.ticket(&token);
    let stream = Sse::get(server.address, &format!("/t/acme/v1/stream?ticket={ticket}"), "").await;
    assert!(
        stream.head.contains("; Path=/t/acme/v1/stream; "),
        "{}",
        stream.head
    );
}
