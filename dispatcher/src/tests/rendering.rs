//! A template that takes its time holds up nobody else: neither where requests are taken in, nor where they are planned,
//! nor where they are sent. Each test runs on one thread, so that whoever rendered on it would hold up everybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use carillon_domain::{
    Capabilities,
    ports::{Profile, Rendered, TemplateFault, TemplateSource, Templates},
};
use carillon_testkit::{PlainTemplates, RecordingChannel};
use http::Method;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually};

/// An engine that waits in one of its renderings until it is let go.
struct Slow {
    /// Which one waits, the first being 1.
    which: usize,
    begun: AtomicUsize,
    go: Mutex<bool>,
    gone: Condvar,
}

impl Slow {
    fn at(which: usize) -> Arc<Self> {
        Arc::new(Self {
            which,
            begun: AtomicUsize::new(0),
            go: Mutex::new(false),
            gone: Condvar::new(),
        })
    }

    async fn waits(&self) {
        eventually(async || self.begun.load(Ordering::SeqCst) >= self.which).await;
    }

    fn let_go(&self) {
        *self.go.lock() = true;
        self.gone.notify_all();
    }
}

impl Templates for Slow {
    fn check(&self, source: &TemplateSource) -> Result<(), Vec<TemplateFault>> {
        PlainTemplates.check(source)
    }

    fn render(&self, source: &TemplateSource, data: &Value) -> Result<Rendered, TemplateFault> {
        if self.begun.fetch_add(1, Ordering::SeqCst) + 1 == self.which {
            let mut go = self.go.lock();
            // Where nothing else can run, nobody lets it go.
            let late = self
                .gone
                .wait_while_for(&mut go, |go| !*go, Duration::from_secs(15));
            if late.timed_out() {
                return Err(TemplateFault {
                    form: "/in_app/title".to_owned(),
                    detail: "everybody waits for it".to_owned(),
                });
            }
        }
        PlainTemplates.render(source, data)
    }
}

/// A node with a template, and somebody who reads German and has an address.
async fn node(slow: &Arc<Slow>) -> Arc<Node> {
    let node = Node::with(Setup {
        channels: vec![Arc::new(RecordingChannel::new("email", Capabilities::default()))],
        templates: Some(slow.clone()),
        ..Setup::default()
    })
    .await;
    let template = json!({"default_locale": "en", "locales": {
        "en": {"in_app": {"title": "Hello"}},
        "de": {"in_app": {"title": "Hallo"}},
    }});
    let put = node.key(Method::PUT, "/v1/templates/welcome", template).await;
    assert_eq!(put.status, 200, "{:?}", put.body);
    node.names.describe(
        "ada",
        Profile {
            locale: Some(Arc::from("de")),
            ..Profile::default()
        },
    );
    Arc::new(node)
}

fn request(channels: &[&str]) -> Value {
    json!({"targets": [{"user": "ada"}], "template": {"name": "welcome"}, "data": {}, "channels": channels})
}

#[tokio::test]
async fn a_request_whose_template_renders_long_holds_up_no_other() {
    for path in ["/v1/notifications", "/v1/notifications/batch"] {
        let slow = Slow::at(1);
        let node = node(&slow).await;
        let body = match path {
            "/v1/notifications" => request(&["in_app"]),
            _ => json!({"notifications": [request(&["in_app"])]}),
        };
        let sending = tokio::spawn({
            let node = node.clone();
            async move { node.key(Method::POST, path, body).await }
        });
        slow.waits().await;
        node.send(json!({"targets": [{"user": "bob"}], "content": {"title": "hello"}}))
            .await;
        assert!(!sending.is_finished());
        slow.let_go();
        let answer = sending.await.expect("no panic");
        assert_eq!(answer.status, 202, "{path}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn planning_whose_template_renders_long_holds_up_no_request() {
    // The first is the default locale's, when the request is taken in.
    let slow = Slow::at(2);
    let node = node(&slow).await;
    let answer = node
        .key(Method::POST, "/v1/notifications", request(&["in_app"]))
        .await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    slow.waits().await;
    assert_eq!(node.show(&id).await["state"], "accepted");
    slow.let_go();
    node.until_state(&id, "planned").await;
    let title = node.inbox("ada").await["data"][0]["content"]["title"].clone();
    assert_eq!(title, "Hallo");
}
