//! Beyond the screen: webhooks and email out of a real server, into receivers that remember what came.

mod arriving;
mod bounces;
mod coming_back;
mod dead_letters;
mod endpoints;
mod events;
mod rotation;
mod rows;
mod withdrawing;

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use crate::harness::{Api, Hook, Hooks, Relay, Server, Start, eventually, secret};

/// What the server signs in to the relay with.
const PASSWORD: &str = "canary-of-the-relay-5d1c8c0e";

/// A server with a relay and a receiver of webhooks, impatient, so that retries take no test's time.
pub(super) struct Outside {
    pub(super) server: Server,
    pub(super) api: Api,
    pub(super) hooks: Hooks,
    pub(super) relay: Relay,
}

impl Outside {
    pub(super) async fn start() -> Self {
        Self::start_with(|start| start).await
    }

    /// The same, with more settings.
    pub(super) async fn start_with(more: impl FnOnce(Start) -> Start) -> Self {
        let (hooks, relay) = (Hooks::start().await, Relay::start().await);
        let server = more(impatient(relay.port())).serve().await;
        let api = server.api().await;
        Self {
            server,
            api,
            hooks,
            relay,
        }
    }

    /// Gives `user` an email address and a webhook at the receiver, both named after him; answers the email address.
    pub(super) async fn reachable(&self, user: &str) -> String {
        let email = format!("{user}@example.net");
        let addresses = json!([
            {"channel": "email", "address": email},
            {"channel": "webhook", "address": self.hooks.url(&format!("/{user}"))},
        ]);
        let path = format!("/v1/users/{user}");
        self.api
            .put(&path, &json!({"addresses": addresses}))
            .await
            .expect(200);
        email
    }

    /// Registers an endpoint of the tenant at `path`; answers its id and secret.
    pub(super) async fn endpoint(&self, path: &str, more: Value) -> (String, String) {
        let mut request = json!({"url": self.hooks.url(path), "events": ["endpoint.disabled"]});
        let fields = more.as_object().expect("an object").clone();
        request.as_object_mut().expect("an object").extend(fields);
        let made = self
            .api
            .post("/v1/webhooks/endpoints", &request)
            .await
            .expect(201);
        (text(&made["id"]), text(&made["secrets"][0]["secret"]))
    }

    /// Sends an endpoint a test; answers the delivery's id.
    pub(super) async fn test(&self, endpoint: &str) -> String {
        let path = format!("/v1/webhooks/endpoints/{endpoint}/test");
        text(&self.api.post(&path, &json!({})).await.expect(202)["delivery_id"])
    }
}

/// Loopback may be called and everything happens soon.
pub(crate) fn impatient(relay: u16) -> Start {
    secret("relay password", PASSWORD);
    secret(
        "relay password",
        &BASE64_STANDARD.encode(format!("\0hub\0{PASSWORD}")),
    );
    let dkim = KeyPair::generate_for(&PKCS_ED25519)
        .expect("a key")
        .serialize_pem();
    let encoded = dkim.lines().filter(|line| !line.starts_with('-'));
    encoded.for_each(|line| secret("DKIM key", line));
    Start::default()
        .env("CARILLON_CHANNELS__EMAIL__DKIM__KEY", dkim)
        .env("CARILLON_CHANNELS__EMAIL__DKIM__SELECTOR", "s1")
        .env("CARILLON_CHANNELS__EMAIL__DKIM__DOMAIN", "example.net")
        .env("CARILLON_SERVER__PUBLIC_URL", "https://bell.example.net")
        .env("CARILLON_OUTBOUND__ALLOW_NETWORKS", "[\"127.0.0.1/32\"]")
        .env("CARILLON_OUTBOUND__PORTS", "[\"1-65535\"]")
        .env("CARILLON_OUTBOUND__CONNECT", "1s")
        .env("CARILLON_OUTBOUND__TOTAL", "1s")
        .env("CARILLON_CHANNELS__EMAIL__HOST", "127.0.0.1")
        .env("CARILLON_CHANNELS__EMAIL__PORT", relay)
        .env("CARILLON_CHANNELS__EMAIL__SECURITY", "none")
        .env("CARILLON_CHANNELS__EMAIL__AUTH", "plain")
        .env("CARILLON_CHANNELS__EMAIL__USERNAME", "hub")
        .env("CARILLON_CHANNELS__EMAIL__PASSWORD", PASSWORD)
        .env("CARILLON_CHANNELS__EMAIL__FROM", "hub@example.net")
        .env("CARILLON_CHANNELS__EMAIL__CONNECT_TIMEOUT", "1s")
        .env("CARILLON_CHANNELS__EMAIL__TIMEOUT", "1s")
        .env("CARILLON_DISPATCHER__DELIVERY__RETRY__FIRST", "200ms")
        .env("CARILLON_DISPATCHER__DELIVERY__RETRY__LONGEST", "400ms")
        .env("CARILLON_DISPATCHER__DELIVERY__BREAKER__FIRST", "200ms")
        .env("CARILLON_DISPATCHER__DELIVERY__BREAKER__LONGEST", "400ms")
}

