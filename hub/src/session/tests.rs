//! The session by itself: what goes in, what comes out. No socket, no clock.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_domain::{
    Caller, Principal, TenantId, Timestamp, TopicGrants, UserCaller, UserId,
    ports::{AuthError, Gap, SubscriptionGrant, Unavailable},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Answer, Channel, Effect, Input, Moment, OpenRequest, Opened, PublishFailed, Refusal, Session, Work,
};
use crate::{HubConfig, feed::Resume, protocol::codes::Close};

/// A session, its configuration and its time.
struct Bench {
    session: Session,
    config: HubConfig,
    seconds: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            session: Session::new(Duration::ZERO, None),
            config: HubConfig::default(),
            seconds: 0,
        }
    }

    /// Connected by a token of ours, which expires at second `expires`, if it does.
    fn connected(expires: Option<i64>) -> Self {
        let mut bench = Self::new();
        bench.say(r#"{"id":1,"connect":{"token":"t"}}"#);
        bench.answer(Answer::Authenticate(Ok((
            principal("ada", expires),
            Uuid::from_u128(0xFFFF),
        ))));
        bench.answer(Answer::Open(vec![Some(opened(Some("abc-5")))]));
        bench
    }

    fn now(&self) -> Moment {
        Moment {
            elapsed: Duration::from_secs(self.seconds),
            wall: Timestamp::from_seconds(self.seconds as i64),
        }
    }

    fn say(&mut self, line: &str) -> Vec<Effect> {
        self.session
            .handle(Input::Command(line), self.now(), &self.config)
    }

    fn answer(&mut self, answer: Answer) -> Vec<Effect> {
        self.session
            .handle(Input::Answer(answer), self.now(), &self.config)
    }

    fn tick(&mut self, seconds: u64) -> (Vec<Effect>, Option<Duration>) {
        self.seconds = seconds;
        self.session.tick(self.now(), &self.config)
    }
}

fn principal(name: &str, expires: Option<i64>) -> Principal {
    let id = if name == "ada" { 1 } else { 2 };
    let grants = r#"{"subscribe": ["room.*"], "publish": ["room.*"]}"#;
    let user = UserCaller {
        id: UserId::from_uuid(Uuid::from_u128(id)),
        external: name.parse().unwrap(),
        device: None,
        topics: serde_json::from_str::<TopicGrants>(grants).unwrap(),
        channels: Vec::new(),
        jti: None,
        issued_at: None,
        expires_at: expires.map(Timestamp::from_seconds),
        own_token: true,
        info: None,
    };
    Principal {
        tenant: TenantId::default(),
        caller: Caller::User(Arc::new(user)),
    }
}

fn opened(position: Option<&str>) -> Opened {
    Opened {
        position: position.map(|text| text.parse().unwrap()),
        recovered: false,
        publications: Vec::new(),
    }
}

/// The one line that is said.
#[track_caller]
fn said(effects: &[Effect]) -> Value {
    let mut lines = effects.iter().filter_map(|effect| match effect {
        Effect::Send(line) => Some(serde_json::from_str(line).unwrap()),
        _ => None,
    });
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("nothing is said: {effects:?}"));
    assert!(lines.next().is_none(), "more than one line: {effects:?}");
    line
}

#[track_caller]
fn closes(effects: &[Effect], close: Close) {
    assert!(
        matches!(effects.last(), Some(Effect::Close(with)) if *with == close),
        "{effects:?}"
    );
}

#[track_caller]
fn requests(effects: &[Effect]) -> &[OpenRequest] {
    match effects {
        [Effect::Work(Work::Open { requests, .. })] => requests,
        other => panic!("nothing is opened: {other:?}"),
    }
}

