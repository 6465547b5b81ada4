//! A wrong configuration ends the program at once and says which key, and why.

use std::time::{Duration, Instant};

use crate::harness::{Finished, Start, carillon};

/// Starts a server that must not start.
async fn refused(config: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("carillon.toml");
    std::fs::write(&file, config).expect("written");
    let file = file.display().to_string();
    let mut all = vec![
        "serve",
        "--data",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--config",
        &file,
    ];
    all.extend(arguments);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let begun = Instant::now();
    let finished = carillon(&all, &environment).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}: {finished:?}",
        begun.elapsed()
    );
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    finished
}

#[tokio::test]
async fn an_unknown_key_or_a_bad_value_is_named_with_its_reason() {
    for (config, key, reason) in [
        ("[hub]\nping_intervall = \"1s\"\n", "ping_intervall", "unknown"),
        ("[nonsense]\n", "nonsense", "unknown"),
        ("[hub]\nping_interval = \"soon\"\n", "hub.ping_interval", "30s"),
        (
            "[hub]\nchannel_limit = \"many\"\n",
            "hub.channel_limit",
            "expected a whole number, 0 or more, not \"many\"",
        ),
        (
            "[hub]\nping_interval = \"1500ms\"\n",
            "hub.ping_interval",
            "seconds",
        ),
        ("[server]\nlisten = [\"nowhere\"]\n", "server.listen", "address"),
        (
            "[server.limits]\nbody = \"1KiB\"\nheader = \"0s\"\n",
            "server.limits.header",
            "more than nothing",
        ),
        (
            "[server.tls]\ncertificate = \"x.pem\"\n",
            "server.tls",
            "belong together",
        ),
        ("[store]\nurl = \"mysql://x\"\n", "store.url", "mysql"),
        ("[auth]\nhmac_secret = \"short\"\n", "auth.hmac_secret", "32"),
        ("this is no toml", "carillon.toml", "1"),
    ] {
        let finished = refused(config, &[], &[]).await;
        assert!(
            finished.stderr.contains(key),
            "{config}: {key} is not named: {finished:?}"
        );
        assert!(
            finished.stderr.contains(reason),
            "{config}: `{reason}` is not the reason: {finished:?}"
        );
    }
}

#[tokio::test]
async fn a_bad_variable_is_named_and_a_stranger_only_warned_of() {
    let finished = refused("", &[("CARILLON_HUB__PING_INTERVAL", "soon")], &[]).await;
    assert!(
        finished.stderr.contains("CARILLON_HUB__PING_INTERVAL")
            || finished.stderr.contains("hub.ping_interval"),
        "{finished:?}"
    );
    let finished = refused("", &[("CARILLON_AUTH__HMAC_SECRET_FILE", "/nonexistent")], &[]).await;
    assert!(finished.stderr.contains("/nonexistent"), "{finished:?}");

    let server = Start::default().env("CARILLON_UNHEARD__OF", "1").serve().await;
    assert!(
        server.log().contains("CARILLON_UNHEARD__OF"),
        "no warning: {}",
        server.log()
    );
}

#[tokio::test]
async fn a_file_a_variable_and_a_flag_win_in_this_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("carillon.toml");
    std::fs::write(&file, "[hub]\nping_interval = \"20s\"\npong_timeout = \"3s\"\n").expect("written");
    let file = file.display().to_string();
    let environment = [("CARILLON_HUB__PING_INTERVAL".to_owned(), "10s".to_owned())];
    let printed = carillon(&["config", "print", "--config", &file], &environment).await;
    assert!(printed.line().contains("ping_interval = \"10s\""), "{printed:?}");
    assert!(printed.line().contains("pong_timeout = \"3s\""), "{printed:?}");
}

#[tokio::test]
async fn the_quickstart_page_is_not_served_to_the_world() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let finished = carillon(&["serve", "--dev", "--data", &data, "--listen", "0.0.0.0:0"], &[]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("loopback"), "{finished:?}");
}
