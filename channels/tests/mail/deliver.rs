//! What real servers take and refuse.

use carillon_channels::email::{AuthMechanism, BounceAction, DkimConfig, EmailConfig, Security, parse_dsn};
use carillon_domain::{Fault, Outcome, ports::Channel as _};
use mail_parser::MessageParser;
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};

use crate::given::{
    arrived, assert_accepted, attempt, channel, connections, file_with, folder, provider_trouble, secured,
    sink, work,
};

const SINK: &str = "CARILLON_TEST_SMTP";
const SINK_TLS: &str = "CARILLON_TEST_SMTPS";
const EXIM: &str = "CARILLON_TEST_EXIM";

#[tokio::test]
async fn every_way_to_secure_and_to_sign_in_works() {
    for (server, security, mechanism, secret, user) in [
        (
            SINK,
            Security::Starttls,
            AuthMechanism::Plain,
            "password",
            "hub by PLAIN",
        ),
        (
            SINK_TLS,
            Security::Tls,
            AuthMechanism::Login,
            "password",
            "hub by LOGIN",
        ),
        (
            SINK,
            Security::Starttls,
            AuthMechanism::Xoauth2,
            "token",
            "hub by XOAUTH2",
        ),
    ] {
        let (delivery, report) =
            attempt(&secured(server, security, mechanism, secret), "ada@example.org").await;
        assert_accepted(&report);
        assert_eq!(
            report.outcome,
            Outcome::Accepted {
                provider_id: Some(delivery.to_string())
            }
        );
        let message = arrived(delivery);
        assert_eq!(
            (message["secure"].as_bool(), message["user"].as_str()),
            (Some(true), Some(user))
        );
    }
}

