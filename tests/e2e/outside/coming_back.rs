//! What died, and is tried again.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Outside, delivery_in, outcomes, over, plain, settled, text};
use crate::harness::{Hooks, MailReply, Reply, eventually};

#[tokio::test]
async fn what_died_with_its_process_is_redriven_and_keeps_nobody_else_waiting() {
    let mut outside =
        Outside::start_with(|start| start.env("CARILLON_DISPATCHER__DELIVERY__LEASE_MARGIN", "1s")).await;
    let other = outside.server.tenant("acme").await;
    let hooks = outside.hooks.clone();
    hooks.script("/held", [Reply::Hold]);
    let request =
        json!({"targets": plain("webhook", &hooks.url("/held")), "ttl": 2, "content": {"title": "x"}});
    let id = outside.api.notify(request).await;
    hooks.wait("/held", 1).await;
    outside.server.kill();
    // Its time is over before anybody is there again.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    outside.server.start_again().await;
    let api = &outside.api;
    let dead = delivery_in(api, &id, "webhook", "dead").await;
    let delivery = text(&dead["id"]);

    hooks.script("/held", [Reply::status(204)]);
    let redrive = json!({"all": true});
    api.post("/v1/dead-letters/redrive", &redrive).await.expect(202);
    let theirs = json!({"targets": plain("webhook", &hooks.url("/theirs")), "content": {"title": "x"}});
    other.notify(theirs).await;
    hooks.wait("/theirs", 1).await;
    let shown = settled(api, &delivery, "delivered").await;
    assert_eq!(outcomes(&shown), ["lost", "delivered"]);
    assert_eq!(shown["attempt_count"], 2, "{shown}");
    let seen = hooks.wait("/held", 2).await;
    assert_eq!((&seen[0].id, &seen[1].id), (&delivery, &delivery));
}

#[tokio::test]
async fn an_email_that_is_refused_when_it_is_sent_again_stays_accepted_and_can_be_sent_once_more() {
    let outside = Outside::start().await;
    let (api, relay, to) = (&outside.api, &outside.relay, "ada@example.net");
    let id = api
        .notify(json!({"targets": plain("email", to), "content": {"title": "Twice"}}))
        .await;
    let delivery = text(&delivery_in(api, &id, "email", "accepted").await["id"]);
    relay.script(to, [MailReply::Refuse("550 5.7.1 not by our policy")]);
    let resend = format!("/v1/deliveries/{delivery}/resend");
    api.post(&resend, &json!({})).await.expect(202);
    // What the relay took once stays taken, whatever becomes of the second try.
    eventually("the second try to end", || async {
        let shown = settled(api, &delivery, "accepted").await;
        (outcomes(&shown) == ["accepted", "rejected"]).then_some(())
    })
    .await;
    relay.script(to, [MailReply::Take]);
    api.post(&resend, &json!({})).await.expect(202);
    let seen = relay.wait(to, 2).await;
    assert_eq!(seen[1].raw, seen[0].raw, "the receiver can tell a repeat");
    eventually("the third try to end", || async {
        let shown = settled(api, &delivery, "accepted").await;
        (outcomes(&shown) == ["accepted", "rejected", "accepted"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_unsubscribes_while_an_email_waits_does_not_get_it() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let send = || api.notify(over(&["email"], json!([{"user": "ada"}]), "News"));
    let first = send().await;
    delivery_in(api, &first, "email", "accepted").await;
    let link = outside.relay.seen(&email).remove(0).header("list-unsubscribe");
    let path = link
        .strip_prefix("<https://bell.example.net")
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or_else(|| panic!("{link}"));
    outside
        .relay
        .script(&email, [MailReply::Refuse("451 4.2.0 try again")]);
    let waiting = send().await;
    eventually("an attempt", || async {
        (outside.relay.tried(&email) >= 2).then_some(())
    })
    .await;
    let click = api.send(api.bare(Method::POST, path)).await;
    assert!(click.status.is_success(), "{click:?}");
    outside.relay.script(&email, [MailReply::Take]);
    let skipped = delivery_in(api, &waiting, "email", "skipped").await;
    assert_eq!(skipped["reason"], "unsubscribed");
    assert_eq!(outside.relay.seen(&email).len(), 1);
}

#[tokio::test]
async fn a_webhook_says_the_same_after_a_redrive() {
    let outside = Outside::start().await;
    let hooks = Hooks::start().await;
    hooks.script("/late", [Reply::status(400)]);
    let api = &outside.api;
    let request =
        json!({"targets": plain("webhook", &hooks.url("/late")), "ttl": 1, "content": {"title": "x"}});
    let id = api.notify(request).await;
    let dead = delivery_in(api, &id, "webhook", "dead").await;
    let before = hooks.seen("/late");
    hooks.script("/late", [Reply::status(204)]);
    api.post("/v1/dead-letters/redrive", &json!({"all": true}))
        .await
        .expect(202);
    settled(api, &text(&dead["id"]), "delivered").await;
    let after = hooks.wait("/late", before.len() + 1).await;
    for hook in &after {
        let mut body = hook.json();
        // It is tried for longer than before, and says so.
        body["data"]["expires_at"] = after[0].json()["data"]["expires_at"].clone();
        assert_eq!((&hook.id, body), (&after[0].id, after[0].json()));
    }
}
