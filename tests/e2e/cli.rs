//! The command line: what it prints, and what its exit code means.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Start, Store, carillon, shared, user_name, within};

#[tokio::test]
async fn keys_and_tokens_are_printed_alone() {
    let server = shared().await;
    let key = server
        .command(&["keys", "create", "--tenant", "default", "--name", "ci"])
        .await;
    let key = key.line();
    assert!(
        key.starts_with("crk_") && !key.contains(char::is_whitespace),
        "{key}"
    );
    let api = server.api().await.with(key);
    api.get("/v1/notifications").await.expect(200);

    let user = user_name("ada");
    let token = server.command(&["token", "--user", &user, "--ttl", "1h"]).await;
    let token = token.line();
    assert_eq!(token.split('.').count(), 3, "{token}");
    api.with(token).get("/v1/inbox").await.expect(200);

    let scoped = server
        .command(&[
            "keys",
            "create",
            "--name",
            "reader",
            "--scope",
            "notifications:read",
        ])
        .await;
    let reader = api.with(scoped.line());
    reader.get("/v1/notifications").await.expect(200);
    reader
        .post("/v1/tokens", &json!({"user": user}))
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn nothing_is_accepted_for_a_tenant_that_does_not_exist() {
    let server = shared().await;
    let tenant = user_name("initech");
    let send = ["send", "--tenant", &tenant, "--user", "ada", "--title", "x"];
    for arguments in [&send[..], &["token", "--tenant", &tenant, "--user", "ada"]] {
        let refused = server.command(arguments).await;
        assert_eq!(refused.code, Some(5), "{refused:?}");
        assert!(
            refused.stderr.contains(&format!("no tenant {tenant}")),
            "{refused:?}"
        );
    }
    server
        .command(&["keys", "create", "--tenant", &tenant, "--name", "first"])
        .await
        .line();
    server.command(&send).await.line();
}

#[tokio::test]
async fn a_sent_notification_is_followed_by_tail() {
    let server = shared().await;
    let user = user_name("ada");
    let data = server.data().display().to_string();
    let mut tail = crate::harness::clean(&["tail", "--user", &user, "--data", &data])
        .envs(server.environment().iter().cloned())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the executable starts");
    let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    // The first line says where it stands; what is sent after it is followed.
    let first = within("tail's first line", lines.next_line())
        .await
        .expect("read");
    assert!(first.is_some(), "tail ended");
    let sent = server
        .command(&[
            "send",
            "--user",
            &user,
            "--title",
            "Build failed",
            "--body",
            "main is red",
        ])
        .await;
    assert!(sent.line().contains("ntf_"), "{sent:?}");
    let line = within("tail's line", async {
        loop {
            let line = lines.next_line().await.expect("read").expect("tail goes on");
            if line.contains("Build failed") {
                return line;
            }
        }
    })
    .await;
    assert!(line.contains("added"), "{line}");

    let sent = server
        .command(&[
            "send",
            "--user",
            &user,
            "--title",
            "again",
            "--digest-key",
            "main",
            "--json",
        ])
        .await;
    let answer: Value = serde_json::from_str(sent.line()).expect("JSON");
    let id = answer["id"].as_str().expect("an id");
    assert!(id.starts_with("ntf_"), "{answer}");
    let shown = server.api().await.get(&format!("/v1/notifications/{id}")).await;
    assert_eq!(shown.expect(200)["digest_key"], "main");
}

#[tokio::test]
async fn doctor_and_migrate_and_config_answer() {
    let server = shared().await;
    let doctor = server.command(&["doctor"]).await;
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(!doctor.stdout.is_empty());
    let printed = server.command(&["config", "print"]).await;
    assert!(printed.line().contains("[hub]"), "{printed:?}");
    let checked = server.command(&["config", "check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");

    if Store::under_test() == Store::Sqlite {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().display().to_string();
        let migrated = carillon(&["migrate", "--data", &data], &[]).await;
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        // Without a server the store is opened directly.
        let key = carillon(&["keys", "create", "--name", "first", "--data", &data], &[]).await;
        assert!(key.line().starts_with("crk_"), "{key:?}");
        let master = std::fs::read_dir(folder.path())
            .expect("the folder")
            .filter_map(Result::ok);
        for file in master.filter(|file| file.file_type().is_ok_and(|kind| kind.is_file())) {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("metadata").permissions());
            assert_eq!(mode & 0o077, 0, "{:?} is readable by others", file.path());
        }
    }
}

#[tokio::test]
async fn only_serve_and_migrate_make_a_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let typo = folder.path().join("typo");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    for data in [&typo, &empty] {
        let path = data.display().to_string();
        for command in [
            &["send", "--user", "ada", "--title", "x"][..],
            &["keys", "create", "--name", "x"],
            &["keys", "list"],
            &["token", "--user", "ada"],
            &["tail", "--user", "ada"],
            &["doctor"],
        ] {
            let refused = carillon(&[command, &["--data", &path]].concat(), &[]).await;
            assert_eq!(refused.code, Some(3), "{command:?}: {refused:?}");
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert!(said.contains(&path), "{command:?}: {refused:?}");
        }
    }
    assert!(!typo.exists(), "nothing is made");
    let left = std::fs::read_dir(&empty).expect("the folder").count();
    assert_eq!(left, 0, "nothing is made");
    let path = empty.display().to_string();
    let migrated = carillon(&["migrate", "--data", &path], &[]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let sent = carillon(&["send", "--user", "ada", "--title", "x", "--data", &path], &[]).await;
    assert!(sent.line().starts_with("ntf_"), "{sent:?}");
}

#[tokio::test]
async fn a_secret_is_never_printed() {
    let secret = "a-shared-secret-of-thirty-two-bytes-or-more";
    let printed = carillon(
        &["config", "print"],
        &[("CARILLON_AUTH__HMAC_SECRET".to_owned(), secret.to_owned())],
    )
    .await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(
        !printed.stdout.contains(secret) && !printed.stderr.contains(secret),
        "{printed:?}"
    );
}

#[tokio::test]
async fn mistakes_have_exit_codes_and_say_why_on_stderr() {
    let server = shared().await;
    for arguments in [
        &["nonsense"][..],
        &["keys", "create"],
        &["send", "--user", "x"],
        &["token"],
    ] {
        let finished = carillon(arguments, &[]).await;
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(
            finished.stdout.is_empty() && !finished.stderr.is_empty(),
            "{finished:?}"
        );
    }
    let refused = server
        .command(&["keys", "create", "--name", "x", "--scope", "nonsense"])
        .await;
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(
        refused.stdout.is_empty() && refused.stderr.contains("nonsense"),
        "{refused:?}"
    );
    let away = carillon(
        &[
            "send",
            "--url",
            "http://127.0.0.1:9",
            "--user",
            "x",
            "--title",
            "x",
        ],
        &[],
    )
    .await;
    assert_eq!(away.code, Some(4), "{away:?}");
    assert!(!away.stderr.is_empty(), "{away:?}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_folder() {
    let server = Start::default().serve().await;
    let second = server.command(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.code, Some(6), "{second:?}");
    assert!(second.stderr.contains("data.path"), "{second:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_ends_the_start_with_a_code_of_its_own() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let refused = carillon(&["serve", "--data", &data, "--listen", &address], &[]).await;
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.stderr.contains(&address), "{refused:?}");
    // An address of another machine is no neighbour's fault, but the configuration's.
    let foreign = carillon(&["serve", "--data", &data, "--listen", "192.0.2.1:8080"], &[]).await;
    assert_eq!(foreign.code, Some(3), "{foreign:?}");
}

#[tokio::test]
async fn a_database_that_nobody_serves_ends_the_start_as_unreachable() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    // Bound and closed again: nobody listens there now.
    let address = {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        unused.local_addr().expect("bound")
    };
    let url = format!("postgres://carillon:hunter2@{address}/carillon");
    let environment = [("CARILLON_STORE__URL".to_owned(), url)];
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        let arguments = [command, &["--data", &data]].concat();
        let refused = carillon(&arguments, &environment).await;
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(
            refused.stderr.contains("store.url") && !refused.stderr.contains("hunter2"),
            "{refused:?}"
        );
    }
}
