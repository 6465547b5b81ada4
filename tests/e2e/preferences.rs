use reqwest::Method;
use serde_json::json;

use super::outside::{Outside, delivery_in, over};

async fn news(outside: &Outside) -> String {
    let mut request = over(&["email", "webhook"], json!([{"user": "ada"}]), "News");
    request["category"] = "news".into();
    outside.api.notify(request).await
}

#[tokio::test]
async fn a_user_chooses_by_his_own_token_and_it_counts_from_then_on() {
    let outside = Outside::start().await;
    outside.reachable("ada").await;
    let api = &outside.api;
    let category = json!({"title": "News", "channels": ["email", "webhook"]});
    api.put("/v1/categories/news", &category).await.expect(201);
    let ada = api.user("ada").await;
    let path = "/v1/users/ada/preferences";
    ada.put(&format!("{path}/news/*"), &json!({"enabled": false}))
        .await
        .expect(200);
    ada.put(&format!("{path}/*/webhook"), &json!({"enabled": true}))
        .await
        .expect(200);
    let first = news(&outside).await;
    delivery_in(api, &first, "webhook", "delivered").await;
    let skipped = delivery_in(api, &first, "email", "skipped").await;
    assert_eq!(skipped["reason"], "unsubscribed");

    let shown = ada.get(path).await.expect(200);
    let holds: Vec<_> = shown["effective"][0]["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .map(|of| {
            (
                of["channel"].clone(),
                of["enabled"].clone(),
                of["decided_by"].clone(),
            )
        })
        .collect();
    for (channel, on, by) in [
        ("email", false, "user_category"),
        ("webhook", true, "user_channel"),
    ] {
        assert!(holds.contains(&(json!(channel), json!(on), json!(by))), "{shown}");
    }
    ada.delete(&format!("{path}/news/*")).await.expect(204);
    delivery_in(api, &news(&outside).await, "email", "accepted").await;

    let bob = api.user("bob").await;
    bob.get(path).await.problem(403, "forbidden");
    bob.put("/v1/users/ada/quiet-hours", &json!({"windows": []}))
        .await
        .problem(403, "forbidden");
    api.get("/v1/users/nobody/preferences")
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn quiet_hours_and_the_policy_are_kept_and_checked() {
    let outside = Outside::start().await;
    let api = &outside.api;
    let always = json!({"windows": [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "start": "00:00", "end": "00:00"}]});
    let ada = api.user("ada").await;
    let path = "/v1/users/ada/quiet-hours";
    let shown = ada.put(path, &always).await.expect(200);
    assert_eq!(
        (&shown["quiet"], &shown["time_zone"]),
        (&json!(true), &json!("UTC"))
    );
    api.put("/v1/policy", &json!({"time_zone": "Europe/Berlin"}))
        .await
        .expect(200);
    let shown = ada.get(path).await.expect(200);
    assert_eq!(
        (&shown["time_zone"], &shown["time_zone_from"]),
        (&json!("Europe/Berlin"), &json!("tenant"))
    );
    ada.delete(path).await.expect(204);
    assert_eq!(ada.get(path).await.expect(200)["windows"], json!([]));
    for (path, body, pointer) in [
        (
            path,
            json!({"windows": [{"days": ["mon"], "start": "25:00", "end": "07:00"}]}),
            "/windows/0/start",
        ),
        (
            "/v1/policy",
            json!({"time_zone": "Europe/Bielefeld"}),
            "/time_zone",
        ),
        (
            "/v1/categories/news",
            json!({"plan": {"steps": [{"channels": ["fax"]}]}}),
            "/plan/steps/0/channels/0",
        ),
    ] {
        let refused = api.put(path, &body).await;
        refused.problem(422, "invalid_request");
        assert_eq!(refused.pointers(), [pointer]);
    }
    ada.put("/v1/policy", &json!({})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn the_page_behind_the_link_in_a_mail_saves_what_is_chosen_without_login() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let category = json!({"title": "News", "channels": ["email", "webhook"]});
    api.put("/v1/categories/news", &category).await.expect(201);
    delivery_in(api, &news(&outside).await, "email", "accepted").await;
    let mail = outside.relay.seen(&email).remove(0);
    // Long lines are folded by `=` at their end.
    let text = mail.raw.replace("=\r\n", "").replace("=3D", "=");
    let (_, rest) = text
        .split_once("Choose what you get: https://bell.example.net")
        .expect("a link");
    let path = rest.split_whitespace().next().expect("a path").to_owned();

    let page = api.send(api.bare(Method::GET, &path)).await;
    assert!(
        page.status.is_success() && page.text.contains("What you get"),
        "{page:?}"
    );
    let save = |form: &'static str| {
        let request = api.bare(Method::POST, &path).body(form);
        api.send(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let form = "on:news:email=off&quiet:0:start=22%3A00&quiet:0:end=07%3A00&quiet:0:day=sun";
    let saved = save(form).await;
    assert!(saved.status == 200 && saved.text.contains("Saved."), "{saved:?}");
    let skipped = delivery_in(api, &news(&outside).await, "email", "skipped").await;
    assert_eq!(skipped["reason"], "unsubscribed");
    let quiet = api.get("/v1/users/ada/quiet-hours").await.expect(200);
    assert_eq!(
        quiet["windows"],
        json!([{"days": ["sun"], "start": "22:00", "end": "07:00"}])
    );
    let wrong = save("quiet:0:start=22%3A00&quiet:0:end=").await;
    assert!(
        wrong.status == 422 && wrong.text.contains("role=\"alert\""),
        "{wrong:?}"
    );
    let forged = api
        .send(api.bare(Method::GET, &path.replace("usr_", "usr_0")))
        .await;
    forged.problem(404, "not_found");

    let (_, tag) = path.rsplit_once('~').expect("a tag");
    assert!(
        !outside.server.log().contains(tag),
        "the log has a link that works"
    );
    // Who is forgotten chooses nothing any more.
    api.delete("/v1/users/ada").await.expect(202);
    crate::harness::eventually("the person is gone", async || {
        (api.get("/v1/users/ada").await.status == 404).then_some(())
    })
    .await;
    save("on:news:email=off").await.problem(404, "not_found");
}
