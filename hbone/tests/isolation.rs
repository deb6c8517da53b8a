//! That a tunnel nobody reads, however it is filled, changes nothing for its neighbours.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{future::poll_fn, io::ErrorKind, task::Poll, time::Duration};

use bytes::Bytes;
use hbone::{
    ConnectRequest, Destination, Refusal, ResetReason, Tunnel,
    client::{self, SendConnect},
    server::{self, Incoming},
};
use support::{
    PIPE, client_and_peer,
    delay::delay_line,
    echo,
    frames::{
        DATA, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        encode_fields,
    },
    pair_with, request, serve,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    task::JoinSet,
    time::{Instant, timeout},
};

const SMALL: usize = 32;

/// A tunnel to a destination that sends back, swallows, or pours out what nobody reads.
async fn open(send: &SendConnect, port: u16) -> Tunnel {
    let destination = Destination::from_name("example.org", port).unwrap();
    send.connect(ConnectRequest::new(destination)).await.unwrap()
}

const ECHO: u16 = 1;
const STALL: u16 = 2;
const POUR: u16 = 3;
const LEAVE: u16 = 4;

async fn answer(incoming: Incoming) {
    match incoming.destination().port() {
        STALL => {
            let _tunnel = incoming.accept().unwrap();
            std::future::pending::<()>().await;
        }
        POUR => {
            let mut tunnel = incoming.accept().unwrap();
            let _ = tunnel.write_all(&vec![0; 8 << 20]).await;
        }
        _ => echo(incoming).await,
    }
}

/// Sends until nothing more is taken.
async fn fill(tunnel: &mut Tunnel) {
    let data = vec![0; 8 << 20];
    assert!(timeout(Duration::from_secs(1), tunnel.write_all(&data)).await.is_err());
}

/// When small tunnels got their answers, in the order they did, beside as many that are stalled.
async fn small_tunnels_beside(stalled: usize, port: u16) -> Vec<(usize, Duration)> {
    let (near, far) = delay_line(Duration::from_millis(5));
    let client = client::Builder::new().stream_window(64 << 10).connection_window(256 << 10);
    let server = server::Builder::new()
        .stream_window(64 << 10)
        .connection_window(256 << 10)
        .max_tunnels(u32::try_from(stalled + SMALL).unwrap());
    let (client, server) = tokio::join!(client.handshake(near), server.handshake(far));
    let (send, connection) = client.unwrap();
    tokio::spawn(connection);
    serve(server.unwrap(), answer);

    let mut unread = Vec::new();
    for _ in 0..stalled {
        unread.push(open(&send, port).await);
    }
    if port == STALL {
        for tunnel in &mut unread {
            // Fills the window and what h2 buffers of it.
            fill(tunnel).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let start = Instant::now();
    let mut small = JoinSet::new();
    for id in 0..SMALL {
        let send = send.clone();
        small.spawn(async move {
            let mut tunnel = open(&send, ECHO).await;
            let mut buffer = vec![0; 1_000];
            // The later, the fewer round trips.
            for _ in 0..=(SMALL - id) / 4 {
                tunnel.write_all(&[7; 1_000]).await.unwrap();
                tunnel.read_exact(&mut buffer).await.unwrap();
            }
            (id, start.elapsed())
        });
    }
    let mut done = Vec::new();
    while let Some(finished) =
        timeout(Duration::from_secs(60), small.join_next()).await.expect("stalled, too")
    {
        done.push(finished.unwrap());
    }
    done
}

// hbone#20
#[tokio::test(start_paused = true)]
async fn stalled_readers_change_neither_the_order_nor_the_time_of_small_tunnels() {
    for port in [STALL, POUR] {
        let alone = small_tunnels_beside(0, port).await;
        assert!(alone.windows(2).any(|pair| pair[0].1 < pair[1].1), "the test tells times apart");
        for stalled in [100, 200] {
            assert_eq!(small_tunnels_beside(stalled, port).await, alone, "beside {stalled}");
        }
    }
}

// hbone#20
#[tokio::test(start_paused = true)]
async fn windows_smaller_than_a_stalled_tunnels_leave_room_for_others() {
    // The stalled tunnels may have far more than the connection's window.
    let client = client::Builder::new();
    let server = server::Builder::new().stream_window(1 << 20).connection_window(65_535);
    let (send, connection) = pair_with(client, server).await;
    serve(connection, answer);
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut tunnel = open(&send, STALL).await;
        fill(&mut tunnel).await;
        unread.push(tunnel);
    }
    let mut tunnel = open(&send, ECHO).await;
    let data = vec![7; 300_000];
    let (mut read, mut write) = tokio::io::split(&mut tunnel);
    let mut echoed = vec![0; data.len()];
    let (written, read) = tokio::join!(write.write_all(&data), read.read_exact(&mut echoed));
    written.unwrap();
    read.unwrap();
    assert!(echoed == data);
}

// hbone#19
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_one_byte_frames_each_way_harm_nothing() {
    let (mut near, mut far, send) = support::tunnel().await;
    for tunnel in [&mut near, &mut far] {
        for _ in 0..100_000 {
            tunnel.write_all(b"x").await.unwrap();
            // Has it sent in a frame of its own.
            tokio::task::yield_now().await;
        }
        tunnel.shutdown().await.unwrap();
    }
    // All of it is on the readers' sides before any is read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!send.is_closed());
    for tunnel in [&mut near, &mut far] {
        let mut received = Vec::new();
        tunnel.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 100_000);
    }
}

