//! Stored subscriptions and segments, as lists and as audiences.

use std::time::Duration;

use carillon_domain::{
    Clock as _, ExternalUserId, Scope, Timestamp,
    ports::{Audience, Directory as _},
};
use http::Method;
use serde_json::{Value, json};

use super::{World, name, on_both, tenant};
use crate::subscriptions::{Item, ItemOutcome};

async fn write(world: &World, method: Method, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = world.send(Scope::UsersWrite, method, path, body).await;
    (status.as_u16(), answer)
}

async fn read(world: &World, path: &str) -> Value {
    let (status, answer) = world.call(Scope::NotificationsRead, Method::GET, path).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn topic(text: &str) -> Audience {
    Audience::Topic(text.parse().expect("a topic"))
}

fn segment(text: &str) -> Audience {
    Audience::Segment(text.parse().expect("a segment"))
}

/// Everybody of several audiences, page by page, and how many pages that took.
async fn everybody(
    world: &World,
    audiences: &[Audience],
    born_before: Timestamp,
    limit: usize,
) -> (Vec<String>, usize) {
    let (mut ids, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world
            .users
            .audience(&tenant(), audiences, after, born_before, limit)
            .await
            .expect("read");
        assert!(page.users.len() <= limit);
        pages += 1;
        ids.extend(page.users);
        let Some(next) = page.next else { break };
        assert!(after.is_none_or(|after| next > after), "it goes on");
        after = Some(next);
    }
    assert!(
        ids.windows(2).all(|pair| pair[0] < pair[1]),
        "ascending, each once"
    );
    let names = world.users.names(&tenant(), &ids).await.expect("named");
    (
        names.into_iter().flatten().map(|name| name.to_string()).collect(),
        pages,
    )
}

on_both! {
    async fn a_subscription_is_made_listed_and_ended(world: World) {
        let path = "/v1/topics/room.1/subscriptions";
        for _ in 0..2 {
            assert_eq!(write(&world, Method::PUT, &format!("{path}/ada"), Value::Null).await.0, 204);
        }
        let (status, answer) = write(&world, Method::POST, path, json!({"items": [
            {"subscribe": "bob"}, {"subscribe": "ada"}, {"unsubscribe": "eve"}, {"unsubscribe": "bob"}, {"subscribe": "eve"},
        ]})).await;
        let outcomes: Vec<_> = answer["items"].as_array().expect("a list").iter().map(|item| item["outcome"].clone()).collect();
        assert_eq!((status, outcomes), (200, vec![
            json!("subscribed"), json!("already_subscribed"), json!("not_subscribed"), json!("unsubscribed"), json!("subscribed"),
        ]));
        let listed = read(&world, &format!("{path}?limit=1")).await;
        let next = listed["next"].as_str().expect("a next page");
        let rest = read(&world, &format!("{path}?limit=1&cursor={next}")).await;
        assert_eq!(rest["next"], Value::Null);
        // In the order of internal ids, which is random among users of one millisecond.
        let mut users = [&listed["data"][0]["user"], &rest["data"][0]["user"]].map(|user| user.as_str().unwrap_or("nobody"));
        users.sort_unstable();
        assert_eq!(users, ["ada", "eve"]);
        for _ in 0..2 {
            assert_eq!(write(&world, Method::DELETE, &format!("{path}/ada"), Value::Null).await.0, 204);
        }
        assert_eq!(read(&world, path).await["data"].as_array().map(Vec::len), Some(1));
        for (body, pointer) in [(json!({"items": []}), "/items"), (json!({"items": [{"subscribe": ""}]}), "/items/0/subscribe")] {
            let (status, problem) = write(&world, Method::POST, path, body).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{problem}");
        }
        let many: Vec<_> = (0..1_001).map(|n| json!({"subscribe": n.to_string()})).collect();
        assert_eq!(write(&world, Method::POST, path, json!({"items": many})).await.0, 422);
        assert_eq!(world.call(Scope::NotificationsRead, Method::PUT, &format!("{path}/ada")).await.0, 403);
    }

    async fn a_user_subscribes_himself_to_what_his_token_grants(world: World) {
        let as_ada = async |method: Method, path: &str| world.send_as("ada", method, path, Value::Null).await.0.as_u16();
        assert_eq!(as_ada(Method::PUT, "/v1/topics/room.1/subscriptions/ada").await, 204);
        assert_eq!(as_ada(Method::PUT, "/v1/topics/room.2/subscriptions/ada").await, 204);
        assert_eq!(as_ada(Method::PUT, "/v1/topics/other/subscriptions/ada").await, 403);
        assert_eq!(as_ada(Method::PUT, "/v1/topics/room.1/subscriptions/bob").await, 403);
        assert_eq!(as_ada(Method::GET, "/v1/topics/room.1/subscriptions").await, 403);
        assert_eq!(as_ada(Method::GET, "/v1/users/bob/subscriptions").await, 403);
        let (_, own) = world.send_as("ada", Method::GET, "/v1/users/ada/subscriptions?limit=1", Value::Null).await;
        assert_eq!(own["data"][0]["topic"], "room.1");
        let next = own["next"].as_str().expect("a next page");
        let rest = read(&world, &format!("/v1/users/ada/subscriptions?cursor={next}")).await;
        assert_eq!((rest["data"].as_array().map(Vec::len), &rest["data"][0]["topic"]), (Some(1), &json!("room.2")));
        // What a backend subscribed him to, he leaves himself.
        write(&world, Method::PUT, "/v1/topics/other/subscriptions/ada", Value::Null).await;
        assert_eq!(as_ada(Method::DELETE, "/v1/topics/other/subscriptions/ada").await, 204);
        assert_eq!(as_ada(Method::DELETE, "/v1/topics/other/subscriptions/bob").await, 403);
    }

    async fn nobody_gets_more_subscriptions_than_the_quota(world: World) {
        let item = |subscribe| Item { user: name("ada"), subscribe };
        let change = async |text: &str, items: &[Item]| {
            let topic = text.parse().expect("a topic");
            world.users.store.change_subscriptions(&tenant(), &topic, items, 2, world.clock.now()).await.expect("changed")
        };
        assert_eq!(change("a", &[item(true)]).await, [ItemOutcome::Subscribed]);
        assert_eq!(change("b", &[item(true)]).await, [ItemOutcome::Subscribed]);
        assert_eq!(change("c", &[item(true)]).await, [ItemOutcome::Full]);
        assert_eq!(change("a", &[item(true)]).await, [ItemOutcome::AlreadySubscribed]);
        assert_eq!(change("a", &[item(false)]).await, [ItemOutcome::Unsubscribed]);
        assert_eq!(change("c", &[item(true)]).await, [ItemOutcome::Subscribed]);
    }

    async fn lists_at_once_subscribe_everybody_once(world: World) {
        let list = |reverse: bool| {
            let mut users: Vec<_> = (0..100).map(|n| json!({"subscribe": format!("user-{n:03}")})).collect();
            if reverse {
                users.reverse();
            }
            json!({"items": users})
        };
        let path = "/v1/topics/all/subscriptions";
        let (a, b, c) = tokio::join!(
            write(&world, Method::POST, path, list(false)), write(&world, Method::POST, path, list(true)),
            write(&world, Method::POST, path, list(false)),
        );
        let new = [a, b, c].iter().map(|(status, answer)| {
            assert_eq!(*status, 200, "{answer}");
            answer["items"].as_array().expect("a list").iter().filter(|item| item["outcome"] == "subscribed").count()
        }).sum::<usize>();
        assert_eq!(new, 100);
        assert_eq!(everybody(&world, &[topic("all")], Timestamp::LAST, 1_000).await.0.len(), 100);
    }

    async fn audiences_are_one_list_and_what_is_newer_is_out(world: World) {
        for n in 0..30 {
            let user = format!("user-{n:02}");
            let attributes = json!({"attributes": {"n": n}});
            assert_eq!(write(&world, Method::PUT, &format!("/v1/users/{user}"), attributes).await.0, 200);
            world.clock.advance(Duration::from_millis(1));
        }
        let subscribe = async |name: &str, users: &[u32]| {
            let items: Vec<_> = users.iter().map(|n| json!({"subscribe": format!("user-{n:02}")})).collect();
            write(&world, Method::POST, &format!("/v1/topics/{name}/subscriptions"), json!({"items": items})).await;
        };
        subscribe("even", &[0, 2, 4, 6, 8, 10]).await;
        subscribe("three", &[0, 3, 6, 9]).await;
        write(&world, Method::PUT, "/v1/segments/late", json!({"filter": {"attribute": "n", "gte": 8}})).await;
        let start = world.clock.now();
        let named = |numbers: &[u32]| numbers.iter().map(|n| format!("user-{n:02}")).collect::<Vec<_>>();
        let both = [topic("even"), topic("three")];
        for limit in [1, 2, 3, 100] {
            let (users, pages) = everybody(&world, &both, start, limit).await;
            assert_eq!(users, named(&[0, 2, 3, 4, 6, 8, 9, 10]), "{limit}");
            assert!(limit > 1 || pages >= 8);
        }
        let all = [topic("even"), segment("late"), segment("absent")];
        let (users, _) = everybody(&world, &all, start, 7).await;
        assert_eq!(users, named(&[0, 2, 4, 6].into_iter().chain(8..30).collect::<Vec<_>>()));

        world.clock.advance(Duration::from_secs(1));
        subscribe("even", &[12]).await;
        write(&world, Method::PUT, "/v1/users/new", json!({"attributes": {"n": 99}})).await;
        assert_eq!(everybody(&world, &[topic("even")], start, 100).await.0.len(), 6);
        assert_eq!(everybody(&world, &[segment("late")], start, 100).await.0.len(), 22);
        assert_eq!(everybody(&world, &[segment("late")], world.clock.now(), 100).await.0.len(), 23);
        // Judged when the page is read.
        write(&world, Method::PUT, "/v1/users/user-29", json!({"attributes": {"n": 0}})).await;
        assert_eq!(everybody(&world, &[segment("late")], start, 100).await.0.len(), 21);
        assert_eq!(everybody(&world, &[], start, 100).await, (vec![], 1));
    }

    async fn a_look_at_many_users_is_cut_into_pages(world: World) {
        let users: Vec<ExternalUserId> = (0..1_201).map(|n| name(&format!("user-{n:04}"))).collect();
        world.users.resolve(&tenant(), &users).await.expect("resolved");
        write(&world, Method::PUT, "/v1/users/user-1200", json!({"attributes": {"vip": true}})).await;
        write(&world, Method::PUT, "/v1/segments/vip", json!({"filter": {"attribute": "vip", "is": true}})).await;
        let first = world.users.audience(&tenant(), &[segment("vip")], None, Timestamp::LAST, 100).await.expect("read");
        assert!(first.next.is_some(), "one page looks at so many users and no more");
        let (users, pages) = everybody(&world, &[segment("vip")], Timestamp::LAST, 100).await;
        assert_eq!((users, pages), (vec!["user-1200".to_owned()], 3));
        assert_eq!(read(&world, "/v1/segments/vip/count").await, json!({"count": 1, "scanned": 1_201, "complete": true}));
        write(&world, Method::PUT, "/v1/segments/all", json!({"filter": {"all": []}})).await;
        let preview = read(&world, "/v1/segments/all/preview").await;
        assert_eq!((preview["users"].as_array().map(Vec::len), &preview["complete"], &preview["scanned"]), (Some(20), &json!(true), &json!(20)));
    }

    async fn segments_are_saved_listed_and_removed(world: World) {
        let filter = json!({"all": [{"attribute": "plan", "is": "pro"}, {"not": {"field": "locale", "starts_with": "de"}}]});
        let body = json!({"title": "Paying, not German", "filter": filter});
        let (status, made) = write(&world, Method::PUT, "/v1/segments/pro", body.clone()).await;
        assert_eq!((status, &made["filter"], &made["title"]), (201, &filter, &body["title"]), "{made}");
        assert_eq!(read(&world, "/v1/segments/pro").await, made);
        assert_eq!(write(&world, Method::PUT, "/v1/segments/pro", body).await.0, 200);
        write(&world, Method::PUT, "/v1/segments/a", json!({"filter": {"all": []}})).await;
        let page = read(&world, "/v1/segments?limit=1").await;
        assert_eq!(page["data"][0]["name"], "a");
        let next = page["next"].as_str().expect("a next page");
        assert_eq!(read(&world, &format!("/v1/segments?cursor={next}")).await["data"][0]["name"], "pro");
        let exists = async |text: &str| world.users.has_segment(&tenant(), &text.parse().expect("a segment")).await.expect("asked");
        assert!(exists("pro").await && !exists("other").await);
        assert_eq!(write(&world, Method::DELETE, "/v1/segments/pro", Value::Null).await.0, 204);
        assert_eq!(write(&world, Method::DELETE, "/v1/segments/pro", Value::Null).await.0, 404);
        for path in ["/v1/segments/pro", "/v1/segments/pro/count", "/v1/segments/pro/preview", "/v1/segments/PRO"] {
            assert_eq!(world.call(Scope::NotificationsRead, Method::GET, path).await.0, 404, "{path}");
        }
        let bad = json!({"title": "", "filter": {"any": [{"attribute": "x"}]}});
        let (status, problem) = write(&world, Method::PUT, "/v1/segments/bad", bad).await;
        let pointers: Vec<_> = problem["errors"].as_array().expect("a list").iter().map(|error| error["pointer"].clone()).collect();
        assert_eq!((status, pointers), (422, vec![json!("/title"), json!("/filter/any/0")]));
        let (status, problem) = write(&world, Method::PUT, "/v1/segments/bad", json!({"filter": {"attribute": "x".repeat(20_000), "is": 1}})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/filter")));
        let acme = "acme".parse().expect("a tenant");
        assert!(!world.users.has_segment(&acme, &"a".parse().expect("a segment")).await.expect("asked"));
    }

    async fn an_erasure_takes_devices_activity_and_subscriptions(world: World) {
        world.send_as("ada", Method::POST, "/v1/users/ada/devices", json!({"kind": "browser", "name": "pen"})).await;
        world.send_as("ada", Method::POST, "/v1/activity", json!({"focused": true})).await;
        write(&world, Method::PUT, "/v1/topics/room.1/subscriptions/ada", Value::Null).await;
        write(&world, Method::PUT, "/v1/users/ada", json!({"timezone": "UTC", "attributes": {"secret": 1}})).await;
        write(&world, Method::PUT, "/v1/segments/all", json!({"filter": {"all": []}})).await;
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
        world.users.erase(&tenant(), &name("ada")).await.expect("begun");
        let gone = world.beside().await.profiles(&tenant(), &id).await.expect("read").remove(0);
        assert_eq!(gone, carillon_domain::ports::Profile::default());
        assert_eq!(world.users.store.devices(&tenant(), id[0]).await.expect("read"), []);
        let both = [topic("room.1"), segment("all")];
        assert_eq!(everybody(&world, &both, Timestamp::LAST, 10).await.0, Vec::<String>::new());
        assert_eq!(read(&world, "/v1/topics/room.1/subscriptions").await["data"], json!([]));
        assert_eq!(read(&world, "/v1/users/ada").await["attributes"], json!({}));
    }
}
