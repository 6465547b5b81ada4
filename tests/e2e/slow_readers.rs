//! Who does not read is cut off with a code that says `come back`, and catches up from the inbox.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, shared, user_name, within};

const MESSAGES: usize = 400;

/// A connection whose kernel takes little in advance, so that not reading is felt soon.
async fn small_window(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("the buffer is set");
    socket
        .connect(address.parse().expect("an address"))
        .await
        .expect("a connection")
}

/// Sends far more than the kernel and the queue hold, bit by bit, and waits until all of it is in the inbox.
async fn flood(api: &Api, ada: &Api, user: &str) {
    let body = "z".repeat(3_000);
    for batch in 0..MESSAGES / 10 {
        let items: Vec<_> = (0..10)
            .map(|number| json!({"targets": [{"user": user}], "content": {"title": format!("{batch}/{number}"), "body": body}}))
            .collect();
        api.post("/v1/notifications/batch", &json!({"notifications": items}))
            .await
            .expect(202);
    }
    crate::harness::eventually("the flood in the inbox", || async {
        (ada.get("/v1/inbox/counts").await.expect(200)["counts"]["total"] == MESSAGES).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_websocket_that_does_not_read_is_closed_with_3008_and_recovers() {
    let server = shared().await;
    let api = server.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut healthy = ada.stream("").await;
    // The healthy one gets all of it although the slow one reads nothing.
    let healthy = tokio::spawn(async move {
        for number in 1..=MESSAGES as u64 {
            assert_eq!(healthy.next().await.seq(), number);
        }
    });
    let stream = small_window(&server.address()).await;
    let url = format!("ws://{}/connection/websocket", server.address());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream)
        .await
        .expect("a handshake");
    let connect = json!({"id": 1, "connect": {"token": ada.credential()}});
    socket
        .send(Message::text(connect.to_string()))
        .await
        .expect("sent");

    flood(&api, &ada, &user).await;
    healthy.await.expect("the healthy one has all of it");

    // What the kernel held is still there to read, then the close.
    let (mut epoch, mut offset, mut code) = (String::new(), 0, None);
    within("the close", async {
        while let Some(Ok(frame)) = socket.next().await {
            match frame {
                Message::Text(text) => {
                    for line in text.lines() {
                        let object: Value = serde_json::from_str(line).expect("JSON");
                        if let Some(found) = object["connect"]["subs"]["carillon:inbox"]["epoch"].as_str() {
                            found.clone_into(&mut epoch);
                        }
                        if let Some(next) = object["push"]["pub"]["offset"].as_u64() {
                            assert_eq!(next, offset + 1, "a hole before the close");
                            offset = next;
                        }
                    }
                }
                Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
                _ => {}
            }
        }
    })
    .await;
    assert!(offset < MESSAGES as u64, "the slow reader was never slow");
    // With a full socket the close frame may find no room: then the connection just ends, which SDKs resume as well.
    assert!(code.is_none() || code == Some(3008), "{code:?}");

    let mut position = (epoch, offset);
    let mut seen = offset;
    while seen < MESSAGES as u64 {
        let mut back = ada.socket().await;
        let reply = back
            .command(
                "connect",
                json!({"token": ada.credential(), "subs": {"carillon:inbox":
                {"recover": true, "epoch": position.0, "offset": position.1}}}),
            )
            .await;
        let inbox = &reply["connect"]["subs"]["carillon:inbox"];
        if inbox["recovered"] != true {
            // Further behind than one recovery holds: announced, and the inbox has it.
            assert_eq!(inbox["was_recovering"], true, "{inbox}");
            assert_eq!(ada.inbox().await["counts"]["total"], MESSAGES);
            break;
        }
        for publication in inbox["publications"].as_array().expect("publications") {
            seen += 1;
            assert_eq!(publication["offset"], seen);
        }
        position.1 = seen;
    }
}

#[tokio::test]
async fn a_stream_that_does_not_read_is_ended_and_resumes_without_a_hole() {
    let server = shared().await;
    let api = server.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut stream = small_window(&server.address()).await;
    let request = format!(
        "GET /v1/stream HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\r\n",
        server.address(),
        ada.credential()
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    // Until the head is there, the stream is not.
    let mut text = Vec::new();
    within("the first event", async {
        while !String::from_utf8_lossy(&text).contains("event: position") {
            let mut chunk = [0; 512];
            let read = stream.read(&mut chunk).await.expect("read");
            assert_ne!(read, 0, "the stream ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&chunk[..read]);
        }
    })
    .await;

    flood(&api, &ada, &user).await;
    let _ = within("the end of the slow stream", stream.read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text);
    let complete = text.rsplit_once("\n\n").map_or("", |(complete, _)| complete);
    let ids: Vec<&str> = complete
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    let last = *ids.last().expect("the first position at least");
    let reached: u64 = last
        .rsplit_once('-')
        .expect("a position")
        .1
        .parse()
        .expect("a number");
    assert!(reached < MESSAGES as u64, "the slow reader was never slow");

    let mut back = ada.stream_from(last, "").await;
    for number in reached + 1..=MESSAGES as u64 {
        assert_eq!(back.next().await.seq(), number);
    }
}
