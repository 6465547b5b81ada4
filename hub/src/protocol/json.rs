//! The JSON form: one object per line; several lines may share a frame.

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::codes::{ReplyError, Unsubscribe};

/// What a client asks. Fields that only matter to features this node does not have are ignored, as Centrifugo does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Command<'a> {
    pub(crate) id: u32,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) connect: Option<Connect<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) subscribe: Option<Subscribe<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) unsubscribe: Option<Named<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) publish: Option<Publish<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) rpc: Option<RpcCall<'a>>,
    pub(crate) send: Option<serde::de::IgnoredAny>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) refresh: Option<Refresh<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) sub_refresh: Option<SubRefresh<'a>>,
    pub(crate) presence: Option<serde::de::IgnoredAny>,
    pub(crate) presence_stats: Option<serde::de::IgnoredAny>,
    pub(crate) history: Option<serde::de::IgnoredAny>,
    pub(crate) ping: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connect<'a> {
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    /// Positions of server-side subscriptions to recover, by channel.
    #[serde(borrow)]
    pub(crate) subs: BTreeMap<Cow<'a, str>, Object<Recover<'a>>>,
}

/// What Carillon reads of `connect.data`; everything else in it is the app's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectData<'a> {
    #[serde(borrow)]
    pub(crate) device: Option<Cow<'a, str>>,
    pub(crate) inbox: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Recover<'a> {
    pub(crate) recover: bool,
    pub(crate) offset: u64,
    #[serde(borrow)]
    pub(crate) epoch: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subscribe<'a> {
    #[serde(borrow)]
    pub(crate) channel: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
    pub(crate) recover: bool,
    pub(crate) offset: u64,
    #[serde(borrow)]
    pub(crate) epoch: Cow<'a, str>,
    /// Bit 2: rather an error 112 than a subscription that could not recover.
    pub(crate) flag: u64,
    /// 0: a stream of publications. Others (maps, shared polls) do not exist here.
    pub(crate) r#type: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named<'a> {
    #[serde(borrow)]
    pub(crate) channel: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Publish<'a> {
    #[serde(borrow)]
    pub(crate) channel: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    pub(crate) r#type: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RpcCall<'a> {
    #[serde(borrow)]
    pub(crate) method: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refresh<'a> {
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SubRefresh<'a> {
    #[serde(borrow)]
    pub(crate) channel: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
}

impl Command<'_> {
    /// The empty command answers a ping.
    pub(crate) fn is_pong(&self) -> bool {
        self.subscribe.is_none()
            && self.unsubscribe.is_none()
            && self.publish.is_none()
            && self.rpc.is_none()
            && self.refresh.is_none()
            && self.sub_refresh.is_none()
            && self.presence.is_none()
            && self.presence_stats.is_none()
            && self.history.is_none()
            && self.ping.is_none()
    }
}

/// Reads one line.
///
/// # Errors
/// When it is no command.
pub(crate) fn command(line: &str) -> Result<Command<'_>, serde_json::Error> {
    serde_json::from_str(line).map(|Object(command)| command)
}

/// Reads what Carillon knows of `connect.data`; nothing when that is no object, and so the app's own.
///
/// # Errors
/// When an object has a key of ours with a value of another type: guessing could open what was not wanted.
pub(crate) fn connect_data(data: Option<&RawValue>) -> Result<ConnectData<'_>, serde_json::Error> {
    match data.map(RawValue::get) {
        Some(object) if object.starts_with('{') => serde_json::from_str(object),
        _ => Ok(ConnectData::default()),
    }
}

/// What is written as an object. Left to itself, serde also takes a struct's fields from a list, in their order: nobody
/// means that, and a list that is refused today can get a meaning later.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Read(PhantomData)).map(Self)
    }
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(read)| read))
}

/// One publication within a reply or push, encoded.
pub(crate) struct EncodedPublication(pub(crate) String);

/// How a subscription begins.
#[derive(Debug, Default)]
pub(crate) struct Subscribed {
    pub(crate) recoverable: bool,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    pub(crate) recovered: bool,
    pub(crate) was_recovering: bool,
    /// Encoded publications.
    pub(crate) publications: Vec<EncodedPublication>,
    /// Seconds until the subscription expires.
    pub(crate) ttl: Option<u32>,
}

impl std::fmt::Debug for EncodedPublication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client is told when it has connected.
#[derive(Debug)]
pub(crate) struct Connected<'a> {
    pub(crate) client: &'a str,
    pub(crate) session: &'a str,
    pub(crate) ping_seconds: u64,
    /// Seconds until the token expires.
    pub(crate) ttl: Option<u32>,
    pub(crate) subs: Vec<(&'a str, Subscribed)>,
}

