//! The command line, for what happens outside the inbox: attempts that are followed, dead letters, endpoints.

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::harness::{Api, Server, Start, clean, eventually, shared, within};

/// The receiver of `serve --dev`, and a server that repeats soon.
struct World {
    server: Server,
    api: Api,
    receiver: String,
}

impl World {
    async fn begin() -> Self {
        let server = Start::default()
            .dev()
            .env("CARILLON_DISPATCHER__DELIVERY__RETRY__FIRST", "300ms")
            .env("CARILLON_DISPATCHER__DELIVERY__RETRY__FACTOR", 1)
            .env("CARILLON_DISPATCHER__DELIVERY__RETRY__LONGEST", "300ms")
            // One lane for all: what fails on purpose must not hold up what comes after it.
            .env("CARILLON_DISPATCHER__DELIVERY__BREAKER__FAILURES", 1_000)
            .env("CARILLON_DISPATCHER__DELIVERY__BREAKER__FAILURE_PERCENT", 1_000)
            .serve()
            .await;
        let api = server.api().await;
        let session = api.send(api.bare(Method::GET, "/dev/session")).await.expect(200);
        let receiver = session["receiver"].as_str().expect("a receiver").to_owned();
        Self {
            server,
            api,
            receiver,
        }
    }

    /// What the receiver answers from now on.
    async fn answers(&self, status: u16) {
        let told = json!({"answers": status});
        let request = self.api.bare(Method::PUT, "/dev/receiver/standing").json(&told);
        self.api.send(request).await.expect(200);
    }

