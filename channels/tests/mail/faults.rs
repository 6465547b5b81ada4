//! Servers that misbehave: each attempt ends in time, with the outcome named, and nothing is lost.

use std::{sync::Arc, time::Duration};

use carillon_channels::email::{AuthMechanism, EmailChannel, EmailConfig, Security};
use carillon_domain::{
    Fault, Outcome,
    ports::{Channel as _, Report},
};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    given::{assert_accepted, at, attempt, channel, provider_trouble, work},
    relay::Relay,
};

/// The reason of a retry, which came within the channel's own patience.
async fn reason(config: &EmailConfig) -> String {
    let channel = channel(config);
    let begun = Instant::now();
    let report = channel.attempt(&work("ada@example.org")).await;
    assert!(
        begun.elapsed() <= channel.patience(),
        "took {:?}",
        begun.elapsed()
    );
    provider_trouble(&report).to_owned()
}

/// What `count` attempts at the same time report.
async fn at_once(channel: &Arc<EmailChannel>, count: usize) -> Vec<Report> {
    let mut attempts = tokio::task::JoinSet::new();
    for work in (0..count).map(|_| work("ada@example.org")) {
        let channel = Arc::clone(channel);
        attempts.spawn(async move { channel.attempt(&work).await });
    }
    attempts.join_all().await
}

#[tokio::test]
async fn a_relay_that_is_away_is_tried_again_later() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    assert!(reason(&at(&address)).await.contains("while connecting"));
}

#[tokio::test]
async fn a_relay_that_never_answers_is_left_in_time() {
    let silent = Relay::start(|mut peer| async move { peer.hang().await }).await;
    assert!(reason(&silent.config()).await.contains("no greeting"));
    for (until, expected) in [("MAIL", "to MAIL"), ("RCPT", "to RCPT"), ("DATA", "to DATA")] {
        let relay = Relay::start(move |mut peer| async move {
            peer.serve_until("", until).await;
            peer.hang().await;
        })
        .await;
        let reason = reason(&relay.config()).await;
        assert!(reason.contains("no answer"), "{until}, {expected}: {reason}");
    }
}

#[tokio::test]
async fn a_relay_that_answers_a_byte_a_minute_is_left_in_time() {
    let slow = Relay::start(|mut peer| async move {
        for byte in ["2", "2", "0"] {
            peer.say(byte).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
    .await;
    assert!(reason(&slow.config()).await.contains("no greeting"));
}

#[tokio::test]
async fn silence_after_the_message_says_that_it_may_have_been_taken() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("", "DATA").await;
        peer.say("354 go on\r\n").await;
        peer.hear_message().await;
        peer.hang().await;
    })
    .await;
    assert!(reason(&relay.config()).await.contains("may have been taken"));
}