/// The product's name in the connect reply's `version`.
const VERSION: &str = concat!("carillon ", env!("CARGO_PKG_VERSION"));

pub(crate) fn connected(id: u32, reply: &Connected<'_>) -> String {
    let mut out = format!("{{\"id\":{id},\"connect\":{{\"client\":");
    string(&mut out, reply.client);
    out.push_str(",\"version\":");
    string(&mut out, VERSION);
    out.push_str(",\"session\":");
    string(&mut out, reply.session);
    out.push_str(&format!(",\"ping\":{},\"pong\":true", reply.ping_seconds));
    if let Some(ttl) = reply.ttl {
        out.push_str(&format!(",\"expires\":true,\"ttl\":{ttl}"));
    }
    if !reply.subs.is_empty() {
        out.push_str(",\"subs\":{");
        for (i, (channel, sub)) in reply.subs.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            string(&mut out, channel);
            out.push(':');
            subscribed_object(&mut out, sub);
        }
        out.push('}');
    }
    out.push_str("}}");
    out
}

pub(crate) fn subscribed(id: u32, reply: &Subscribed) -> String {
    let mut out = format!("{{\"id\":{id},\"subscribe\":");
    subscribed_object(&mut out, reply);
    out.push('}');
    out
}

fn subscribed_object(out: &mut String, reply: &Subscribed) {
    let mut fields = Fields::open(out);
    if let Some(ttl) = reply.ttl {
        fields.raw("expires", "true");
        fields.raw("ttl", &ttl.to_string());
    }
    if reply.recoverable {
        fields.raw("recoverable", "true");
        fields.raw("positioned", "true");
        fields.string("epoch", &reply.epoch);
        fields.raw("offset", &reply.offset.to_string());
    }
    if reply.recovered {
        fields.raw("recovered", "true");
    }
    if reply.was_recovering {
        fields.raw("was_recovering", "true");
    }
    if !reply.publications.is_empty() {
        let list: Vec<&str> = reply
            .publications
            .iter()
            .map(|publication| publication.0.as_str())
            .collect();
        fields.raw("publications", &format!("[{}]", list.join(",")));
    }
    fields.close();
}

/// A reply whose result is an empty object: `unsubscribe`, `publish`, `ping`.
pub(crate) fn done(id: u32, method: &str) -> String {
    format!("{{\"id\":{id},\"{method}\":{{}}}}")
}

/// A reply to `refresh` or `sub_refresh`.
pub(crate) fn refreshed(id: u32, method: &str, ttl: Option<u32>) -> String {
    match ttl {
        Some(ttl) => format!("{{\"id\":{id},\"{method}\":{{\"expires\":true,\"ttl\":{ttl}}}}}"),
        None => done(id, method),
    }
}

/// A reply to `rpc`; `data` is JSON on one line.
pub(crate) fn called(id: u32, data: &Bytes) -> String {
    format!("{{\"id\":{id},\"rpc\":{{\"data\":{}}}}}", text(data))
}

pub(crate) fn failed(id: u32, error: &ReplyError) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        code: u32,
        message: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        temporary: bool,
    }
    let body = Body {
        code: error.code,
        message: &error.message,
        temporary: error.temporary,
    };
    format!(
        "{{\"id\":{id},\"error\":{}}}",
        serde_json::to_string(&body).unwrap_or_default()
    )
}

/// The server's ping, and its answer to a client's.
pub(crate) const PING: &str = "{}";

/// `data` is JSON on one line; `info` names a publishing client.
pub(crate) fn publication(data: &Bytes, seq: Option<u64>, info: Option<(&str, &str)>) -> EncodedPublication {
    let mut out = String::with_capacity(data.len() + 64);
    let mut fields = Fields::open(&mut out);
    fields.raw("data", text(data));
    if let Some((user, client)) = info {
        let mut who = String::new();
        let mut inner = Fields::open(&mut who);
        inner.string("user", user);
        inner.string("client", client);
        inner.close();
        fields.raw("info", &who);
    }
    if let Some(seq) = seq {
        fields.raw("offset", &seq.to_string());
    }
    fields.close();
    EncodedPublication(out)
}

/// A publication as a push.
pub(crate) fn push(channel: &str, publication: &EncodedPublication) -> String {
    let mut out = String::with_capacity(publication.0.len() + channel.len() + 40);
    out.push_str("{\"push\":{\"channel\":");
    string(&mut out, channel);
    out.push_str(",\"pub\":");
    out.push_str(&publication.0);
    out.push_str("}}");
    out
}