// hbone#19
#[tokio::test(start_paused = true)]
async fn bursts_of_tiny_frames_on_many_tunnels_are_no_flood() {
    let (near, far) = duplex(PIPE);
    let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
    let server = serve(server.unwrap(), answer);
    let head = encode_fields(&[(":method", "CONNECT"), (":authority", "example.org:2")]);
    let streams: Vec<_> = (0..200).map(|index| 2 * index + 1).collect();
    for stream in &streams {
        peer.send(HEADERS, END_HEADERS, *stream, &head).await;
    }
    // 600,000, one after the other on each: more than h2 allows before they are taken from it.
    for _ in 0..100 {
        for stream in &streams {
            let burst: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, *stream, b"x"); 30];
            peer.send_all(&burst).await;
        }
    }
    peer.send(6, 0, 0, &[9; 8]).await;
    loop {
        let frame = peer.next().await.expect("the connection goes on");
        assert!(frame.kind != 7, "GOAWAY {:?}", frame.payload);
        if frame.kind == 6 && frame.is_ack() && frame.payload == [9; 8] {
            break;
        }
    }
    server.abort();
}

// hyper's issue 4003: who has nothing to send keeps nothing that others need.
#[tokio::test(start_paused = true)]
async fn idle_sender_withholds_no_credit() {
    let (send, mut peer) = client_and_peer(&[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    let mut tunnels = Vec::new();
    for stream in [1, 3] {
        let send = send.clone();
        let connecting = tokio::spawn(async move { send.connect(request()).await.unwrap() });
        peer.next_of(HEADERS).await;
        peer.accept(stream).await;
        tunnels.push(connecting.await.unwrap().into_split());
    }
    let (_, mut second) = tunnels.pop().unwrap();
    let (_, mut first) = tunnels.pop().unwrap();
    // All but one byte of what the connection allows, with more wanted than granted on the way.
    first.send(Bytes::from(vec![0; 65_534])).await.unwrap();
    let last = timeout(Duration::from_secs(1), second.send(Bytes::from_static(b"xy"))).await;
    assert!(last.is_err(), "one of two bytes");
    drain(&mut peer, 65_535).await;

    // A sender that has given up gets nothing of the next.
    let given_up = timeout(Duration::from_secs(1), first.send(Bytes::from(vec![0; 1_000]))).await;
    assert!(given_up.is_err());
    give(&mut peer, 1_000).await;
    timeout(Duration::from_secs(1), second.send(Bytes::from(vec![0; 1_000]))).await.unwrap().unwrap();

    // Nor does one that was given less than it has to send, and has not come back.
    let mut data = Bytes::from_static(b"xy");
    give(&mut peer, 1).await;
    assert_eq!(poll_fn(|cx| first.poll_send(cx, &mut data)).await.unwrap(), 1);
    give(&mut peer, 1).await;
    timeout(Duration::from_secs(1), second.send(data)).await.unwrap().unwrap();

    // Nor does one that was polled and has said so.
    let mut data = Bytes::from_static(b"x");
    assert!(poll_fn(|cx| Poll::Ready(first.poll_send(cx, &mut data))).await.is_pending());
    first.cancel_reserve();
    give(&mut peer, 1).await;
    timeout(Duration::from_secs(1), second.send(data)).await.unwrap().unwrap();
}

// What a poll that is not repeated keeps is bounded, since nothing says that it was given up.
#[tokio::test(start_paused = true)]
async fn sender_that_was_polled_and_left_withholds_a_chunk_at_most() {
    const CHUNK: u32 = 64 << 10;
    let (send, mut peer) = client_and_peer(&[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    let mut halves = Vec::new();
    for stream in [1, 3] {
        let send = send.clone();
        let connecting = tokio::spawn(async move { send.connect(request()).await.unwrap() });
        peer.next_of(HEADERS).await;
        peer.accept(stream).await;
        halves.push(connecting.await.unwrap().into_split());
    }
    let (_, mut second) = halves.pop().unwrap();
    let (_, mut first) = halves.pop().unwrap();
    second.send(Bytes::from(vec![0; 65_535])).await.unwrap();
    drain(&mut peer, 65_535).await;
    let mut data = Bytes::from(vec![0; 1 << 20]);
    assert!(poll_fn(|cx| Poll::Ready(first.poll_send(cx, &mut data))).await.is_pending());
    peer.send(WINDOW_UPDATE, 0, 0, &(CHUNK + 1_000).to_be_bytes()).await;
    timeout(Duration::from_secs(1), second.send(Bytes::from(vec![0; 1_000]))).await.unwrap().unwrap();
    // Its end gives it back.
    drop(first);
    let rest = Bytes::from(vec![0; 64 << 10]);
    timeout(Duration::from_secs(1), second.send(rest)).await.unwrap().unwrap();
}

/// Gives the connection credit, and lets whoever has asked for some take it.
async fn give(peer: &mut Peer, bytes: u32) {
    peer.send(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Takes that many bytes of payload.
async fn drain(peer: &mut Peer, mut bytes: usize) {
    while bytes > 0 {
        bytes -= peer.next_of(DATA).await.payload.len();
    }
}

// hyper's issue 4049: what a peer has no window for is accepted all the same, and piles up in this process.
#[tokio::test(start_paused = true)]
async fn sender_is_held_back_by_a_peer_that_takes_nothing() {
    let (send, mut peer) = client_and_peer(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    let connecting = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await.unwrap() }
    });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let (mut recv, mut half) = connecting.await.unwrap().into_split();
    let chunk = vec![7; 16 << 10];
    for granted in [0, 1, 20_000, 65_535 - 20_001] {
        if granted > 0 {
            peer.send(WINDOW_UPDATE, 0, 1, &u32::try_from(granted).unwrap().to_be_bytes()).await;
        }
        let mut accepted = 0;
        while let Ok(written) = timeout(Duration::from_secs(1), half.write(&chunk)).await {
            accepted += written.unwrap();
        }
        assert_eq!(accepted, granted);
        drain(&mut peer, granted).await;
        // The other direction goes on.
        peer.send(DATA, 0, 1, b"hello").await;
        assert_eq!(recv.data().await.unwrap().unwrap(), "hello");
    }
    // Whoever is held back learns of a reset.
    half.cancel_reserve();
    let writing = tokio::spawn(async move { half.write_all(&chunk).await });
    tokio::task::yield_now().await;
    peer.send(RST_STREAM, 0, 1, &ResetReason::Cancel.code().to_be_bytes()).await;
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

// h2's issue 853, too: what came on streams whose receivers left without reading is credit that nobody returns.
#[tokio::test(start_paused = true)]
async fn receivers_that_leave_unread_bytes_behind_take_no_credit_along() {
    let client = client::Builder::new().stream_window(65_535).connection_window(65_535);
    let server = server::Builder::new().stream_window(65_535).connection_window(65_535);
    let (send, connection) = pair_with(client, server).await;
    serve(connection, |incoming| async {
        match incoming.destination().port() {
            ECHO => echo(incoming).await,
            POUR => incoming.refuse(Refusal::Denied),
            STALL => {
                let (unread, _half) = incoming.accept().unwrap().into_split();
                // All that is sent has arrived.
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(unread);
                // h2 gives back what a stream has that nobody holds.
                std::future::pending::<()>().await;
            }
            _ => drop(incoming.accept().unwrap()),
        }
    });
    for port in [STALL, POUR, LEAVE] {
        for _ in 0..100 {
            let destination = Destination::from_name("example.org", port).unwrap();
            if let Ok(mut tunnel) = send.connect(ConnectRequest::new(destination)).await {
                let sent = timeout(Duration::from_secs(60), tunnel.write_all(&[0; 10_000])).await;
                drop(sent.expect("deadlock"));
                // What a reset finds here would not be sent.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    let mut tunnel = open(&send, ECHO).await;
    let echoed = timeout(Duration::from_secs(60), support::assert_echoes(&mut tunnel)).await;
    echoed.expect("deadlock");
}

// h2's issue 853: requests that wait for their turn take no credit from those that have it.
#[tokio::test(start_paused = true)]
async fn more_requests_than_places_never_deadlock() {
    let client = client::Builder::new().stream_window(65_535).connection_window(65_535);
    let server = server::Builder::new().stream_window(65_535).connection_window(65_535).max_tunnels(3);
    let (send, connection) = pair_with(client, server).await;
    serve(connection, echo);
    let mut tasks = JoinSet::new();
    for id in 0..60u8 {
        let send = send.clone();
        tasks.spawn(async move {
            let (mut recv, mut half) = open(&send, ECHO).await.into_split();
            let sending = async {
                half.send(Bytes::from(vec![id; 100_000])).await.unwrap();
                half.finish().unwrap();
            };
            let receiving = async {
                let mut received = 0;
                while let Some(data) = recv.data().await {
                    let data = data.unwrap();
                    assert!(data.iter().all(|byte| *byte == id));
                    recv.release(data.len());
                    received += data.len();
                }
                received
            };
            tokio::join!(sending, receiving).1
        });
    }
    while let Some(received) = timeout(Duration::from_secs(60), tasks.join_next()).await.expect("deadlock") {
        assert_eq!(received.unwrap(), 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_behind_an_answer_nobody_looks_at_harm_nothing() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let neighbour = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await.unwrap() }
    });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let mut neighbour = neighbour.await.unwrap();
    let mut connecting = Box::pin(send.connect(request()));
    assert!(poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx))).await.is_pending());
    peer.next_of(HEADERS).await;
    peer.accept(3).await;
    let burst: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, 3, b"x"); 1_000];
    for _ in 0..600 {
        peer.send_all(&burst).await;
    }
    peer.send(DATA, 0, 1, b"fine").await;
    let mut buffer = [0; 4];
    neighbour.read_exact(&mut buffer).await.unwrap();
    let mut tunnel = connecting.await.unwrap();
    let mut received = vec![0; 600_000];
    tunnel.read_exact(&mut received).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_before_an_answer_are_kept_and_bounded() {
    let (near, far) = duplex(PIPE);
    let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
    let mut server = server.unwrap();
    let head = encode_fields(&[(":method", "CONNECT"), (":authority", "example.org:1")]);
    peer.send(HEADERS, END_HEADERS, 1, &head).await;
    let incoming = server.accept().await.unwrap().unwrap();
    let handle = server.handle();
    // Acknowledged, the window is what it says.
    peer.next_of(SETTINGS).await;
    let driver = tokio::spawn(async move { while server.accept().await.is_some() {} });
    let burst: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, 1, b"x"); 1_000];
    for _ in 0..600 {
        peer.send_all(&burst).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!((600_000..1_200_000).contains(&handle.held_bytes()), "{}", handle.held_bytes());
    let mut tunnel = incoming.accept().unwrap();
    let mut received = vec![0; 600_000];
    tunnel.read_exact(&mut received).await.unwrap();
    assert_eq!(handle.held_bytes(), 0);
    driver.abort();
}