#[tokio::test]
async fn wrong_credentials_are_the_relays_trouble_and_nothing_is_lost() {
    for mechanism in [AuthMechanism::Plain, AuthMechanism::Login, AuthMechanism::Xoauth2] {
        let config = secured(SINK, Security::Starttls, mechanism, "canary-wrong");
        let (_, report) = attempt(&config, "ada@example.org").await;
        provider_trouble(&report);
        assert_eq!(report.status, Some(535), "{mechanism:?}: {report:?}");
        assert!(!format!("{report:?}").contains("canary"), "{report:?}");
    }
    let (_, report) = attempt(
        &secured(EXIM, Security::Starttls, AuthMechanism::Plain, "wrong"),
        "ada@example.net",
    )
    .await;
    provider_trouble(&report);
    assert_eq!(report.status, Some(535));
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused() {
    for (server, security) in [(SINK, Security::Starttls), (SINK_TLS, Security::Tls)] {
        let config = EmailConfig {
            ca_file: None,
            ..secured(server, security, AuthMechanism::Plain, "password")
        };
        let (_, report) = attempt(&config, "ada@example.org").await;
        assert!(provider_trouble(&report).contains("certificate"), "{report:?}");
    }
}

#[tokio::test]
async fn a_password_file_is_read_again_for_each_connection() {
    let path = tempfile::NamedTempFile::new().expect("a file");
    let config = EmailConfig {
        password: None,
        password_file: Some(path.path().to_owned()),
        ..secured(SINK, Security::Starttls, AuthMechanism::Xoauth2, "")
    };
    let channel = channel(&config);
    std::fs::write(path.path(), "expired\n").expect("written");
    assert_eq!(channel.attempt(&work("ada@example.org")).await.status, Some(535));
    std::fs::write(path.path(), "token\n").expect("written");
    assert_accepted(&channel.attempt(&work("ada@example.org")).await);
}

#[tokio::test]
async fn the_message_arrives_as_it_was_written() {
    let (delivery, report) = attempt(&sink(), "ada@example.org").await;
    assert_accepted(&report);
    let message = arrived(delivery);
    assert_eq!(message["from"], "hub@example.net");
    assert_eq!(message["to"][0], "ada@example.org");
    let raw = message["raw"].as_str().expect("text").as_bytes();
    let parsed = MessageParser::default().parse(raw).expect("parses");
    assert_eq!(parsed.subject(), Some("Größe überschritten"));
    let id = format!("{delivery}@example.net");
    assert_eq!(parsed.message_id(), Some(id.as_str()));
    let text = parsed.body_text(0).expect("text").replace("\r\n", "\n");
    assert!(text.starts_with("Zeile eins\n.\n..Zeile drei\n"), "{text}");
    assert!(
        parsed
            .body_html(0)
            .is_some_and(|html| html.contains("Zeile eins"))
    );
}

#[tokio::test]
async fn signatures_by_rsa_and_ed25519_verify() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let rsa_record = format!("v=DKIM1; k=rsa; p={}", base64(&rsa.subject_public_key_info()));
    let ed25519_record = format!("v=DKIM1; k=ed25519; p={}", base64(ed25519.der_bytes()));
    for (selector, key, record, result) in [
        ("rsa", &rsa, &rsa_record, "pass"),
        ("ed25519", &ed25519, &ed25519_record, "pass"),
        // The check can fail: another key's record.
        (
            "wrong",
            &KeyPair::generate_for(&PKCS_ED25519).expect("a key"),
            &ed25519_record,
            "fail",
        ),
    ] {
        let name = format!("{selector}._domainkey.example.net");
        std::fs::write(folder().join("dns").join(name), record).expect("written");
        let config = EmailConfig {
            dkim: DkimConfig {
                selector: Some(selector.to_owned()),
                domain: Some("example.net".to_owned()),
                key: Some(key.serialize_pem().into()),
                key_file: None,
            },
            ..sink()
        };
        let (delivery, report) = attempt(&config, "ada@example.org").await;
        assert_accepted(&report);
        let message = arrived(delivery);
        let signature = &message["dkim"][0];
        assert_eq!(signature["result"], result, "{selector}: {message}");
        assert_eq!(
            (&signature["domain"], &signature["selector"]),
            (&"example.net".into(), &selector.into())
        );
        let signed = signature["signed"].to_string().to_lowercase();
        for header in [
            "from",
            "subject",
            "message-id",
            "list-unsubscribe",
            "list-unsubscribe-post",
        ] {
            assert!(signed.contains(header), "{header} in {signed}");
        }
    }
}

#[tokio::test]
async fn refusals_become_outcomes() {
    for (to, status, expected) in [
        ("unknown@example.org", 550, "gone"),
        ("grey@example.org", 451, "retry"),
        ("full@example.org", 452, "retry"),
        ("later@example.org", 451, "retry"),
        ("relay@example.org", 550, "rejected"),
        ("large@example.org", 552, "rejected"),
        ("spam@example.org", 554, "rejected"),
    ] {
        let (_, report) = attempt(&sink(), to).await;
        assert_eq!(
            (report.outcome.as_str(), report.status),
            (expected, Some(status)),
            "{to}: {report:?}"
        );
        if let Outcome::Retry { fault, .. } = report.outcome {
            assert_eq!(fault, Fault::Address, "{to}");
        }
        assert!(
            report
                .excerpt
                .is_some_and(|text| text.starts_with(&status.to_string()))
        );
    }
    let (_, report) = attempt(&sink(), "busy@example.org").await;
    provider_trouble(&report);
}