pub(crate) fn unsubscribed(channel: &str, why: Unsubscribe) -> String {
    let mut out = String::from("{\"push\":{\"channel\":");
    string(&mut out, channel);
    out.push_str(&format!(
        ",\"unsubscribe\":{{\"code\":{},\"reason\":\"{}\"}}}}}}",
        why.code, why.reason
    ));
    out
}

/// JSON as one line: line breaks in valid JSON can only stand between its tokens, where a space is as good. Without
/// that, they would cut a frame or an event in two.
pub(crate) fn one_line(json: Bytes) -> Bytes {
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return json;
    }
    json.iter()
        .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })
        .collect::<Vec<_>>()
        .into()
}

fn text(json: &Bytes) -> &str {
    match std::str::from_utf8(json) {
        Ok(text) if !text.is_empty() => text,
        _ => "null",
    }
}

fn string(out: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => out.push_str("\"\""),
    }
}

/// Writes an object field by field.
struct Fields<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Fields<'a> {
    fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push_str(value);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        string(self.out, value);
    }

    fn close(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_official_sdk_sends_is_read() {
        let connect = r#"{"connect":{"token":"t","data":{"device":"phone"},"name":"js","subs":{"carillon:inbox":{"recover":true,"offset":3,"epoch":"abc"}}},"id":1}"#;
        let read = command(connect).unwrap();
        let connect = read.connect.unwrap();
        assert_eq!(
            (
                read.id,
                connect.token.as_ref(),
                connect.subs["carillon:inbox"].0.offset
            ),
            (1, "t", 3)
        );
        let subscribe = r#"{"subscribe":{"channel":"room.1","flag":1,"recover":true,"epoch":"abc"},"id":2}"#;
        assert!(command(subscribe).unwrap().subscribe.unwrap().recover);
        assert_eq!(command("{}").unwrap().id, 0);
        assert!(command("[]").is_err() && command(r#"{"id":-1}"#).is_err());
    }

    #[test]
    fn a_list_is_never_read_by_position() {
        for line in [
            "[]",
            "[7]",
            r#"{"id":1,"connect":["t"]}"#,
            r#"{"id":1,"connect":{"token":"t","subs":{"carillon:inbox":[true,3,"abc"]}}}"#,
            r#"{"id":2,"subscribe":["room.1"]}"#,
            r#"{"id":2,"unsubscribe":["room.1"]}"#,
            r#"{"id":2,"publish":["room.1",{}]}"#,
            r#"{"id":2,"rpc":["carillon.ack",{}]}"#,
            r#"{"id":2,"refresh":["t"]}"#,
            r#"{"id":2,"sub_refresh":["room.1","t"]}"#,
        ] {
            assert!(command(line).is_err(), "{line}");
        }
        let data = |text: &'static str| connect_data(Some(serde_json::from_str(text).unwrap())).unwrap();
        assert_eq!(data(r#"{"device": "phone", "inbox": false}"#).inbox, Some(false));
        assert_eq!(data(r#"["phone", false]"#).inbox, None, "the app's own");
        let nothing = command(r#"{"id":2,"subscribe":null,"rpc":{"method":"x"}}"#).unwrap();
        assert!(nothing.subscribe.is_none() && nothing.rpc.is_some());
    }

    #[test]
    fn replies_are_json_on_one_line() {
        let sub = Subscribed {
            recoverable: true,
            epoch: "abc".into(),
            offset: 7,
            ..Subscribed::default()
        };
        let connected = connected(
            1,
            &Connected {
                client: "c\n\"",
                session: "s",
                ping_seconds: 25,
                ttl: Some(9),
                subs: vec![("x", sub)],
            },
        );
        let value: serde_json::Value = serde_json::from_str(&connected).unwrap();
        assert_eq!(value["connect"]["subs"]["x"]["offset"], 7);
        assert_eq!(value["connect"]["ttl"], 9);
        let data = one_line(Bytes::from_static(b"{\n \"a\": \"b\\n\"\r\n}"));
        let push = push("room.1", &publication(&data, Some(3), Some(("ada", "c1"))));
        assert!(!push.contains(['\n', '\r']));
        let value: serde_json::Value = serde_json::from_str(&push).unwrap();
        assert_eq!(value["push"]["pub"]["data"]["a"], "b\n");
        assert_eq!(value["push"]["pub"]["info"]["client"], "c1");
        let error: serde_json::Value = serde_json::from_str(&failed(4, &ReplyError::INTERNAL)).unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["error"]["temporary"]),
            (&100.into(), &true.into())
        );
    }
}