#[test]
fn connect_data_with_a_key_of_ours_and_another_type_is_refused() {
    for data in [
        r#"{"device":7,"inbox":false}"#,
        r#"{"inbox":"false"}"#,
        r#"{"device":["phone"]}"#,
    ] {
        let mut bench = Bench::new();
        let connect = format!(r#"{{"id":1,"connect":{{"token":"t","data":{data}}}}}"#);
        closes(&bench.say(&connect), Close::BAD_REQUEST);
    }
    for data in [
        r#"{"mine":7}"#,
        r#"{"device":null}"#,
        r#"["device",7]"#,
        "7",
        "null",
    ] {
        let mut bench = Bench::new();
        let connect = format!(r#"{{"id":1,"connect":{{"token":"t","data":{data}}}}}"#);
        assert!(
            matches!(
                &bench.say(&connect)[..],
                [Effect::Work(Work::Authenticate { .. })]
            ),
            "{data} is the app's own"
        );
    }
}

#[test]
fn everything_that_comes_counts_but_the_pong_that_was_asked_for() {
    let limited = || {
        let mut bench = Bench::connected(None);
        bench.config.messages_per_second = 2;
        bench
    };
    let mut bench = limited();
    bench.tick(60);
    for line in ["{}", r#"{"send":{"data":1}}"#, "{}"] {
        assert!(bench.say(line).is_empty(), "{line}");
    }
    closes(&bench.say("{}"), Close::TOO_MANY_REQUESTS);

    let mut bench = limited();
    for _ in 0..2 {
        assert!(bench.say(r#"{"send":{"data":1}}"#).is_empty());
    }
    assert_eq!(said(&bench.say(r#"{"id":2,"ping":{}}"#))["error"]["code"], 111);
    closes(&bench.say(r#"{"send":{"data":1}}"#), Close::TOO_MANY_REQUESTS);

    let mut bench = limited();
    bench.config.messages_per_second = 0;
    for _ in 0..1_000 {
        assert!(bench.say("{}").is_empty());
    }
}

#[test]
fn connecting_checks_the_token_then_opens_then_greets_then_goes_live() {
    let mut bench = Bench::new();
    let connect = r#"{"id":7,"connect":{"token":"t","data":{"device":"phone"},"subs":{"carillon:inbox":{"recover":true,"epoch":"abc","offset":3}}}}"#;
    assert!(matches!(&bench.say(connect)[..], [Effect::Work(Work::Authenticate { token })] if token == "t"));
    let effects = bench.answer(Answer::Authenticate(Ok((
        principal("ada", Some(100)),
        Uuid::nil(),
    ))));
    let Some(Effect::Work(Work::Open { device, .. })) = effects.first() else {
        panic!("{effects:?}")
    };
    assert_eq!(device.as_ref().map(|device| device.as_str()), Some("phone"));
    let expected = OpenRequest {
        token: 0,
        channel: Channel::Inbox,
        resume: Resume::After("abc-3".parse().unwrap()),
    };
    assert_eq!(requests(&effects), [expected]);
    let effects = bench.answer(Answer::Open(vec![Some(Opened {
        recovered: true,
        ..opened(Some("abc-3"))
    })]));
    let reply = said(&effects);
    assert_eq!((&reply["id"], &reply["connect"]["ttl"]), (&7.into(), &100.into()));
    assert_eq!(reply["connect"]["subs"]["carillon:inbox"]["recovered"], true);
    assert!(
        matches!(effects[..], [Effect::Send(_), Effect::Start(0), Effect::Wake]),
        "{effects:?}"
    );
    let Some(Principal {
        caller: Caller::User(user),
        ..
    }) = bench.session.principal()
    else {
        panic!("a user")
    };
    assert_eq!(
        user.device.as_ref().map(|device| device.as_str()),
        Some("phone"),
        "its calls come from there"
    );
}

#[test]
fn nothing_but_connect_comes_first() {
    for line in [
        "{}",
        "[]",
        "x",
        r#"{"id":1}"#,
        r#"{"connect":{"token":"t"}}"#,
        r#"{"id":1,"rpc":{"method":"x"}}"#,
    ] {
        let mut bench = Bench::new();
        closes(&bench.say(line), Close::BAD_REQUEST);
        assert!(
            bench.say(r#"{"id":1,"connect":{"token":"t"}}"#).is_empty(),
            "it is over"
        );
        assert_eq!(bench.tick(100).1, None);
    }
    closes(
        &Bench::new().say(r#"{"id":1,"connect":{}}"#),
        Close::INVALID_TOKEN,
    );
}

#[test]
fn a_refused_token_is_an_error_or_the_end() {
    let refused = |refusal: Refusal| {
        let mut bench = Bench::new();
        bench.say(r#"{"id":1,"connect":{"token":"t"}}"#);
        let effects = bench.answer(Answer::Authenticate(Err(refusal)));
        (effects, bench)
    };
    let (effects, mut bench) = refused(Refusal::Credential(AuthError::Expired));
    assert_eq!(said(&effects)["error"]["code"], 109);
    assert_eq!(
        bench.say(r#"{"id":2,"connect":{"token":"t"}}"#).len(),
        1,
        "another try"
    );
    let away = Unavailable::new("authenticating", "away");
    let (effects, _) = refused(Refusal::Credential(away.into()));
    assert_eq!(said(&effects)["error"]["temporary"], true);
    closes(
        &refused(Refusal::Credential(AuthError::Invalid)).0,
        Close::INVALID_TOKEN,
    );
    closes(
        &refused(Refusal::Credential(AuthError::Revoked)).0,
        Close::INVALID_TOKEN,
    );
    closes(&refused(Refusal::Limit).0, Close::CONNECTION_LIMIT);
}

#[test]
fn a_store_that_is_away_sends_the_client_back() {
    let mut bench = Bench::new();
    bench.say(r#"{"id":1,"connect":{"token":"t"}}"#);
    bench.answer(Answer::Authenticate(Ok((principal("ada", None), Uuid::nil()))));
    let effects = bench.answer(Answer::Open(vec![None]));
    assert_eq!(said(&effects)["error"]["temporary"], true);
    closes(&effects, Close::SERVER_ERROR);
}

#[test]
fn a_command_waits_for_the_answer_to_the_one_before() {
    let mut bench = Bench::connected(None);
    let effects = bench.say(r#"{"id":2,"publish":{"channel":"room.1","data":{"a":1}}}"#);
    let [
        Effect::Work(Work::Publish {
            topic,
            data,
            publisher,
        }),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (topic.as_str(), data, publisher.user.as_str()),
        ("room.1", &Bytes::from_static(b"{\"a\":1}"), "ada")
    );
    let effects = bench.answer(Answer::Publish(Ok(())));
    assert_eq!(said(&effects), serde_json::json!({"id": 2, "publish": {}}));
    bench.say(r#"{"id":3,"publish":{"channel":"room.1","data":1}}"#);
    assert_eq!(
        said(&bench.answer(Answer::Publish(Err(PublishFailed::Unavailable))))["error"]["code"],
        100
    );
    bench.say(r#"{"id":4,"rpc":{"method":"x"}}"#);
    assert_eq!(said(&bench.answer(Answer::Call(None)))["error"]["code"], 104);
    bench.say(r#"{"id":5,"rpc":{"method":"x"}}"#);
    let effects = bench.answer(Answer::Call(Some(Ok(Bytes::from_static(b"{\n\"a\":1}")))));
    assert!(
        matches!(&effects[..], [Effect::Send(line)] if line == r#"{"id":5,"rpc":{"data":{ "a":1}}}"#),
        "{effects:?}"
    );
}

#[test]
fn a_subscription_is_said_before_it_is_live_and_leaves_when_it_could_not_recover_but_must() {
    let mut bench = Bench::connected(None);
    let effects = bench.say(r#"{"id":2,"subscribe":{"channel":"room.1"}}"#);
    assert_eq!(requests(&effects)[0].resume, Resume::Now);
    let token = requests(&effects)[0].token;
    let effects = bench.answer(Answer::Open(vec![Some(opened(None))]));
    assert_eq!(
        said(&effects),
        serde_json::json!({"id": 2, "subscribe": {}}),
        "live-only"
    );
    assert!(matches!(effects[..], [Effect::Send(_), Effect::Start(started)] if started == token));
    assert!(
        matches!(bench.say(r#"{"id":3,"unsubscribe":{"channel":"room.1"}}"#)[..], [Effect::Leave(left), _] if left == token)
    );

    let recover =
        r#"{"id":4,"subscribe":{"channel":"room.1","recover":true,"epoch":"_","offset":1,"flag":2}}"#;
    assert_eq!(
        requests(&bench.say(recover))[0].resume,
        Resume::Lost(Gap::Malformed)
    );
    let effects = bench.answer(Answer::Open(vec![Some(opened(Some("abc-9")))]));
    assert_eq!(said(&effects)["error"]["code"], 112);
    assert!(matches!(effects[..], [Effect::Leave(_), Effect::Send(_)]));
    let any_epoch = r#"{"id":5,"subscribe":{"channel":"room.1","recover":true,"offset":4}}"#;
    assert_eq!(requests(&bench.say(any_epoch))[0].resume, Resume::AfterSeq(4));
}

#[test]
fn pings_go_out_and_whatever_is_heard_is_a_pong() {
    let mut bench = Bench::connected(None);
    let (effects, next) = bench.tick(25);
    assert!(matches!(&effects[..], [Effect::Send(line)] if line == "{}"));
    assert_eq!(next, Some(Duration::from_secs(8)));
    bench.session.handle(Input::Heard, bench.now(), &bench.config);
    let (effects, next) = bench.tick(33);
    assert!(
        effects.is_empty() && next == Some(Duration::from_secs(17)),
        "{effects:?} {next:?}"
    );
    bench.tick(50);
    closes(&bench.tick(58).0, Close::NO_PONG);
    // A client that waits for an answer may have its pong behind the question.
    let mut busy = Bench::connected(None);
    busy.tick(25);
    busy.say(r#"{"id":2,"rpc":{"method":"slow"}}"#);
    assert!(busy.tick(40).0.is_empty());
    busy.answer(Answer::Call(None));
    closes(&busy.tick(60).0, Close::NO_PONG);
}

#[test]
fn a_client_may_ping_and_must_bring_a_token_to_refresh() {
    let mut bench = Bench::connected(None);
    assert_eq!(
        said(&bench.say(r#"{"id":2,"ping":{}}"#)),
        serde_json::json!({"id": 2, "ping": {}})
    );
    closes(&bench.say(r#"{"id":3,"refresh":{}}"#), Close::BAD_REQUEST);
}

#[test]
fn who_never_connects_is_stale() {
    let mut bench = Bench::new();
    assert_eq!(bench.tick(4).1, Some(Duration::from_secs(6)));
    closes(&bench.tick(10).0, Close::STALE);
}

#[test]
fn a_token_that_ends_closes_after_its_grace_unless_refreshed() {
    let mut bench = Bench::connected(Some(10));
    assert!(
        !bench
            .tick(34)
            .0
            .iter()
            .any(|effect| matches!(effect, Effect::Close(_)))
    );
    closes(&bench.tick(35).0, Close::EXPIRED);
    let mut bench = Bench::connected(Some(10));
    let effects = bench.say(r#"{"id":2,"refresh":{"token":"new"}}"#);
    assert!(matches!(&effects[..], [Effect::Work(Work::Refresh { token })] if token == "new"));
    let effects = bench.answer(Answer::Refresh(Ok(principal("ada", Some(500)))));
    assert_eq!(
        said(&effects)["refresh"],
        serde_json::json!({"expires": true, "ttl": 500})
    );
    assert!(
        !bench
            .tick(35)
            .0
            .iter()
            .any(|effect| matches!(effect, Effect::Close(_)))
    );
    bench.session.handle(Input::Heard, bench.now(), &bench.config);
    bench.say(r#"{"id":3,"refresh":{"token":"bobs"}}"#);
    closes(
        &bench.answer(Answer::Refresh(Ok(principal("bob", None)))),
        Close::INVALID_TOKEN,
    );
    let mut late = Bench::connected(Some(10));
    late.say(r#"{"id":2,"refresh":{"token":"old"}}"#);
    closes(
        &late.answer(Answer::Refresh(Err(AuthError::Expired))),
        Close::EXPIRED,
    );
}

#[test]
fn a_subscription_token_is_for_its_user_and_channel_and_ends() {
    let mut bench = Bench::connected(None);
    let subscribe = r#"{"id":2,"subscribe":{"channel":"secret.1","token":"s"}}"#;
    let grant = |user: &str, topic: &str| SubscriptionGrant {
        user: user.parse().unwrap(),
        topic: topic.parse().unwrap(),
        expires_at: Some(Timestamp::from_seconds(10)),
    };
    for (user, topic) in [("bob", "secret.1"), ("ada", "secret.2")] {
        assert!(matches!(
            bench.say(subscribe)[..],
            [Effect::Work(Work::Subscription { .. })]
        ));
        assert_eq!(
            said(&bench.answer(Answer::Subscription(Ok(grant(user, topic)))))["error"]["code"],
            103
        );
    }
    bench.say(subscribe);
    assert_eq!(
        said(&bench.answer(Answer::Subscription(Err(AuthError::Expired))))["error"]["code"],
        109
    );
    bench.say(subscribe);
    let effects = bench.answer(Answer::Subscription(Ok(grant("ada", "secret.1"))));
    assert_eq!(requests(&effects).len(), 1);
    let effects = bench.answer(Answer::Open(vec![Some(opened(None))]));
    assert_eq!(said(&effects)["subscribe"]["ttl"], 10);
    let (effects, _) = bench.tick(35);
    let unsubscribed = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Send(line) if line.contains("2501")));
    assert!(
        unsubscribed && effects.iter().any(|effect| matches!(effect, Effect::Leave(_))),
        "{effects:?}"
    );
    bench.session.handle(Input::Heard, bench.now(), &bench.config);
    let refresh = r#"{"id":3,"sub_refresh":{"channel":"secret.1","token":"s"}}"#;
    assert_eq!(
        said(&bench.say(refresh))["error"]["code"],
        103,
        "it is no longer subscribed"
    );
}

#[test]
fn a_lost_place_ends_the_session_or_the_subscription() {
    let mut bench = Bench::connected(None);
    bench.say(r#"{"id":2,"subscribe":{"channel":"room.1"}}"#);
    bench.answer(Answer::Open(vec![Some(opened(Some("abc-1")))]));
    let lost = |bench: &mut Bench, token| {
        bench
            .session
            .handle(Input::Lost(token), bench.now(), &bench.config)
    };
    let effects = lost(&mut bench, 1);
    assert_eq!(said(&effects)["push"]["unsubscribe"]["code"], 2500);
    assert!(lost(&mut bench, 1).is_empty(), "once");
    closes(&lost(&mut bench, 0), Close::INSUFFICIENT_STATE);
}