#[tokio::test]
async fn a_relay_that_resets_is_tried_again_later() {
    for until in ["EHLO", "MAIL", "RCPT", "DATA"] {
        let relay = Relay::start(move |mut peer| async move {
            peer.serve_until("", until).await;
            peer.reset();
        })
        .await;
        assert!(reason(&relay.config()).await.contains("no answer"), "{until}");
        assert_eq!(relay.connections(), 1, "one attempt is one try");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_bounded() {
    let relay = Relay::start(|mut peer| async move {
        loop {
            peer.say("220-and another thing\r\n").await;
        }
    })
    .await;
    assert!(reason(&relay.config()).await.contains("not SMTP"));
}

#[tokio::test]
async fn a_relay_without_starttls_gets_nothing() {
    let relay = Relay::start(|mut peer| async move { peer.serve_until("", "MAIL").await }).await;
    let config = EmailConfig {
        security: Security::Starttls,
        ..relay.config()
    };
    assert_eq!(reason(&config).await, "the relay does not offer STARTTLS");
}

#[tokio::test]
async fn a_relay_that_quotes_the_password_does_not_bring_it_into_the_reason() {
    for mechanism in [AuthMechanism::Plain, AuthMechanism::Login, AuthMechanism::Xoauth2] {
        let relay = Relay::start(|mut peer| async move {
            peer.say("220 ready\r\n").await;
            peer.hear().await;
            peer.say("250 AUTH PLAIN LOGIN XOAUTH2\r\n").await;
            let mut heard = peer.hear().await;
            while heard.starts_with("AUTH LOGIN") || heard == "aHVi\r\n" {
                peer.say("334 VXNlcm5hbWU6\r\n").await;
                heard = peer.hear().await;
            }
            peer.say(&format!("535 wrong: {heard}")).await;
            peer.hear().await;
        })
        .await;
        let config = EmailConfig {
            auth: mechanism,
            username: Some("hub".to_owned()),
            password: Some("canary".into()),
            ..relay.config()
        };
        assert_eq!(reason(&config).await, "the relay answered 535", "{mechanism:?}");
    }
}

#[tokio::test]
async fn another_question_is_no_sign_in() {
    for mechanism in [AuthMechanism::Plain, AuthMechanism::Login, AuthMechanism::Xoauth2] {
        let relay = Relay::start(|mut peer| async move {
            peer.say("220 ready\r\n").await;
            peer.hear().await;
            peer.say("250 AUTH PLAIN LOGIN XOAUTH2\r\n").await;
            // As long as it is asked, it asks back.
            while !peer.hear().await.is_empty() {
                peer.say("334 Y2FuYXJ5\r\n").await;
            }
        })
        .await;
        let config = EmailConfig {
            auth: mechanism,
            username: Some("hub".to_owned()),
            password: Some("canary".into()),
            ..relay.config()
        };
        let reason = reason(&config).await;
        assert!(
            reason.ends_with("to AUTH: unexpected answer 334"),
            "{mechanism:?}: {reason}"
        );
    }
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_told_without_its_file() {
    let relay =
        Relay::start(|mut peer| async move { peer.serve_until("250-AUTH PLAIN\r\n", "AUTH").await }).await;
    let config = EmailConfig {
        auth: AuthMechanism::Plain,
        username: Some("hub".to_owned()),
        password_file: Some("/nowhere/canary".into()),
        ..relay.config()
    };
    assert_eq!(reason(&config).await, "the relay's credentials cannot be read");
}

#[tokio::test]
async fn what_waits_for_a_connection_of_ours_has_its_whole_time_and_is_nobodys_fault() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("", "DATA").await;
        loop {
            peer.say("354 go on\r\n").await;
            peer.hear_message().await;
            // Slow, and within its time: four in a row take longer than one may.
            tokio::time::sleep(Duration::from_millis(400)).await;
            peer.say("250 OK id=1\r\n").await;
            loop {
                let line = peer.hear().await;
                match line.as_str() {
                    "" => return,
                    "DATA\r\n" => break,
                    _ => peer.say("250 OK\r\n").await,
                }
            }
        }
    })
    .await;
    let config = EmailConfig {
        connections: 2,
        ..relay.config()
    };
    let channel = channel(&config);
    assert_eq!(channel.width(), Some(2));
    for report in at_once(&channel, 8).await {
        assert_accepted(&report);
    }
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn a_relay_that_reports_is_told_the_address_that_bounces_are_matched_by() {
    let (heard, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let relay = Relay::start(move |mut peer| {
        let heard = heard.clone();
        async move {
            peer.say("220 ready\r\n").await;
            loop {
                let line = peer.hear().await;
                let answer = match line.get(..4) {
                    Some("EHLO") => "250-relay\r\n250 DSN\r\n",
                    Some("RCPT") => {
                        let _ = heard.send(line);
                        "550 5.1.1 no such user\r\n"
                    }
                    Some(_) => "250 OK\r\n",
                    None => return,
                };
                peer.say(answer).await;
            }
        }
    })
    .await;
    channel(&relay.config()).attempt(&work("a+b=c@example.org")).await;
    assert_eq!(
        lines.recv().await.as_deref(),
        Some("RCPT TO:<a+b=c@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb+3Dc@example.org\r\n")
    );
}

#[tokio::test]
async fn what_a_relay_says_before_tls_is_not_believed_after() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("250-STARTTLS\r\n", "STARTTLS").await;
        peer.say("220 go ahead\r\n250 all that follows was accepted\r\n")
            .await;
        peer.hang().await;
    })
    .await;
    let config = EmailConfig {
        security: Security::Starttls,
        ..relay.config()
    };
    assert!(reason(&config).await.contains("between STARTTLS and TLS"));
}

