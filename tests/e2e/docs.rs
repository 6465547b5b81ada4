//! The examples of the documentation: every `sh` block of these pages runs, in its order, against `serve --dev`, and must
//! succeed; an HTTP error is a failure. `<!-- not run: why -->` above a block leaves it out.

use std::{fmt::Write as _, path::Path, process::Stdio};

use tokio::process::Command;

use crate::harness::{Server, Start, executable, within};

/// Above a block that is left out.
const NOT_RUN: &str = "<!-- not run:";

/// What every page begins with: an HTTP error is a failure.
const PREAMBLE: &str =
    "set -e\ncurl() { command curl --silent --show-error --fail-with-body --max-time 20 \"$@\"; }\n";

/// A bounce that belongs to no delivery: it is taken and ignored.
const BOUNCE: &str = "From: mailer-daemon@relay.example\r\nTo: bounces@example.org\r\nSubject: Undelivered\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nNobody of that name.\r\n\
    --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n\
    Final-Recipient: rfc822; ada@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n";

/// A block of a page.
struct Block {
    line: usize,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = None;
    let mut left_out = false;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.trim_end()) {
            (Some(_), "```") => blocks.extend(open.take().flatten()),
            (Some(Some(block)), line) => {
                let block: &mut Block = block;
                writeln!(block.text, "{line}").expect("a string");
            }
            (Some(None), _) => {}
            (None, "```sh") => {
                let block = Block {
                    line: index + 1,
                    text: String::new(),
                };
                open = Some((!std::mem::take(&mut left_out)).then_some(block));
            }
            (None, line) if line.starts_with("```") => (open, left_out) = (Some(None), false),
            (None, "") => {}
            (None, line) => left_out = line.starts_with(NOT_RUN),
        }
    }
    blocks
}

async fn server() -> Server {
    Start::default()
        .dev()
        // There is a channel `email`, whose relay is away.
        .env("CARILLON_CHANNELS__EMAIL__HOST", "127.0.0.1")
        .env("CARILLON_CHANNELS__EMAIL__PORT", 9)
        .env("CARILLON_CHANNELS__EMAIL__SECURITY", "none")
        .env("CARILLON_CHANNELS__EMAIL__FROM", "hub@example.org")
        .serve()
        .await
}

async fn run(name: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join(name)).expect("the page");
    let blocks = blocks(&page);
    assert!(
        blocks.len() >= least,
        "{name} has {} blocks that run",
        blocks.len()
    );
    let server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(server.data(), folder.path().join("data")).expect("a link");
    std::os::unix::fs::symlink(executable(), folder.path().join("carillon")).expect("a link");
    std::fs::write(folder.path().join("bounce.eml"), BOUNCE).expect("written");
    std::os::unix::fs::symlink(root.join("docs/scenarios"), folder.path().join("scenarios")).expect("a link");

    let mut script = PREAMBLE.to_owned();
    for Block { line, text } in &blocks {
        // As in a terminal: one block after the other, with the variables of those before.
        writeln!(script, "echo '-- {name}:{line}' >&2").expect("a string");
        script.push_str(
            &text
                .replace("localhost:8080", "127.0.0.1:8080")
                .replace("127.0.0.1:8080", &server.address()),
        );
    }
    let path = std::env::var("PATH").expect("PATH");
    let mut command = Command::new("bash");
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CARILLON_") {
            command.env_remove(variable);
        }
    }
    let output = command
        .args(["-c", &script])
        .current_dir(folder.path())
        .envs(server.environment().iter().cloned())
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("KEY", server.api().await.credential())
        .env("URL", format!("http://{}", server.address()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(name, output).await.expect("bash runs");
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{name} ended with {}\n{complained}\n{said}",
        output.status
    );
}

#[tokio::test]
async fn the_tour_of_the_readme_works_as_it_stands() {
    run("README.md", 7).await;
}

#[tokio::test]
async fn the_examples_about_channels_work_as_they_stand() {
    run("docs/channels.md", 6).await;
}

#[tokio::test]
async fn the_examples_about_webhooks_work_as_they_stand() {
    run("docs/webhooks.md", 8).await;
}

#[tokio::test]
async fn the_examples_about_templates_work_as_they_stand() {
    run("docs/templates.md", 3).await;
}

#[tokio::test]
async fn the_examples_about_broadcasts_work_as_they_stand() {
    run("docs/broadcasts.md", 7).await;
}

#[tokio::test]
async fn the_examples_about_preferences_work_as_they_stand() {
    run("docs/preferences.md", 5).await;
}

#[tokio::test]
async fn the_examples_about_tools_work_as_they_stand() {
    run("docs/integrations.md", 6).await;
}

#[tokio::test]
async fn the_examples_about_events_work_as_they_stand() {
    run("docs/events.md", 7).await;
}

#[tokio::test]
async fn the_examples_about_users_work_as_they_stand() {
    run("docs/users.md", 5).await;
}

#[tokio::test]
async fn the_story_of_a_parcel_goes_as_it_is_told() {
    run("docs/scenarios/shipping-update.md", 5).await;
}

#[tokio::test]
async fn the_story_of_an_incident_goes_as_it_is_told() {
    run("docs/scenarios/incident-on-call.md", 5).await;
}

#[tokio::test]
async fn the_story_of_a_mention_goes_as_it_is_told() {
    run("docs/scenarios/chat-mention.md", 5).await;
}

#[tokio::test]
async fn the_story_of_the_news_goes_as_it_is_told() {
    run("docs/scenarios/marketing-digest.md", 5).await;
}

#[tokio::test]
async fn the_story_of_a_code_goes_as_it_is_told() {
    run("docs/scenarios/one-time-code.md", 4).await;
}

#[tokio::test]
async fn the_story_of_a_broadcast_goes_as_it_is_told() {
    run("docs/scenarios/broadcast-with-cancel.md", 4).await;
}

#[test]
fn only_shell_blocks_that_are_not_left_out_run() {
    let page = "a\n```sh\none\n```\n<!-- not run: it ends never -->\n\n```sh\ntwo\n```\n```js\nthree\n```\n```sh\nfour\nfive\n```\n";
    let found: Vec<_> = blocks(page)
        .into_iter()
        .map(|block| (block.line, block.text))
        .collect();
    assert_eq!(found, [(2, "one\n".to_owned()), (13, "four\nfive\n".to_owned())]);
}
