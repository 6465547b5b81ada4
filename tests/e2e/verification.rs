//! Codes that confirm addresses, from the request to the far end and back.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::harness::{Start, user_name};

/// Takes one request in and answers well; its body.
async fn received(listener: &TcpListener) -> Value {
    let (mut stream, _) = listener.accept().await.expect("accepts");
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).await.expect("reads");
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        // The last byte makes it JSON.
        if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("answers");
            return body;
        }
        assert!(read > 0, "the request ended in the middle: {text}");
    }
}

/// The six digits in a text.
fn code(body: &Value) -> String {
    let title = body["data"]["content"]["title"].as_str().expect("a title");
    title.chars().take_while(char::is_ascii_digit).collect()
}

#[tokio::test]
async fn a_code_comes_to_the_address_and_confirms_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = Start::default()
        .config(&format!(
            "[outbound]\nallow_networks = [\"127.0.0.0/8\"]\nports = [\"{port}\"]\n"
        ))
        .serve()
        .await;
    let api = server.api().await;
    let user = user_name("ada");
    let url = format!("http://127.0.0.1:{port}/");
    let path = format!("/v1/users/{user}");
    let addresses = json!({"addresses": [{"channel": "webhook", "address": url}]});
    let put = api.request(Method::PUT, &path).json(&addresses);
    let made = api.send(put).await.expect(200);
    let device = made["addresses"][0]["id"].as_str().expect("an id");
    assert_eq!(made["addresses"][0]["verified"], false);
    let verification = format!("{path}/devices/{device}/verification");
    let body = json!({});
    api.post(&verification, &body).await.expect(202);
    let code = code(&received(&listener).await);
    assert_eq!(code.len(), 6, "{code}");
    let listed = api.get("/v1/notifications?category=carillon.verification").await;
    let id = listed.expect(200)["data"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let shown = api.get(&format!("/v1/notifications/{id}")).await;
    assert!(!shown.text.contains(&code) && !listed.text.contains(&code));
    let confirm = api
        .request(Method::PUT, &verification)
        .json(&json!({ "code": code }));
    api.send(confirm).await.expect(204);
    let shown = api.get(&path).await.expect(200);
    assert_eq!(shown["addresses"][0]["verified"], true);
    assert!(!server.log().contains(&code), "no log shows a code");
}
