//! What waits for a peer that does not read: never more than the bound, and whole frames only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_domain::{Caller, Principal, TenantId};
use carillon_runtime::edge::Socket;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{Connection, Role, Table, pipe::Pipe};
use crate::{
    HubConfig,
    protocol::{Encoding, codes::Close},
    session::Session,
    shared::Shared,
    sse::{self, Stream},
    ws::frame,
};

const BOUND: usize = 64 * 1024;

/// A connection whose peer's kernel takes little in advance, and that peer.
async fn narrow(encoding: Encoding) -> (Arc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let peer = socket.connect(address).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let shared = Arc::new(Shared::new(HubConfig::default()));
    let role = match encoding {
        Encoding::EventStream => Role::Stream(Stream {
            principal: Principal {
                tenant: TenantId::default(),
                caller: Caller::Operator,
            },
        }),
        Encoding::WebSocketJson => Role::Session(Session::new(shared.elapsed(), None)),
    };
    let pipe = Pipe::socket(Socket::Plain(tcp), shared.config.send_buffer.as_usize());
    let connection = Table::new().insert(|id| Connection::new(id, shared, pipe, None, role));
    assert_eq!(connection.bound(), BOUND);
    (connection, peer)
}

/// The wheel may look a moment too early: what is left then is that moment.
#[tokio::test]
async fn who_does_not_answer_has_the_rest_of_the_time_and_not_all_of_it_again() {
    let (patience, passed) = (Duration::from_secs(60), Duration::from_millis(30));
    let (connection, _peer) = narrow(Encoding::EventStream).await;
    connection.end(sse::event::bye("revoked", 1_000));
    tokio::time::sleep(passed).await;
    connection.shared.turned();
    let left = connection
        .give_up_after(patience)
        .expect("the peer may still answer");
    assert!(left <= patience - passed, "{left:?}");
    assert!(connection.give_up_after(passed).is_none());
}

fn queued(connection: &Connection) -> usize {
    connection.out.lock().queue.bytes()
}

fn frames(encoding: Encoding, count: usize, length: usize) -> Vec<Bytes> {
    let text = |number| format!("{number:04}{}", "x".repeat(length));
    (0..count)
        .map(|number| match encoding {
            Encoding::EventStream => format!("data: {}\n\n", text(number)).into(),
            Encoding::WebSocketJson => frame::text(text(number).as_bytes()),
        })
        .collect()
}

/// What a connection ends with when its peer is too slow.
fn last_word(encoding: Encoding, all: &[u8]) -> bool {
    match encoding {
        Encoding::EventStream => all.ends_with(b"event: bye\ndata: {\"reason\":\"slow\"}\n\n"),
        Encoding::WebSocketJson => all.ends_with(&frame::close(Some(Close::SLOW.code), Close::SLOW.reason)),
    }
}

/// All that the peer finds once it reads; a WebSocket's server waits for the answer to its close.
async fn read_to_end(encoding: Encoding, peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while !last_word(encoding, &all) {
        match peer.read(&mut chunk).await.unwrap() {
            0 => break,
            count => all.extend_from_slice(&chunk[..count]),
        }
    }
    all
}

#[tokio::test]
async fn a_burst_to_a_peer_that_does_not_read_never_queues_more_than_the_bound() {
    for encoding in [Encoding::EventStream, Encoding::WebSocketJson] {
        // Together above the bound, below it, and as large as it gets in one write.
        for at_once in [400, 1, 40] {
            let (connection, mut peer) = narrow(encoding).await;
            let frames = frames(encoding, 400, 1_000);
            for burst in frames.chunks(at_once) {
                connection.send_all(&burst.concat().into(), burst);
                assert!(queued(&connection) <= BOUND, "{encoding:?}, {at_once} at once");
            }
            assert!(connection.is_over(), "{encoding:?}, {at_once} at once");
            let all = read_to_end(encoding, &mut peer).await;
            assert!(last_word(encoding, &all), "{encoding:?}, {at_once} at once");
            // Before it stands a beginning of the burst, cut between two frames.
            let whole = all.len() / frames[0].len();
            assert!((1..400).contains(&whole), "{whole}");
            assert!(
                all.starts_with(&frames[..whole].concat()),
                "{encoding:?}, {at_once} at once"
            );
        }
    }
}

#[tokio::test]
async fn one_frame_above_the_bound_is_delivered_where_nothing_else_waits() {
    for encoding in [Encoding::EventStream, Encoding::WebSocketJson] {
        let (connection, mut peer) = narrow(encoding).await;
        let long = &frames(encoding, 1, 8 * BOUND)[0];
        connection.send(long);
        assert!(queued(&connection) > BOUND && !connection.is_over());
        let mut all = vec![0; long.len()];
        peer.read_exact(&mut all).await.unwrap();
        assert!(all == *long && connection.drained().await);
        // Behind something that waits, it is too much.
        connection.send(long);
        connection.send(long);
        assert!(connection.is_over());
        let all = read_to_end(encoding, &mut peer).await;
        assert!(all.starts_with(long) && last_word(encoding, &all));
    }
}

#[tokio::test]
async fn what_is_paced_waits_for_the_peer_and_never_counts_against_it() {
    for encoding in [Encoding::EventStream, Encoding::WebSocketJson] {
        let (connection, mut peer) = narrow(encoding).await;
        let pages = frames(encoding, 100, 32 * 1024);
        let expected = pages.concat();
        let paced = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move {
                for page in pages {
                    assert!(connection.send_paced(&page).await);
                }
                assert!(connection.drained().await);
            }
        });
        let mut all = Vec::new();
        let mut chunk = vec![0; 10_000];
        while all.len() < expected.len() {
            let count = peer.read(&mut chunk).await.unwrap();
            all.extend_from_slice(&chunk[..count]);
            assert!(queued(&connection) <= BOUND && !connection.is_over());
        }
        assert!(all == expected);
        paced.await.unwrap();
    }
}
