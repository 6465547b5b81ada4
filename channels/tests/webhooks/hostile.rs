//! Far ends that do what they should not. Each outcome is named; each ends within the channel's patience.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use carillon_domain::{
    Fault, Outcome,
    ports::{Channel as _, Report},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use crate::receiver::{Receiver, channel, config, request, work};

/// One attempt, which must end by itself.
async fn attempt(receiver: &Receiver) -> Report {
    let channel = channel(&config());
    timeout(channel.patience(), channel.attempt(&work(&receiver.url())))
        .await
        .expect("an attempt ends within its patience")
}

#[track_caller]
fn assert_retry(report: &Report, whose: Fault, why: &str) {
    let Outcome::Retry { reason, fault, .. } = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!((*fault, reason.as_str()), (whose, why));
}

#[track_caller]
fn assert_delivered(report: &Report, excerpt: Option<&str>) {
    assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
    assert_eq!((report.status, report.excerpt.as_deref()), (Some(200), excerpt));
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_tried_later() {
    let silent = Receiver::start(|mut socket| async move {
        let mut sink = Vec::new();
        let _ = socket.read_to_end(&mut sink).await;
    })
    .await;
    assert_retry(&attempt(&silent).await, Fault::Provider, "no answer in time");
}

#[tokio::test]
async fn a_head_that_comes_by_the_byte_is_tried_later() {
    let slow = Receiver::start(|mut socket| async move {
        request(&mut socket).await;
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    assert_retry(&attempt(&slow).await, Fault::Provider, "no answer in time");
}

#[tokio::test]
async fn a_success_stays_one_though_its_body_never_ends() {
    let slow = Receiver::start(|mut socket| async move {
        request(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\no";
        let _ = socket.write_all(head).await;
        let mut sink = Vec::new();
        let _ = socket.read_to_end(&mut sink).await;
    })
    .await;
    assert_delivered(&attempt(&slow).await, Some("o"));
}

#[tokio::test]
async fn a_reset_is_tried_later() {
    // Closing with a request unread resets the connection.
    let resetting = Receiver::start(|socket| async move {
        socket.readable().await.unwrap();
    })
    .await;
    assert_retry(
        &attempt(&resetting).await,
        Fault::Provider,
        "the connection ended before an answer",
    );
}

#[tokio::test]
async fn a_host_where_nothing_listens_is_tried_later() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let report = channel(&config()).attempt(&work(&url)).await;
    assert_retry(&report, Fault::Provider, "no connection to the host");
}

#[tokio::test]
async fn a_content_length_that_promises_too_much_hides_nothing() {
    let short = Receiver::start(|mut socket| async move {
        request(&mut socket).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfew";
        let _ = socket.write_all(answer).await;
    })
    .await;
    assert_delivered(&attempt(&short).await, Some("few"));
}

#[tokio::test]
async fn bytes_beyond_the_content_length_never_become_the_next_answer() {
    let smuggling = Receiver::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let channel = channel(&config());
    for _ in 0..3 {
        assert_delivered(&channel.attempt(&work(&smuggling.url())).await, Some("ok"));
    }
    assert_eq!(smuggling.connections(), 3, "no connection served again");
}

#[tokio::test]
async fn of_two_hundred_megabytes_only_the_beginning_is_read() {
    const WHOLE: usize = 200 * 1_024 * 1_024;
    let sent = Arc::new(AtomicUsize::new(0));
    let (done, mut ended) = tokio::sync::mpsc::channel(1);
    let counted = Arc::clone(&sent);
    let large = Receiver::start(move |mut socket| {
        let (counted, done) = (Arc::clone(&counted), done.clone());
        async move {
            request(&mut socket).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {WHOLE}\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
            while counted.load(Ordering::SeqCst) < WHOLE && socket.write_all(&[b'x'; 65_536]).await.is_ok() {
                counted.fetch_add(65_536, Ordering::SeqCst);
            }
            let _ = done.send(()).await;
        }
    })
    .await;
    assert_delivered(&attempt(&large).await, Some(&"x".repeat(1_024)));
    ended.recv().await.expect("the connection was closed on it");
    // The rest is what lay in the sockets' buffers.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 16 * 1_024 * 1_024, "{sent} bytes were taken");
}

#[tokio::test]
async fn heads_without_end_are_cut_off() {
    for line in ["x-filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", "x"] {
        let flooding = Receiver::start(move |mut socket| async move {
            request(&mut socket).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
            let lines = line.repeat(1_000);
            while socket.write_all(lines.as_bytes()).await.is_ok() {}
        })
        .await;
        assert_retry(
            &attempt(&flooding).await,
            Fault::Provider,
            "the answer was not understood",
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_tried_later() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
    ] {
        let receiver = Receiver::answering(garbage).await;
        assert_retry(
            &attempt(&receiver).await,
            Fault::Provider,
            "the answer was not understood",
        );
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let stalling = Receiver::start(|mut socket| async move {
        request(&mut socket).await;
        while socket.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_retry(&attempt(&stalling).await, Fault::Provider, "no answer in time");
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let private = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let redirecting = Receiver::answering(format!(
            "HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            private.url()
        ))
        .await;
        let report = attempt(&redirecting).await;
        let code: u16 = status[..3].parse().unwrap();
        assert_retry(&report, Fault::Address, &format!("answered {code}"));
        assert_eq!(report.status, Some(code));
    }
    assert_eq!(private.connections(), 0);
}

#[tokio::test]
async fn a_neighbour_is_done_while_the_bad_one_hangs() {
    let silent = Receiver::start(|mut socket| async move {
        let mut sink = Vec::new();
        let _ = socket.read_to_end(&mut sink).await;
    })
    .await;
    let good = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let channel = Arc::new(channel(&config()));
    let mut hanging = JoinSet::new();
    for _ in 0..64 {
        let (channel, work) = (Arc::clone(&channel), work(&silent.url()));
        hanging.spawn(async move { channel.attempt(&work).await });
    }
    let neighbour = work(&good.url());
    for _ in 0..100 {
        let report = channel.attempt(&neighbour).await;
        assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
    }
    assert!(hanging.try_join_next().is_none(), "a bad one ended first");
    for report in hanging.join_all().await {
        assert_retry(&report, Fault::Provider, "no answer in time");
    }
}
