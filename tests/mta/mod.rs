//! The whole way of an email with a real mail server: Exim takes it, delivers it, and sends a bounce back where nobody is.
//! Stage `mail` starts the server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    e2e::impatient,
    harness::{Api, Start, eventually},
};

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: `tests/run.sh build mail` starts the mail servers"))
}

/// Where Exim puts what it delivers.
fn mailbox() -> PathBuf {
    Path::new(&variable("CARILLON_TEST_MAIL_FOLDER")).join("exim/mail/new")
}

/// A server whose relay is Exim, over STARTTLS and signed in.
fn over_exim() -> Start {
    let exim = variable("CARILLON_TEST_EXIM");
    let port = exim.rsplit_once(':').expect("host:port").1;
    let authority = Path::new(&variable("CARILLON_TEST_MAIL_FOLDER")).join("authority.pem");
    impatient(port.parse().expect("a port"))
        .env("CARILLON_CHANNELS__EMAIL__SECURITY", "starttls")
        .env("CARILLON_CHANNELS__EMAIL__CA_FILE", authority.display())
        .env("CARILLON_CHANNELS__EMAIL__PASSWORD", "password")
        .env("CARILLON_CHANNELS__EMAIL__CONNECT_TIMEOUT", "10s")
        .env("CARILLON_CHANNELS__EMAIL__TIMEOUT", "10s")
}

/// Sends to a plain address; answers notification and delivery once Exim took it.
async fn accepted(api: &Api, to: &str) -> (String, String) {
    let targets = json!([{"address": {"channel": "email", "to": to}}]);
    let id = api
        .notify(json!({"targets": targets, "content": {"title": "Through a real server"}}))
        .await;
    let delivery = eventually("the relay to take it", || async {
        let shown = api.notification(&id).await;
        let delivery = &shown["recipients"]["data"][0]["deliveries"][0];
        (delivery["state"] == "accepted").then(|| delivery["id"].as_str().expect("an id").to_owned())
    })
    .await;
    (id, delivery)
}

/// What Exim delivered that has both in it.
async fn delivered(one: &str, other: &str) -> Vec<u8> {
    eventually("Exim to deliver it", || async {
        let files = std::fs::read_dir(mailbox()).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read(file.path()).ok())
            .find(|raw| {
                let text = String::from_utf8_lossy(raw);
                text.contains(one) && text.contains(other)
            })
    })
    .await
}

#[tokio::test]
async fn an_email_reaches_a_mailbox_and_a_bounce_reaches_us() {
    let server = over_exim().serve().await;
    let api = server.api().await;
    let (_, delivery) = accepted(&api, "ada@example.net").await;
    let mail = delivered(&format!("<{delivery}@example.net>"), "To: ada@example.net").await;
    assert!(String::from_utf8_lossy(&mail).contains("DKIM-Signature:"));

    // Exim takes it and finds out later that nobody is there.
    let (id, delivery) = accepted(&api, "bounce@example.net").await;
    let bounce = delivered(&delivery, "delivery-status").await;
    let request = api
        .request(reqwest::Method::POST, "/v1/in/dsn")
        .header("content-type", "message/rfc822")
        .body(bounce);
    let taken = api.send(request).await.expect(200);
    assert_eq!(taken["data"][0]["delivery_id"], delivery.as_str(), "{taken}");
    let shown = api.notification(&id).await;
    let lost = &shown["recipients"]["data"][0]["deliveries"][0];
    assert_eq!(lost["state"], "dead", "{shown}");
    assert!(
        matches!(&lost["reason"], Value::String(reason) if reason.starts_with("bounced")),
        "{shown}"
    );
    let dead = api.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead["data"][0]["id"], delivery.as_str(), "{dead}");
    let suppressed = taken["data"][0]["suppressed"] == true;
    let list = api.get("/v1/suppressions").await.expect(200);
    assert_eq!(
        list["data"].as_array().map(Vec::len),
        Some(usize::from(suppressed)),
        "{list}"
    );
}
