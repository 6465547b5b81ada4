//! Receivers that verify with the official `standardwebhooks` packages of npm and PyPI.

use std::{path::Path, process::Stdio};

use carillon_channels::webhook::{generate_ed25519, generate_hmac};
use carillon_domain::{
    Fault, Outcome,
    ports::{Channel as _, Message, SigningKey},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::receiver::{channel, config, work};

/// A receiver in its own process; ends with the test.
struct Official {
    url: String,
    _process: Child,
}

#[derive(Debug, Clone, Copy)]
enum Language {
    JavaScript,
    Python,
}

const BOTH: [Language; 2] = [Language::JavaScript, Language::Python];

impl Official {
    /// `key` is a `whsec_` secret or, for JavaScript, a `whpk_` public key.
    async fn start(language: Language, key: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/webhooks");
        let mut command = match language {
            Language::JavaScript => {
                installed(&folder.join("node_modules/standardwebhooks"));
                let mut command = Command::new("node");
                command.arg(folder.join("receiver.mjs"));
                command
            }
            Language::Python => {
                let packages = folder.join("python_packages");
                installed(&packages.join("standardwebhooks"));
                let mut command = Command::new("python3");
                command
                    .arg(folder.join("receiver.py"))
                    .env("PYTHONPATH", packages);
                command
            }
        };
        let mut process = command
            .env("WEBHOOK_KEY", key)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{language:?}: {error}"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("it says its port");
        Self {
            url: format!("http://127.0.0.1:{port}/hook"),
            _process: process,
        }
    }
}

fn installed(package: &Path) {
    assert!(
        package.exists(),
        "{} is missing: `tests/run.sh install` installs it",
        package.display()
    );
}

fn bodies() -> [&'static str; 4] {
    [
        r#"{"type":"delivery.dead","timestamp":"2026-11-21T08:00:00Z","data":{}}"#,
        "{ \"type\" : \"a\",\n\t\"data\": {\"n\": 1.50, \"s\": \"\\u00e9\"} }",
        r#"{"type":"a","data":{"text":"grüße 🔔 \"quoted\" \\ back"}}"#,
        "{}",
    ]
}

#[tokio::test]
async fn the_official_packages_accept_what_we_sign() {
    let secret = generate_hmac().unwrap();
    for language in BOTH {
        let official = Official::start(language, secret.expose()).await;
        let channel = channel(&config());
        for body in bodies() {
            let mut work = work(&official.url);
            work.keys = vec![secret.clone()];
            work.message = Message::Event {
                kind: "delivery.dead".into(),
                body: body.into(),
            };
            let report = channel.attempt(&work).await;
            assert_eq!(
                report.outcome,
                Outcome::Delivered { provider_id: None },
                "{language:?}: {report:?}"
            );
            // The receiver answers with what it verified.
            let expected = format!("{} {}", work.delivery, body.len());
            assert_eq!(report.excerpt, Some(expected), "{language:?}");
        }
    }
}

#[tokio::test]
async fn while_a_secret_rotates_receivers_with_either_accept() {
    let (old, new) = (generate_hmac().unwrap(), generate_hmac().unwrap());
    let extra = generate_ed25519().unwrap().secret;
    for language in BOTH {
        for held in [&old, &new] {
            let official = Official::start(language, held.expose()).await;
            let mut work = work(&official.url);
            work.keys = vec![new.clone(), extra.clone(), old.clone()];
            let report = channel(&config()).attempt(&work).await;
            assert_eq!(
                report.outcome,
                Outcome::Delivered { provider_id: None },
                "{language:?}: {report:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_official_packages_refuse_what_another_key_signed() {
    for language in BOTH {
        let official = Official::start(language, generate_hmac().unwrap().expose()).await;
        let mut work = work(&official.url);
        work.keys = vec![generate_hmac().unwrap()];
        let report = channel(&config()).attempt(&work).await;
        assert_eq!(report.status, Some(401), "{language:?}");
        let refused = matches!(
            report.outcome,
            Outcome::Retry {
                fault: Fault::Address,
                ..
            }
        );
        assert!(refused, "{language:?}: {report:?}");
    }
}

#[tokio::test]
async fn ed25519_verifies_with_nothing_but_the_public_key() {
    let pair = generate_ed25519().unwrap();
    let other = generate_ed25519().unwrap();
    let official = Official::start(Language::JavaScript, &pair.public).await;
    for (key, status) in [(&pair.secret, 200), (&other.secret, 401)] {
        let mut work = work(&official.url);
        work.keys = vec![SigningKey::new(key.expose())];
        let report = channel(&config()).attempt(&work).await;
        assert_eq!(report.status, Some(status), "{report:?}");
    }
}