#[tokio::test]
async fn a_kept_connection_that_ended_meanwhile_costs_no_attempt() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("", "DATA").await;
        peer.say("354 go on\r\n").await;
        peer.hear_message().await;
        peer.say("250 OK id=1\r\n").await;
    })
    .await;
    let channel = channel(&relay.config());
    for _ in 0..3 {
        assert_accepted(&channel.attempt(&work("ada@example.org")).await);
    }
    assert_eq!(relay.connections(), 3);
}

#[tokio::test]
async fn a_relay_that_pipelines_and_waits_for_a_message_to_nobody_stays_in_step() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("250-PIPELINING\r\n", "RCPT").await;
        peer.say("550 5.1.1 no such user\r\n").await;
        assert_eq!(peer.hear().await, "DATA\r\n");
        peer.say("354 go on\r\n").await;
        assert_eq!(peer.hear().await, ".\r\n", "nothing is sent to nobody");
        peer.say("554 no valid recipients\r\n").await;
        assert!(
            peer.hear().await.starts_with("MAIL"),
            "no transaction was left open"
        );
        peer.say("250 OK\r\n").await;
        peer.hear().await;
        peer.say("250 OK\r\n").await;
        peer.hear().await;
        peer.say("354 go on\r\n").await;
        peer.hear_message().await;
        peer.say("250 OK\r\n").await;
        peer.hang().await;
    })
    .await;
    let channel = channel(&relay.config());
    let report = channel.attempt(&work("bob@example.org")).await;
    assert_eq!(report.outcome.as_str(), "gone", "{report:?}");
    assert_accepted(&channel.attempt(&work("ada@example.org")).await);
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_of_ours_was_not_tried() {
    let silent = Relay::start(|mut peer| async move { peer.hang().await }).await;
    let channel = channel(&EmailConfig {
        connections: 1,
        ..silent.config()
    });
    let begun = Instant::now();
    let mut troubled = 0;
    let mut busy = 0;
    for report in at_once(&channel, 8).await {
        match report.outcome {
            Outcome::Retry {
                fault: Fault::Provider,
                ..
            } => troubled += 1,
            Outcome::Retry { reason, .. } => {
                assert_eq!(reason, "all connections to the relay are busy");
                busy += 1;
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(troubled > 0 && busy > 0, "{troubled} and {busy}");
    assert_eq!(silent.connections(), troubled);
    assert!(
        begun.elapsed() <= channel.patience(),
        "took {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_no_connection_behind() {
    let relay = Relay::start(|mut peer| async move {
        peer.serve_until("", "MAIL").await;
        assert_eq!(peer.hear().await, "", "the client left");
    })
    .await;
    let channel = channel(&EmailConfig {
        connections: 1,
        ..relay.config()
    });
    let dropped = work("ada@example.org");
    let ended = tokio::time::timeout(Duration::from_millis(200), channel.attempt(&dropped)).await;
    assert!(ended.is_err());
    // Its place in the pool is free again: the next attempt comes as far.
    let report = channel.attempt(&work("bob@example.org")).await;
    assert!(!provider_trouble(&report).contains("busy"), "{report:?}");
}

#[tokio::test]
async fn only_notifications_are_sent_and_nothing_is_recalled() {
    let config = at("127.0.0.1:9");
    let mut recall = work("ada@example.org");
    recall.operation = carillon_domain::ports::Operation::Recall;
    let report = channel(&config).attempt(&recall).await;
    assert!(matches!(report.outcome, Outcome::Rejected { .. }));
    let (_, report) = attempt(&config, "not an address").await;
    assert!(matches!(report.outcome, Outcome::Rejected { .. }), "{report:?}");
}