    async fn endpoint(&self) -> String {
        let body = json!({"url": self.receiver, "events": ["delivery.dead"], "description": "a test's own"});
        let made = self.api.post("/v1/webhooks/endpoints", &body).await.expect(201);
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A command that is read while it runs.
    fn begin_command(&self, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let data = self.server.data().display().to_string();
        let all = [arguments, &["--data", &data]].concat();
        let mut child = clean(&all)
            .envs(self.server.environment().iter().cloned())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the executable starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        (child, lines)
    }

    /// A notification to the receiver that is dead, and its delivery.
    async fn dead_letter(&self, title: &str) -> String {
        self.answers(500).await;
        let to = format!("webhook:{}", self.receiver);
        let sent = self
            .server
            .command(&[
                "send", "--to", &to, "--title", title, "--ttl", "1s", "--follow", "--json",
            ])
            .await;
        assert_eq!(sent.code, Some(1), "{sent:?}");
        // Either no attempt would come in time, or the time ended before the one that would have.
        assert!(
            sent.stderr.contains("is dead: ") && sent.stderr.contains("answered 500"),
            "{sent:?}"
        );
        let last: Value = serde_json::from_str(sent.stdout.lines().last().expect("lines")).expect("JSON");
        assert_eq!(last["state"], "dead", "{last}");
        last["delivery"].as_str().expect("an id").to_owned()
    }
}

async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    within(what, async {
        loop {
            let line = lines.next_line().await.expect("read").expect("more lines");
            if line.contains(what) {
                return line;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_test_event_is_followed_from_its_first_failure_until_it_has_arrived() {
    let world = World::begin().await;
    let endpoint = world.endpoint().await;
    world.answers(500).await;
    let (mut child, mut lines) = world.begin_command(&["webhooks", "test", &endpoint]);
    let first = line_with(&mut lines, "attempt 1").await;
    assert!(
        first.contains("retry 500") && first.contains("next try"),
        "{first}"
    );
    world.answers(200).await;
    line_with(&mut lines, "delivered 200").await;
    let ended = within("the command's end", child.wait()).await.expect("it ends");
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_fails_its_test_and_is_listed_as_disabled() {
    let world = World::begin().await;
    let endpoint = world.endpoint().await;
    world.answers(410).await;
    let tested = world
        .server
        .command(&["webhooks", "test", &endpoint, "--json"])
        .await;
    assert_eq!(tested.code, Some(1), "{tested:?}");
    assert!(tested.stderr.contains("answered 410"), "{tested:?}");
    let lines: Vec<Value> = tested
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["attempt"]["status"], 410, "{lines:?}");
    assert_eq!(lines[1]["state"], "dead", "{lines:?}");

    let listed = world.server.command(&["webhooks", "list"]).await;
    assert!(
        listed.line().contains(&endpoint) && listed.line().contains("disabled"),
        "{listed:?}"
    );
    let listed = world.server.command(&["webhooks", "list", "--json"]).await;
    let row: Value = serde_json::from_str(listed.line()).expect("JSON");
    assert_eq!(
        (&row["id"], &row["url"]),
        (&json!(endpoint), &json!(world.receiver))
    );
    let again = world.server.command(&["webhooks", "test", &endpoint]).await;
    assert_eq!(again.code, Some(5), "{again:?}");
}

#[tokio::test]
async fn dead_letters_are_listed_and_redriven_until_they_have_arrived() {
    let world = World::begin().await;
    let one = world.dead_letter("first").await;
    let two = world.dead_letter("second").await;

    let listed = world
        .server
        .command(&[
            "dead-letters",
            "list",
            "--channel",
            "webhook",
            "--reason",
            "answered 500",
        ])
        .await;
    for id in [&one, &two] {
        assert!(listed.line().contains(id.as_str()), "{listed:?}");
    }
    let heads = || listed.stdout.lines().filter(|line| line.starts_with("dlv_"));
    assert_eq!(heads().count(), 2, "{}", listed.stdout);
    assert!(
        heads().all(|line| line.chars().count() <= 80),
        "{}",
        listed.stdout
    );
    let newest = world
        .server
        .command(&["dead-letters", "list", "--limit", "1", "--json"])
        .await;
    let row: Value = serde_json::from_str(newest.line()).expect("one line of JSON");
    assert_eq!((&row["id"], &row["state"]), (&json!(two), &json!("dead")));
    assert!(newest.stderr.contains("more"), "{newest:?}");

    world.answers(200).await;
    let driven = world.server.command(&["dead-letters", "redrive", &one]).await;
    assert_eq!(driven.line(), "1 of 1 are pending again");
    let driven = world
        .server
        .command(&["dead-letters", "redrive", "--channel", "webhook", "--json"])
        .await;
    let ended: Value = serde_json::from_str(driven.line()).expect("JSON");
    assert_eq!(
        (&ended["state"], &ended["total"], &ended["done"]),
        (&json!("done"), &json!(1), &json!(1))
    );
    for id in [one, two] {
        eventually("the redriven delivery", || async {
            let delivery = world.api.get(&format!("/v1/deliveries/{id}")).await.expect(200);
            (delivery["state"] == "delivered").then_some(())
        })
        .await;
    }
    let nothing = world.server.command(&["dead-letters", "redrive", "--all"]).await;
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (Some(0), ""),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn a_redrive_names_what_it_is_about_in_one_way() {
    let world = World::begin().await;
    let id = "dlv_019e3f6a5c0070008000000000000001";
    for arguments in [
        &["dead-letters", "redrive"][..],
        &["dead-letters", "redrive", "--all", "--channel", "webhook"],
        &["dead-letters", "redrive", id, "--all"],
        &["dead-letters", "redrive", "nonsense"],
        &["send", "--to", "nowhere", "--title", "x"],
    ] {
        let refused = world.server.command(arguments).await;
        assert_eq!(refused.code, Some(2), "{arguments:?}: {refused:?}");
    }
    let unknown = world
        .server
        .command(&["send", "--to", "pigeon:roof", "--title", "x"])
        .await;
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
    assert!(unknown.stderr.contains("/targets/0/address"), "{unknown:?}");
}

#[tokio::test]
async fn without_a_server_nothing_is_promised_to_arrive() {
    let mut world = World::begin().await;
    let endpoint = world.endpoint().await;
    world.server.kill();
    let tested = world.server.command(&["webhooks", "test", &endpoint]).await;
    assert_eq!(tested.code, Some(4), "{tested:?}");
    let listed = world.server.command(&["webhooks", "list"]).await;
    assert!(listed.line().contains(&endpoint), "{listed:?}");
}

#[tokio::test]
async fn the_page_s_receiver_opens_the_way_to_itself_alone() {
    let world = World::begin().await;
    let register = async |api: &Api, url: &str| {
        api.post("/v1/webhooks/endpoints", &json!({"url": url, "events": ["*"]}))
            .await
    };
    let port = world
        .server
        .address()
        .split_once(':')
        .expect("a port")
        .1
        .to_owned();
    register(&world.api, &world.receiver).await.expect(201);
    for refused in [
        "http://127.0.0.1:9/hook".to_owned(),
        format!("http://127.0.0.2:{port}/dev/receiver"),
        format!("http://localhost:{port}/dev/receiver"),
        format!("http://10.0.0.1:{port}/dev/receiver"),
    ] {
        register(&world.api, &refused)
            .await
            .problem(422, "invalid_request");
    }
    // Plain `serve` has no receiver, and no way to itself.
    let plain = shared().await;
    let api = plain.api().await;
    register(&api, &format!("{}/dev/receiver", plain.url()))
        .await
        .problem(422, "invalid_request");
    let absent = api.send(api.bare(Method::POST, "/dev/receiver")).await;
    assert_eq!(absent.status, 404, "{absent:?}");
}
