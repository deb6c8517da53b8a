//! What each end does about a peer that asks for too much.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use hbone::{
    ConnectError, ConnectionError, Flood, Refusal, ResetReason, TunnelError,
    client::{self, SendConnect},
    server::{self, Incoming},
};
use support::{
    PIPE, assert_echoes,
    frames::{self, DATA, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE},
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::{Instant, advance, sleep},
};

const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "192.0.2.7:8080")];
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
const PRIORITY: u8 = 0x2;
const UNKNOWN: u8 = 0xfa;

async fn server(builder: server::Builder) -> (server::Connection<DuplexStream>, Peer) {
    let (near, far) = duplex(PIPE);
    let (server, peer) = tokio::join!(builder.handshake(near), Peer::client(far));
    (server.unwrap(), peer)
}

/// Accepts whatever is asked for and holds it, until the connection is over.
fn hold_all(mut connection: server::Connection<DuplexStream>) -> JoinHandle<Option<ConnectionError>> {
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            match connection.accept().await {
                Some(Ok(incoming)) => held.extend(incoming.accept().ok()),
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    })
}

/// Our client, and a server that is a script.
async fn client(builder: client::Builder) -> (SendConnect, JoinHandle<Result<(), ConnectionError>>, Peer) {
    let (near, far) = duplex(PIPE);
    let (client, peer) = tokio::join!(builder.handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    (send, tokio::spawn(connection), peer)
}

/// Reads on until the connection is said to be over.
async fn goaway(peer: &mut Peer) -> ResetReason {
    let frame = peer.next_of(GOAWAY).await;
    ResetReason::from(u32::from_be_bytes(frame.payload.get(4..8).unwrap().try_into().unwrap()))
}

/// Asks for a tunnel and takes that back, so many times.
async fn take_back(peer: &mut Peer, first: u32, count: u32) {
    for stream in (first..).step_by(2).take(count as usize) {
        let request = frames::encode_fields(&CONNECT);
        let frames = [(HEADERS, frames::END_HEADERS, stream, &*request), (RST_STREAM, 0, stream, &CANCEL)];
        peer.send_all(&frames).await;
    }
}

#[track_caller]
fn assert_flood(ended: Option<ConnectionError>, expected: Flood) {
    assert!(matches!(ended, Some(ConnectionError::PeerFlood(flood)) if flood == expected), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_are_refused_alone() {
    let (connection, mut peer) = server(server::Builder::new().max_tunnels(3)).await;
    let held = hold_all(connection);
    // Before our settings are known.
    for stream in [1, 3, 5, 7] {
        peer.request(stream, &CONNECT).await;
    }
    let reset = peer.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (7, ResetReason::Refused.code()));
    peer.send(RST_STREAM, 0, 1, &CANCEL).await;
    peer.request(9, &CONNECT).await;
    while peer.next_of(HEADERS).await.stream != 9 {}
    assert!(!held.is_finished());
}

#[tokio::test(start_paused = true)]
async fn headers_beyond_the_limit_are_refused_alone() {
    let (connection, mut peer) = server(server::Builder::new().max_header_list_size(1000)).await;
    let held = hold_all(connection);
    let long = "v".repeat(120);
    let fields: Vec<_> = CONNECT.into_iter().chain(std::iter::repeat_n(("baggage", &*long), 10)).collect();
    peer.request(1, &fields).await;
    peer.request(3, &CONNECT).await;
    let refused = peer.next_of(HEADERS).await;
    assert!(refused.stream == 1 && refused.is_end_stream());
    assert_eq!(peer.next_of(HEADERS).await.stream, 3);
    assert!(!held.is_finished());
}

#[tokio::test(start_paused = true)]
async fn answer_with_headers_beyond_the_limit_fails_its_request_alone() {
    let (send, ended, mut peer) = client(client::Builder::new().max_header_list_size(1000)).await;
    let long = "v".repeat(120);
    let headers: Vec<_> =
        std::iter::once((":status", "200")).chain(std::iter::repeat_n(("baggage", &*long), 10)).collect();
    for (fields, is_opened) in [(&headers[..], false), (&headers[..1], true)] {
        let (tunnel, ()) = tokio::join!(send.connect(support::request()), async {
            let stream = peer.next_of(HEADERS).await.stream;
            peer.request(stream, fields).await;
        });
        match tunnel {
            Ok(_) => assert!(is_opened),
            Err(error) => {
                let reset = matches!(error, ConnectError::Reset(ResetReason::Protocol));
                assert!(reset && !is_opened && !error.is_retryable(), "{error:?}");
            }
        }
    }
    assert!(!ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn requests_that_nobody_takes_are_bounded() {
    let (mut connection, mut peer) = server(server::Builder::new().max_pending(2)).await;
    for stream in [1, 3, 5, 7] {
        peer.request(stream, &CONNECT).await;
    }
    // All arrive in one turn, before the first is yielded.
    let first = connection.accept().await.unwrap().unwrap();
    let (second, reset) = tokio::join!(connection.accept(), peer.next_of(RST_STREAM));
    assert_eq!((reset.stream, reset.number()), (5, ResetReason::Refused.code()));
    first.refuse(Refusal::Denied);
    second.unwrap().unwrap().refuse(Refusal::Denied);
}

#[tokio::test(start_paused = true)]
async fn requests_taken_back_too_often_end_the_connection() {
    let (connection, mut peer) = server(server::Builder::new().requests_taken_back(50, 10)).await;
    let ended = hold_all(connection);
    take_back(&mut peer, 1, 50).await;
    // What one second earns, since the count does not know when the burst began.
    take_back(&mut peer, 101, 11).await;
    assert_eq!(goaway(&mut peer).await, ResetReason::EnhanceYourCalm);
    assert_flood(ended.await.unwrap(), Flood::Requests);
}

#[tokio::test(start_paused = true)]
async fn requests_taken_back_now_and_then_are_no_flood() {
    let (connection, mut peer) = server(server::Builder::new().requests_taken_back(50, 10)).await;
    let ended = hold_all(connection);
    for round in 0..50 {
        take_back(&mut peer, 1 + 20 * round, 10).await;
        sleep(Duration::from_secs(1)).await;
    }
    peer.request(1001, &CONNECT).await;
    assert_eq!(peer.next_of(HEADERS).await.stream, 1001);
    assert!(!ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn tunnels_of_a_flooded_connection_learn_why() {
    let (mut connection, mut peer) = server(server::Builder::new().requests_taken_back(5, 1)).await;
    peer.request(1, &CONNECT).await;
    let mut tunnel = connection.accept().await.unwrap().unwrap().accept().unwrap();
    let ended = hold_all(connection);
    take_back(&mut peer, 3, 20).await;
    let error = tunnel.split().0.data().await.unwrap().unwrap_err();
    let TunnelError::Lost(cause) = error else { panic!("{error:?}") };
    assert_flood(Some(cause), Flood::Requests);
    assert_flood(ended.await.unwrap(), Flood::Requests);
}

// h2, too, wakes the connection as a reset stream is let go of; that we do is for `connection/shared.rs` to show.
#[tokio::test(start_paused = true)]
async fn flood_noticed_as_requests_are_let_go_of_ends_the_connection_at_once() {
    let (accepted, refused) = (|incoming: Incoming| drop(incoming.accept()), drop::<Incoming>);
    // Each by another task, or by the connection itself after it looked whether there is a flood.
    for let_go in [Some(accepted as fn(Incoming)), Some(refused as fn(Incoming)), None] {
        let (mut connection, mut peer) = server(server::Builder::new().requests_taken_back(5, 1)).await;
        let mut requests = Vec::new();
        let ended = if let_go.is_some() {
            for stream in (1..).step_by(2).take(20) {
                peer.request(stream, &CONNECT).await;
                requests.push(connection.accept().await.unwrap().unwrap());
            }
            let ended = hold_all(connection);
            for stream in (1..).step_by(2).take(20) {
                peer.send(RST_STREAM, 0, stream, &CANCEL).await;
            }
            // All have arrived before any is let go of.
            sleep(Duration::from_millis(1)).await;
            ended
        } else {
            take_back(&mut peer, 1, 20).await;
            hold_all(connection)
        };
        let start = Instant::now();
        if let Some(let_go) = let_go {
            requests.into_iter().for_each(let_go);
        }
        assert_flood(ended.await.unwrap(), Flood::Requests);
        assert_eq!(start.elapsed(), Duration::ZERO, "held: {}", let_go.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_serve_no_tunnel_end_the_connection() {
    let ping: (u8, u8, u32, &[u8]) = (PING, 0, 0, &[7; 8]);
    let settings: (u8, u8, u32, &[u8]) = (SETTINGS, 0, 0, &[]);
    let priority: (u8, u8, u32, &[u8]) = (PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    let unknown: (u8, u8, u32, &[u8]) = (UNKNOWN, 0, 0, &[]);
    let window: (u8, u8, u32, &[u8]) = (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    for frame in [ping, settings, priority, unknown, window] {
        let (connection, peer) = server(server::Builder::new().control_frames(100, 10)).await;
        let ended = hold_all(connection);
        let (mut read, mut write) = tokio::io::split(peer.into_io());
        let drained = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        let (kind, flags, stream, payload) = frame;
        let flood = frames::encode(kind, flags, stream, payload).repeat(20);
        for _ in 0..100 {
            // Fails once the server has hung up.
            if tokio::io::AsyncWriteExt::write_all(&mut write, &flood).await.is_err() {
                break;
            }
        }
        assert_flood(ended.await.unwrap(), Flood::ControlFrames);
        drained.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_floods_loses_the_connection_too() {
    let ping: (u8, u8, u32, &[u8]) = (PING, 0, 0, &[7; 8]);
    let settings: (u8, u8, u32, &[u8]) = (SETTINGS, 0, 0, &[]);
    let unknown: (u8, u8, u32, &[u8]) = (UNKNOWN, 0, 0, &[]);
    // Of a stream that was asked for, and answered.
    let reset: (u8, u8, u32, &[u8]) = (RST_STREAM, 0, 1, &CANCEL);
    for (kind, flags, stream, payload) in [ping, settings, unknown, reset] {
        let (send, ended, mut peer) = client(client::Builder::new().control_frames(100, 10)).await;
        let (tunnel, ()) = tokio::join!(send.connect(support::request()), async {
            peer.next_of(HEADERS).await;
            peer.accept(1).await;
        });
        let mut tunnel = tunnel.unwrap();
        let (mut read, mut write) = tokio::io::split(peer.into_io());
        let drained = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        let flood = frames::encode(kind, flags, stream, payload).repeat(300);
        // Fails once the client has hung up.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &flood).await;
        assert_flood(ended.await.unwrap().err(), Flood::ControlFrames);
        if kind != RST_STREAM {
            let error = tunnel.split().0.data().await.unwrap().unwrap_err();
            let TunnelError::Lost(cause) = error else { panic!("{error:?}") };
            assert_flood(Some(cause), Flood::ControlFrames);
        }
        drained.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_refuses_whatever_it_is_asked_is_no_flood() {
    let (send, ended, mut peer) = client(client::Builder::new().control_frames(10, 1)).await;
    for _ in 0..200 {
        let (refused, ()) = tokio::join!(send.connect(support::request()), async {
            let stream = peer.next_of(HEADERS).await.stream;
            peer.send(RST_STREAM, 0, stream, &ResetReason::Refused.code().to_be_bytes()).await;
        });
        assert!(matches!(refused, Err(ConnectError::Reset(ResetReason::Refused))), "{refused:?}");
    }
    assert!(!ended.is_finished());
}

// The smallest there are, with everything in the table of headers: 24 bytes for both.
#[tokio::test(start_paused = true)]
async fn requests_taken_back_in_one_turn_are_counted_here_and_not_by_h2() {
    let (connection, peer) = server(server::Builder::new()).await;
    let ended = hold_all(connection);
    // Literals with incremental indexing (RFC 7541 §6.2.1), so that they are 63 and 62 from then on.
    let literal = |(name, value): (&str, &str)| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0x40], text(name), text(value)].concat()
    };
    let mut bytes = frames::encode(HEADERS, frames::END_HEADERS, 1, &CONNECT.map(literal).concat());
    for stream in (3..).step_by(2).take(3_000) {
        bytes.extend(frames::encode(HEADERS, frames::END_HEADERS, stream, &[0x80 | 63, 0x80 | 62]));
        bytes.extend(frames::encode(RST_STREAM, 0, stream, &CANCEL));
    }
    let (mut read, mut write) = tokio::io::split(peer.into_io());
    let drained = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await;
    assert_flood(ended.await.unwrap(), Flood::Requests);
    drained.abort();
}

#[tokio::test(start_paused = true)]
async fn pings_now_and_then_are_answered() {
    let (connection, mut peer) = server(server::Builder::new().control_frames(100, 10)).await;
    let ended = hold_all(connection);
    peer.request(1, &CONNECT).await;
    for _ in 0..1000 {
        peer.send(PING, 0, 0, &[7; 8]).await;
        while !matches!(peer.next().await.unwrap(), frame if frame.kind == PING && frame.is_ack()) {}
        advance(Duration::from_millis(100)).await;
    }
    assert!(!ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn empty_frames_end_the_connection() {
    let (connection, mut peer) = server(server::Builder::new()).await;
    let ended = hold_all(connection);
    peer.request(1, &CONNECT).await;
    let empty: (u8, u8, u32, &[u8]) = (DATA, 0, 1, &[]);
    peer.send_all(&[empty; 101]).await;
    assert_eq!(goaway(&mut peer).await, ResetReason::EnhanceYourCalm);
    assert_flood(ended.await.unwrap(), Flood::Http2);
}

// hbone#58
#[tokio::test(start_paused = true)]
async fn empty_frames_now_and_then_move_new_tunnels_to_another_connection() {
    let empty: (u8, u8, u32, &[u8]) = (DATA, 0, 1, &[]);
    let (connection, mut peer) = server(server::Builder::new()).await;
    let ended = hold_all(connection);
    peer.request(1, &CONNECT).await;
    peer.send_all(&[empty; 79]).await;
    peer.request(3, &CONNECT).await;
    while peer.next_of(HEADERS).await.stream != 3 {}
    peer.send_all(&[empty; 1]).await;
    assert_eq!(goaway(&mut peer).await, ResetReason::NoError);
    sleep(Duration::from_secs(20)).await;
    assert!(!ended.is_finished(), "its tunnels go on");

    let (send, ended, mut peer) = client(client::Builder::new()).await;
    let (tunnel, ()) = tokio::join!(send.connect(support::request()), async {
        peer.next_of(HEADERS).await;
        peer.accept(1).await;
        peer.send_all(&[empty; 80]).await;
    });
    let mut tunnel = tunnel.unwrap();
    let (_, ()) = tokio::join!(assert_echoes(&mut tunnel), async {
        let data = peer.next_of(DATA).await;
        peer.send(DATA, 0, 1, &data.payload).await;
    });
    assert!(send.is_closed() && !ended.is_finished());
}

// h2 counts the resets that a peer makes it send over the connection's life, which may be weeks.
#[tokio::test(start_paused = true)]
async fn errors_of_the_peer_do_not_add_up_for_ever() {
    let (connection, mut peer) = server(server::Builder::new()).await;
    let ended = hold_all(connection);
    let invalid = [(":method", "CONNECT"), (":authority", "192.0.2.7:8080"), (":path", "/")];
    for stream in (1..).step_by(2).take(1500) {
        peer.request(stream, &invalid).await;
        let reset = peer.next_of(RST_STREAM).await;
        assert_eq!((reset.stream, reset.number()), (stream, ResetReason::Protocol.code()));
    }
    peer.request(3001, &CONNECT).await;
    assert_eq!(peer.next_of(HEADERS).await.stream, 3001);
    assert!(!ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn connection_without_a_request_is_closed() {
    let builder = server::Builder::new().first_request_timeout(Some(Duration::from_secs(3)));
    let (connection, mut peer) = server(builder).await;
    let ended = hold_all(connection);
    assert_eq!(goaway(&mut peer).await, ResetReason::NoError);
    while peer.next().await.is_some() {}
    // A socket that is closed with this unread would take the goodbye back.
    peer.send(GOAWAY, 0, 0, &[0; 8]).await;
    drop(peer);
    assert!(ended.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn connection_without_a_request_does_not_wait_for_a_client_that_says_nothing() {
    let builder =
        server::Builder::new().without_keepalive().first_request_timeout(Some(Duration::from_secs(3)));
    let (connection, _peer) = server(builder).await;
    let start = Instant::now();
    assert!(hold_all(connection).await.unwrap().is_none());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn connection_without_tunnels_is_drained() {
    let builder = server::Builder::new()
        .first_request_timeout(Some(Duration::from_secs(3)))
        .idle_timeout(Some(Duration::from_secs(60)));
    let (mut connection, mut peer) = server(builder).await;
    peer.request(1, &CONNECT).await;
    let tunnel = connection.accept().await.unwrap().unwrap().accept().unwrap();
    let ended = hold_all(connection);
    let (closed, mut peer) = {
        let reading = tokio::spawn(async move { (goaway(&mut peer).await, peer) });
        sleep(Duration::from_secs(1000)).await;
        assert!(!reading.is_finished(), "a tunnel that is silent keeps its connection");
        drop(tunnel);
        reading.await.unwrap()
    };
    assert_eq!(closed, ResetReason::NoError);
    while peer.next().await.is_some() {}
    assert!(ended.await.unwrap().is_none());
}

// hbone#91
#[tokio::test(start_paused = true)]
async fn request_that_crosses_the_goodbye_of_an_idle_connection_is_served_to_its_end() {
    let idle = Duration::from_secs(60);
    let builder = server::Builder::new().first_request_timeout(None).idle_timeout(Some(idle));
    let (connection, mut peer) = server(builder).await;
    let ended = hold_all(connection);
    assert_eq!(goaway(&mut peer).await, ResetReason::NoError);
    peer.request(1, &CONNECT).await;
    peer.next_of(HEADERS).await;
    let start = Instant::now();
    while start.elapsed() < 10 * idle {
        peer.next().await.expect("the tunnel is open");
    }
    assert!(!ended.is_finished());
    peer.send(RST_STREAM, 0, 1, &CANCEL).await;
    while peer.next().await.is_some() {}
    assert!(ended.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn requests_taken_back_count_also_when_too_many_wait() {
    let builder = server::Builder::new().max_pending(2).requests_taken_back(50, 10);
    let (connection, mut peer) = server(builder).await;
    // All in one turn.
    take_back(&mut peer, 1, 70).await;
    let ended = hold_all(connection);
    assert_eq!(goaway(&mut peer).await, ResetReason::EnhanceYourCalm);
    assert_flood(ended.await.unwrap(), Flood::Requests);
}

#[tokio::test(start_paused = true)]
async fn requests_for_no_tunnel_end_the_connection() {
    let (connection, mut peer) = server(server::Builder::new().requests_taken_back(50, 10)).await;
    let ended = hold_all(connection);
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "example.org")];
    for stream in (1..).step_by(2).take(70) {
        peer.request(stream, &get).await;
    }
    assert_eq!(goaway(&mut peer).await, ResetReason::EnhanceYourCalm);
    assert_flood(ended.await.unwrap(), Flood::Requests);
}

#[tokio::test(start_paused = true)]
async fn limits_of_time_can_be_switched_off() {
    let builder = server::Builder::new().first_request_timeout(None).idle_timeout(None);
    let (connection, mut peer) = server(builder).await;
    let ended = hold_all(connection);
    let answering = tokio::spawn(async move { while peer.next().await.is_some() {} });
    sleep(Duration::from_secs(100_000)).await;
    assert!(!ended.is_finished() && !answering.is_finished());
}
