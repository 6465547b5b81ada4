use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::{
    sse::Sse,
    wait::{eventually, within},
    ws::Ws,
};

/// A user's name that no other test uses.
pub(crate) fn user_name(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().as_simple())
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = within("the answer's body", response.text())
            .await
            .expect("a body");
        super::secrets::answered(status.as_u16(), &text);
        Self {
            status,
            headers,
            text,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of an answer that must have `status`.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// A problem of RFC 9457 with `status` and `code`; answers its body.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert_eq!(body["status"], status, "{self:?}");
        assert_eq!(
            body["type"],
            format!("https://carillon.dev/problems/{code}"),
            "{self:?}"
        );
        assert!(body["title"].is_string(), "{self:?}");
        assert!(body["trace_id"].is_string(), "{self:?}");
        body
    }

    /// The pointers of a problem's errors.
    #[track_caller]
    pub(crate) fn pointers(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("no errors: {self:?}"));
        errors
            .iter()
            .map(|error| {
                assert!(error["detail"].is_string(), "{self:?}");
                error["pointer"].as_str().expect("a pointer").to_owned()
            })
            .collect()
    }
}

/// A caller: one tenant, one credential.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    server: String,
    prefix: String,
    credential: String,
}

impl Api {
    /// `prefix` is empty or `/t/{tenant}`.
    pub(crate) fn new(server: &str, prefix: &str, credential: &str) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            server: server.to_owned(),
            prefix: prefix.to_owned(),
            credential: credential.to_owned(),
        }
    }

    /// The same tenant with another credential.
    pub(crate) fn with(&self, credential: &str) -> Self {
        Self {
            credential: credential.to_owned(),
            ..self.clone()
        }
    }

    /// The same credential under another prefix.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn credential(&self) -> &str {
        &self.credential
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.server, self.prefix)
    }

    /// A request with the credential, to be completed by the test.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, self.url(path))
            .bearer_auth(&self.credential)
    }

    /// A request without a credential.
    pub(crate) fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::read(
            within("an answer", request.send())
                .await
                .expect("the server answers"),
        )
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` with an idempotency key.
    pub(crate) async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(
            self.request(Method::POST, path)
                .header("idempotency-key", key)
                .json(body),
        )
        .await
    }

    /// Sends a notification and answers its id.
    pub(crate) async fn notify(&self, body: Value) -> String {
        let accepted = self.post("/v1/notifications", &body).await.expect(202);
        assert_eq!(accepted["state"], "accepted");
        accepted["id"].as_str().expect("an id").to_owned()
    }

    /// Sends `title` to `user`.
    pub(crate) async fn ring(&self, user: &str, title: &str) -> String {
        self.notify(json!({"targets": [{"user": user}], "content": {"title": title}}))
            .await
    }

    /// What became of a notification.
    pub(crate) async fn notification(&self, id: &str) -> Value {
        self.get(&format!("/v1/notifications/{id}")).await.expect(200)
    }

    /// A user's own token, of this tenant.
    pub(crate) async fn user(&self, user: &str) -> Self {
        self.user_with(json!({"user": user})).await
    }

    /// A user's token from the body of `POST /v1/tokens`.
    pub(crate) async fn user_with(&self, body: Value) -> Self {
        let minted = self.post("/v1/tokens", &body).await.expect(201);
        self.with(minted["token"].as_str().expect("a token"))
    }

    /// Opens the stream of this user; `query` begins with `?` or is empty.
    pub(crate) async fn stream(&self, query: &str) -> Sse {
        Sse::open(self.request(Method::GET, &format!("/v1/stream{query}"))).await
    }

    /// Comes back to the stream at `position`, as `EventSource` does.
    pub(crate) async fn stream_from(&self, position: &str, query: &str) -> Sse {
        let request = self
            .request(Method::GET, &format!("/v1/stream{query}"))
            .header("last-event-id", position);
        Sse::open(request).await
    }

    /// A WebSocket that has not said anything yet.
    pub(crate) async fn socket(&self) -> Ws {
        Ws::open(&self.url("/connection/websocket").replacen("http", "ws", 1)).await
    }

    /// A WebSocket connected with this credential and `data`.
    pub(crate) async fn connect(&self, data: Value) -> Ws {
        let mut socket = self.socket().await;
        let connected = socket
            .command("connect", json!({"token": self.credential, "data": data}))
            .await;
        assert!(connected.get("error").is_none(), "{connected}");
        socket.connected = connected["connect"].clone();
        socket
    }

    /// The inbox as its first page shows it.
    pub(crate) async fn inbox(&self) -> Value {
        self.get("/v1/inbox").await.expect(200)
    }
}

/// The notifications that were planned for `user`, once there are `count`.
pub(crate) async fn listed(api: &Api, user: &str, count: usize) -> Vec<Value> {
    eventually("the list of a user's notifications", || async {
        let page = api
            .get(&format!("/v1/notifications?user={user}&limit=200"))
            .await
            .expect(200);
        let listed = page["data"].as_array().expect("a list");
        (listed.len() >= count).then(|| listed.clone())
    })
    .await
}