/// A notification to `targets` over `channels`.
pub(super) fn over(channels: &[&str], targets: Value, title: &str) -> Value {
    json!({"targets": targets, "channels": channels, "content": {"title": title, "body": "In words."}})
}

/// An email to a plain address.
pub(super) fn plain(channel: &str, to: &str) -> Value {
    json!([{"address": {"channel": channel, "to": to}}])
}

pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

/// All deliveries of a notification over `channel`.
pub(super) fn deliveries(shown: &Value, channel: &str) -> Vec<Value> {
    let recipients = shown["recipients"]["data"].as_array().expect("recipients");
    let all = recipients
        .iter()
        .flat_map(|recipient| recipient["deliveries"].as_array().expect("deliveries"));
    all.filter(|delivery| delivery["channel"] == channel)
        .cloned()
        .collect()
}

/// The one delivery of a notification over `channel`, once it is in `state`.
pub(super) async fn delivery_in(api: &Api, notification: &str, channel: &str, state: &str) -> Value {
    eventually(&format!("{channel} of {notification} to be {state}"), || async {
        let shown = api.notification(notification).await;
        let found = deliveries(&shown, channel);
        assert!(found.len() <= 1, "{shown}");
        found.into_iter().find(|delivery| delivery["state"] == state)
    })
    .await
}

/// The delivery as its own route shows it.
pub(super) async fn delivery(api: &Api, id: &str) -> Value {
    api.get(&format!("/v1/deliveries/{id}")).await.expect(200)
}

/// The delivery once it is in `state`.
pub(super) async fn settled(api: &Api, id: &str, state: &str) -> Value {
    eventually(&format!("{id} to be {state}"), || async {
        let shown = delivery(api, id).await;
        (shown["state"] == state).then_some(shown)
    })
    .await
}

/// The outcomes of a delivery's attempts, oldest first.
pub(super) fn outcomes(delivery: &Value) -> Vec<&str> {
    let attempts = delivery["attempts"].as_array().expect("attempts");
    attempts
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap_or("none"))
        .collect()
}

/// The signature that a secret `whsec_...` gives, by another implementation of HMAC than the server's own.
pub(super) fn hmac(key: &str, hook: &Hook) -> String {
    let key = BASE64_STANDARD
        .decode(key.strip_prefix("whsec_").expect("an HMAC secret"))
        .expect("base64");
    let key = EncodingKey::from_secret(&key);
    let signature = crypto::sign(hook.signed().as_bytes(), &key, Algorithm::HS256).expect("signs");
    BASE64_STANDARD.encode(BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64"))
}

/// Whether one of the Ed25519 signatures fits a key `whpk_...`.
pub(super) fn fits_ed25519(public: &str, hook: &Hook) -> bool {
    let key = BASE64_STANDARD
        .decode(public.strip_prefix("whpk_").expect("a public key"))
        .expect("base64");
    let key = DecodingKey::from_ed_der(&key);
    hook.signatures("v1a").into_iter().any(|signature| {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(BASE64_STANDARD.decode(signature).expect("base64"));
        crypto::verify(&signature, hook.signed().as_bytes(), &key, Algorithm::EdDSA).expect("a signature")
    })
}
