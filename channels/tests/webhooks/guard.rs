//! What may not be called is not called: at save, at connect, under whatever spelling and name.

use std::{
    io,
    net::IpAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_channels::{
    outbound::{Guard, Outbound, OutboundConfig, Resolve, SendError, is_public},
    webhook::WebhookChannel,
};
use carillon_domain::{
    Fault, Outcome, SystemClock, TenantId,
    ports::{Channel as _, Report},
};
use carillon_runtime::config::Span;
use http::Request;
use http_body_util::Full;

use crate::{
    guard_table::{ALLOWED, REFUSED},
    receiver::{Receiver, config, work},
};

fn own() -> [String; 1] {
    ["bells.example.org".to_owned()]
}

fn any_port() -> OutboundConfig {
    OutboundConfig {
        ports: vec!["1-65535".parse().unwrap()],
        ..OutboundConfig::default()
    }
}

#[test]
fn the_table_of_urls_is_kept_at_save() {
    assert!(REFUSED.len() + ALLOWED.len() >= 150);
    for guard in [
        Guard::new(&OutboundConfig::default(), own()),
        Guard::new(&any_port(), own()),
    ] {
        for url in REFUSED {
            let url = url.replace("{p}", "8443");
            assert!(guard.check(&url).is_err(), "{url:?} passed");
        }
        for (url, canonical, lane) in ALLOWED {
            let checked = guard
                .check(url)
                .unwrap_or_else(|reason| panic!("{url}: {reason}"));
            assert_eq!(
                (checked.url.as_str(), &*checked.lane),
                (*canonical, *lane),
                "{url}"
            );
            assert_eq!(
                guard.check(canonical).as_ref(),
                Ok(&checked),
                "canonical stays so"
            );
        }
    }
    let guard = Guard::new(&OutboundConfig::default(), own());
    for port in ["80", "8443", "22", "6379", "5432"] {
        assert!(
            guard.check(&format!("https://example.com:{port}/")).is_err(),
            "{port}"
        );
    }
    let long = |host: &str, path: &str| guard.check(&format!("https://{host}/{path}")).is_ok();
    let label = "a".repeat(63);
    assert!(long(&format!("{label}.example"), &"p".repeat(1_900)));
    assert!(!long(&format!("{label}a.example"), ""));
    assert!(!long(&format!("{label}.{label}.{label}.{label}.example"), ""));
    assert!(!long("example.com", &"p".repeat(2_048)));
}

/// Says for every name the same addresses, and counts who asked.
struct Says {
    addresses: Vec<IpAddr>,
    then: Option<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Says {
    fn new(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            then: None,
            asked: AtomicUsize::new(0),
        })
    }

    /// Another answer to the second question: rebinding.
    fn first_then(first: &str, then: &str) -> Arc<Self> {
        Arc::new(Self {
            addresses: vec![first.parse().unwrap()],
            then: Some(vec![then.parse().unwrap()]),
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Says {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(match &self.then {
            Some(then) if before > 0 => then.clone(),
            _ => self.addresses.clone(),
        })
    }
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn a_forbidden_listener_sees_no_connection_whatever_stands_in_the_url() {
    let forbidden = Receiver::answering(OK).await;
    let says = Says::new(&["127.0.0.1"]);
    let outbound = Outbound::with_resolver(&any_port(), own(), says).unwrap();
    let port = forbidden.address.port().to_string();
    let (mut sent, names) = (0, ["https://rebound.example:{p}/", "http://rebound.example:{p}/"]);
    for url in REFUSED.iter().chain(&names) {
        for url in [
            url.replace("{p}", &port),
            url.replace("https", "http").replace("{p}", &port),
        ] {
            // As though it had been saved before the rules were these.
            let Ok(request) = Request::post(url.as_str()).body(Full::new(Bytes::new())) else {
                continue;
            };
            if request
                .uri()
                .authority()
                .is_some_and(|a| !a.as_str().contains(&port))
            {
                continue; // It would leave this machine.
            }
            let refused = outbound
                .send(&TenantId::default(), request, 0)
                .await
                .expect_err(&url);
            assert!(
                matches!(refused, SendError::Refused | SendError::Name | SendError::Broken),
                "{url}: {refused}"
            );
            sent += 1;
        }
    }
    assert!(sent > 150, "only {sent} could be tried");
    assert_eq!(forbidden.connections(), 0);

    // Were it allowed, it would be seen.
    let allowed = Outbound::open(&config(), own()).unwrap();
    let request = Request::post(forbidden.url())
        .body(Full::new(Bytes::new()))
        .unwrap();
    assert_eq!(
        allowed
            .send(&TenantId::default(), request, 0)
            .await
            .unwrap()
            .status,
        204
    );
    assert_eq!(forbidden.connections(), 1);
}

fn named(outbound: Outbound) -> WebhookChannel {
    WebhookChannel::new(outbound, Arc::new(SystemClock))
}

/// `127.0.0.1` is allowed, `127.0.0.2` is not, and the name may be called over plain HTTP.
fn half_open() -> OutboundConfig {
    OutboundConfig {
        allow_hosts: vec!["hooks.example".to_owned()],
        ..config()
    }
}

#[tokio::test]
async fn one_private_answer_among_public_ones_refuses_them_all() {
    let allowed = Receiver::answering(OK).await;
    let at = format!("127.0.0.2:{}", allowed.address.port());
    let private = Receiver::start_at(&at, |_| async {}).await;
    let url = format!("http://hooks.example:{}/", allowed.address.port());
    for answers in [
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "::ffff:127.0.0.1"],
        ["127.0.0.1", "::1"],
    ] {
        let channel = named(Outbound::with_resolver(&half_open(), own(), Says::new(&answers)).unwrap());
        let report = channel.attempt(&work(&url)).await;
        assert_eq!(report, nowhere(), "{answers:?}");
    }
    assert_eq!((allowed.connections(), private.connections()), (0, 0));
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_called() {
    let allowed = Receiver::answering("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    let at = format!("127.0.0.2:{}", allowed.address.port());
    let private = Receiver::start_at(&at, |_| async {}).await;
    let says = Says::first_then("127.0.0.1", "127.0.0.2");
    let config = OutboundConfig {
        keep_names: Span::default(),
        ..half_open()
    };
    let channel =
        named(Outbound::with_resolver(&config, own(), Arc::clone(&says) as Arc<dyn Resolve>).unwrap());
    let work = work(&format!("http://hooks.example:{}/", allowed.address.port()));
    let first = channel.attempt(&work).await;
    assert_eq!(first.outcome, Outcome::Delivered { provider_id: None });
    assert_eq!((says.asked(), allowed.connections()), (1, 1));
    assert_eq!(channel.attempt(&work).await, nowhere());
    assert_eq!(
        (says.asked(), allowed.connections(), private.connections()),
        (2, 1, 0)
    );
}

/// What a name is reported that leads nowhere that may be called.
fn nowhere() -> Report {
    Report::new(Outcome::Retry {
        after: None,
        reason: "the host's name leads to no address that may be called".to_owned(),
        fault: Fault::Provider,
    })
}

#[tokio::test]
async fn the_answer_is_no_map_of_our_network() {
    let none: [&str; 0] = [];
    for answers in [
        &none[..],
        &["10.0.0.1"],
        &["127.0.0.1", "93.184.215.14"],
        &["::1"],
    ] {
        let channel = named(Outbound::with_resolver(&any_port(), own(), Says::new(answers)).unwrap());
        let report = channel
            .attempt(&work("https://jenkins.intern.example.org/"))
            .await;
        assert_eq!(report, nowhere(), "{answers:?}");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_name_is_checked_at_each_connect_and_asked_for_once() {
    let allowed = Receiver::answering("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    let says = Says::first_then("127.0.0.1", "127.0.0.2");
    let channel =
        named(Outbound::with_resolver(&half_open(), own(), Arc::clone(&says) as Arc<dyn Resolve>).unwrap());
    let work = work(&format!("http://hooks.example:{}/", allowed.address.port()));
    for _ in 0..3 {
        let report = channel.attempt(&work).await;
        assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
    }
    assert_eq!((says.asked(), allowed.connections()), (1, 3));
}

/// Never answers for names below `evil.example`.
struct Hangs;

#[async_trait]
impl Resolve for Hangs {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name.ends_with(".evil.example") {
            std::future::pending::<()>().await;
        }
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

#[tokio::test]
async fn names_that_never_resolve_hold_up_no_neighbour() {
    let neighbour = Receiver::answering(OK).await;
    let config = OutboundConfig {
        allow_hosts: vec!["*.evil.example".to_owned(), "*.example.org".to_owned()],
        connect: Span::from_secs(1),
        ..config()
    };
    let channel = Arc::new(named(
        Outbound::with_resolver(&config, own(), Arc::new(Hangs)).unwrap(),
    ));
    let port = neighbour.address.port();
    let mut hanging = tokio::task::JoinSet::new();
    for n in 0..300 {
        let (channel, work) = (
            Arc::clone(&channel),
            work(&format!("http://a{n}.evil.example:{port}/")),
        );
        hanging.spawn(async move { channel.attempt(&work).await });
    }
    tokio::task::yield_now().await;
    for n in 0..50 {
        let report = channel
            .attempt(&work(&format!("http://hooks{n}.example.org:{port}/")))
            .await;
        assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
    }
    assert!(!hanging.is_empty(), "they still hang");
    let mut provider = 0;
    while let Some(report) = hanging.join_next().await {
        match report.unwrap().outcome {
            Outcome::Retry {
                fault: Fault::Provider,
                ..
            } => provider += 1,
            Outcome::Retry { reason, .. } => assert_eq!(reason, "too many names are being looked up"),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(provider, 4, "those that were asked for; the rest had no turn");
}

#[tokio::test]
async fn every_refusal_reads_the_same() {
    let says = Says::new(&["10.0.0.1"]);
    let channel = named(Outbound::with_resolver(&any_port(), own(), says).unwrap());
    let mut seen = Vec::new();
    for url in [
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "https://localhost/",
        "https://bells.example.org/",
        "http://example.com/",
        "https://[::1]/",
    ] {
        seen.push(channel.attempt(&work(url)).await);
    }
    seen.dedup();
    let [report] = &seen[..] else {
        panic!("they differ: {seen:?}")
    };
    assert_eq!((report.status, &report.excerpt), (None, &None));
    let Outcome::Rejected { reason } = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(reason, "the address is not allowed");
}

#[test]
fn what_operators_allow_may_be_plain_and_internal() {
    let config = OutboundConfig {
        ports: vec!["443".parse().unwrap(), "8000-8999".parse().unwrap()],
        allow_networks: vec!["10.20.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        allow_hosts: vec![
            "hooks.internal".to_owned(),
            "*.svc.cluster.local".to_owned(),
            "receiver".to_owned(),
        ],
        ..OutboundConfig::default()
    };
    config.validate().unwrap();
    let guard = Guard::new(&config, own());
    for (url, fits) in [
        ("http://10.20.3.4:8080/", true),
        ("https://10.20.3.4/", true),
        ("http://10.21.0.1:8080/", false),
        ("http://[fd00::7]:8080/", true),
        ("http://hooks.internal:8080/", true),
        ("https://hooks.internal/", true),
        ("http://hooks.internal:9090/", false),
        ("http://x.hooks.internal:8080/", false),
        ("https://other.internal/", false),
        ("http://a.b.svc.cluster.local:8080/", true),
        ("http://svc.cluster.local:8080/", false),
        ("http://receiver:8000/", true),
        ("http://example.com:8080/", false),
        ("https://example.com:8080/", true),
        ("http://127.0.0.1:8080/", false),
    ] {
        assert_eq!(guard.check(url).is_ok(), fits, "{url}");
    }
}

#[test]
fn addresses_at_the_edges_of_ranges_are_told_apart() {
    for (address, public) in [
        ("1.0.0.0", true),
        ("0.255.255.255", false),
        ("9.255.255.255", true),
        ("11.0.0.0", true),
        ("126.255.255.255", true),
        ("128.0.0.0", true),
        ("169.253.255.255", true),
        ("169.255.0.0", true),
        ("192.0.1.0", true),
        ("192.167.255.255", true),
        ("192.169.0.0", true),
        ("198.17.255.255", true),
        ("198.20.0.0", true),
        ("223.255.255.255", true),
        ("168.63.129.15", true),
        ("1fff:ffff::", false),
        ("2001:200::1", true),
        ("2001:1ff::1", false),
        ("2001:db7::1", true),
        ("2001:db9::1", true),
        ("2003::1", true),
        ("3ffe:ffff::1", true),
        ("3fff:1000::1", true),
        ("2a00::1:5efe:1:2", true),
        ("2a00::5efe:1:2", false),
        ("2a00::200:5efe:1:2", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
}

/// Proxy variables are of the process, so the process is another: this very executable, with one test.
#[tokio::test]
async fn proxy_variables_are_ignored() {
    let proxy = Receiver::answering(OK).await;
    let receiver = Receiver::answering(OK).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "guard::under_proxy_variables",
        "--ignored",
        "--nocapture",
    ]);
    for variable in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        child.env(variable, format!("http://{}", proxy.address));
    }
    child.env("TEST_RECEIVER", receiver.url());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!((receiver.connections(), proxy.connections()), (1, 0));
}

#[tokio::test]
#[ignore = "started by proxy_variables_are_ignored"]
async fn under_proxy_variables() {
    let url = std::env::var("TEST_RECEIVER").unwrap();
    let channel = named(Outbound::open(&config(), []).unwrap());
    let report = channel.attempt(&work(&url)).await;
    assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
}