#[tokio::test]
async fn one_refused_of_ten_leaves_the_others_alone_on_the_same_connection() {
    let channel = channel(&EmailConfig {
        connections: 1,
        ..sink()
    });
    let works: Vec<_> = (0..10)
        .map(|n| {
            work(if n == 4 {
                "unknown@example.org"
            } else {
                "ada@example.org"
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for work in &works {
        let report = channel.attempt(work).await;
        if matches!(report.outcome, Outcome::Gone { .. }) {
            assert_eq!(work.address.as_str(), "unknown@example.org");
        } else {
            assert_accepted(&report);
            accepted.push(work.delivery);
        }
    }
    assert_eq!((accepted.len(), connections(&accepted)), (9, 1));
}

#[tokio::test]
async fn many_messages_share_few_connections() {
    let channel = channel(&EmailConfig {
        connections: 2,
        ..sink()
    });
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (channel, work) = (channel.clone(), work("ada@example.org"));
        sending.spawn(async move { (work.delivery, channel.attempt(&work).await) });
    }
    let mut deliveries = Vec::new();
    while let Some(sent) = sending.join_next().await {
        let (delivery, report) = sent.expect("no panic");
        assert_accepted(&report);
        deliveries.push(delivery);
    }
    assert_eq!((deliveries.len(), connections(&deliveries)), (40, 2));
}

#[tokio::test]
async fn a_connection_is_replaced_after_so_many_messages() {
    let channel = channel(&EmailConfig {
        messages_per_connection: 3,
        ..sink()
    });
    let mut deliveries = Vec::new();
    for _ in 0..7 {
        let work = work("ada@example.org");
        assert_accepted(&channel.attempt(&work).await);
        deliveries.push(work.delivery);
    }
    assert_eq!(connections(&deliveries), 3);
}

#[tokio::test]
async fn exim_takes_delivers_and_refuses() {
    let config = secured(EXIM, Security::Starttls, AuthMechanism::Plain, "password");
    let (delivery, report) = attempt(&config, "ada@example.net").await;
    assert_accepted(&report);
    assert!(
        matches!(report.outcome, Outcome::Accepted { provider_id: Some(_) }),
        "{report:?}"
    );
    let raw = file_with(
        &folder().join("exim/mail/new"),
        &format!("<{delivery}@example.net>"),
    )
    .await;
    let parsed = MessageParser::default().parse(&raw).expect("parses");
    assert_eq!(parsed.subject(), Some("Größe überschritten"));
    assert!(
        parsed
            .body_text(0)
            .is_some_and(|text| text.contains("..Zeile drei"))
    );
    for (to, expected) in [
        ("unknown@example.net", "gone"),
        ("grey@example.net", "retry"),
        ("ada@elsewhere.example", "rejected"),
    ] {
        let allowed = if expected == "rejected" {
            // Who has not signed in may not relay.
            EmailConfig {
                auth: AuthMechanism::None,
                username: None,
                password: None,
                ..config.clone()
            }
        } else {
            config.clone()
        };
        let (_, report) = attempt(&allowed, to).await;
        assert_eq!(report.outcome.as_str(), expected, "{to}: {report:?}");
    }
}

#[tokio::test]
async fn what_exceeds_the_relays_announced_size_is_not_sent() {
    let config = secured(EXIM, Security::Starttls, AuthMechanism::Plain, "password");
    let mut large = work("ada@example.net");
    if let carillon_domain::ports::Message::Notification(notification) = &mut large.message {
        notification.forms.text = Some("x".repeat(200 * 1_024));
    }
    let report = channel(&config).attempt(&large).await;
    let Outcome::Rejected { reason } = report.outcome else {
        panic!("{report:?}");
    };
    assert!(reason.contains("takes 102400"), "{reason}");
}

#[tokio::test]
async fn exims_own_bounce_names_the_delivery() {
    let config = secured(EXIM, Security::Starttls, AuthMechanism::Plain, "password");
    let (delivery, report) = attempt(&config, "bounce@example.net").await;
    assert_accepted(&report);
    // It comes back to the sender, whose mailbox is there too. The report's own fields begin so.
    let mailbox = folder().join("exim/mail/new");
    let raw = file_with(&mailbox, &format!("Original-Envelope-ID: {delivery}")).await;
    let bounces =
        parse_dsn(&raw).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&raw)));
    assert_eq!(bounces.len(), 1);
    let bounce = &bounces[0];
    assert_eq!(
        (bounce.delivery, bounce.action),
        (Some(delivery), BounceAction::Failed)
    );
    assert_eq!(bounce.address, "bounce@example.net");
}
