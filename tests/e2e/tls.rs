//! TLS when a certificate is given: HTTP/1.1 and HTTP/2, and a new certificate without a restart.

use std::path::Path;

use reqwest::{Certificate, Version, tls::TlsInfo};
use serde_json::json;

use crate::harness::{Server, Sse, Start, eventually};

/// Writes a new self-signed certificate for the loopback address, and answers it as PEM.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).expect("written");
    made.cert.pem()
}

fn trusting(pem: &str) -> reqwest::ClientBuilder {
    let certificate = Certificate::from_pem(pem.as_bytes()).expect("PEM");
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
}

async fn serve(folder: &Path) -> Server {
    Start::default()
        .env(
            "CARILLON_SERVER__TLS__CERTIFICATE",
            folder.join("certificate.pem").display(),
        )
        .env("CARILLON_SERVER__TLS__KEY", folder.join("key.pem").display())
        .serve()
        .await
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let pem = certify(folder.path());
    let server = serve(folder.path()).await;
    let key = server.create_key("default", &[]).await;
    let url = format!("https://{}", server.address());

    let two = trusting(&pem).build().expect("a client");
    let answer = two
        .get(format!("{url}/health/live"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    let one = trusting(&pem).http1_only().build().expect("a client");
    let answer = one
        .get(format!("{url}/health/live"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_11)
    );

    // A stream over each of them.
    let minted = two
        .post(format!("{url}/v1/tokens"))
        .bearer_auth(&key)
        .json(&json!({"user": "ada"}));
    let minted: serde_json::Value = minted
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let token = minted["token"].as_str().expect("a token");
    let mut streams = Vec::new();
    for client in [&one, &two] {
        streams.push(Sse::open(client.get(format!("{url}/v1/stream")).bearer_auth(token)).await);
    }
    let body = json!({"targets": [{"user": "ada"}], "content": {"title": "x"}});
    let sent = two
        .post(format!("{url}/v1/notifications"))
        .bearer_auth(&key)
        .json(&body)
        .send()
        .await;
    assert_eq!(sent.expect("an answer").status(), 202);
    for stream in &mut streams {
        assert_eq!(stream.next().await.event, "added");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = certify(folder.path());
    let server = serve(folder.path()).await;
    let url = format!("https://{}/health/live", server.address());
    trusting(&old)
        .build()
        .expect("a client")
        .get(&url)
        .send()
        .await
        .expect("the old one is good");

    let new = certify(folder.path());
    eventually("the new certificate", || async {
        let client = trusting(&new).tls_info(true).build().expect("a client");
        let answer = client.get(&url).send().await.ok()?;
        answer.extensions().get::<TlsInfo>().map(|_| ())
    })
    .await;
}
