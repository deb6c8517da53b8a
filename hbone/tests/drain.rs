//! How a server's connection is ended from outside.

mod support;

use std::time::Duration;

use hbone::{ConnectError, ConnectionError, Refusal, Side, TunnelError, client};
use support::{
    assert_echoes, echo,
    frames::{DATA, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, STATUS_200},
    pair, request, serve, server_and_peer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::Instant,
};

const CONNECT: &[(&str, &str)] = &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")];
const GRACE: Duration = Duration::from_secs(5);

// hbone#62
#[tokio::test(start_paused = true)]
async fn drain_lets_open_tunnels_finish_and_opens_no_others() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    let server = serve(connection, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    handle.drain(Instant::now() + GRACE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::GoAway(_)) && error.is_retryable(), "{error:?}");
    assert_echoes(&mut tunnel).await;
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
    drop(tunnel);
    let start = Instant::now();
    server.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "nothing left to wait for");
}

// hbone#62, hbone#64
#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_dropped() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    let server = serve(connection, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    let start = Instant::now();
    handle.drain(start + GRACE);
    server.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), GRACE.as_secs());
    assert!(tunnel.read(&mut [0]).await.is_err(), "not an orderly end");
}

#[tokio::test(start_paused = true)]
async fn drain_without_a_deadline_lasts_as_long_as_its_tunnels() {
    for by_client in [false, true] {
        let (near, far) = duplex(support::PIPE);
        let (client, server) = tokio::join!(client::handshake(near), hbone::server::handshake(far));
        let ((send, connection), server) = (client.unwrap(), server.unwrap());
        let (here, there) = (connection.handle(), server.handle());
        let driver = tokio::spawn(connection);
        let server = serve(server, echo);
        let mut tunnel = send.connect(request()).await.unwrap();
        if by_client {
            here.drain_without_deadline()
        } else {
            there.drain_without_deadline()
        }
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert!(send.is_closed());
        assert_echoes(&mut tunnel).await;
        drop(tunnel);
        driver.await.unwrap().unwrap();
        server.await.unwrap();
    }
    // One may follow.
    let (send, connection) = pair().await;
    let handle = connection.handle();
    let server = serve(connection, echo);
    let _tunnel = send.connect(request()).await.unwrap();
    handle.drain_without_deadline();
    let start = Instant::now();
    handle.drain(start + GRACE);
    server.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), GRACE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn deadline_can_be_brought_forward_but_not_put_off() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    let server = serve(connection, echo);
    let _tunnel = send.connect(request()).await.unwrap();
    let start = Instant::now();
    handle.drain(start + 4 * GRACE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.drain(start + GRACE);
    handle.drain(start + 8 * GRACE);
    server.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), GRACE.as_secs());
}

// hbone#91
#[tokio::test(start_paused = true)]
async fn request_between_the_two_goaways_is_served_and_one_after_them_is_not_counted() {
    let (mut connection, mut peer) = server_and_peer().await;
    let handle = connection.handle();
    peer.request(1, CONNECT).await;
    let first = connection.accept().await.unwrap().unwrap().accept().unwrap();
    handle.drain(Instant::now() + GRACE);
    let server = serve(connection, echo);

    let announced = peer.next_of(GOAWAY).await;
    assert_eq!(announced.number(), (1 << 31) - 1);
    // In flight as the peer hears of it: sent before the ping that asks whether it has.
    peer.request(3, CONNECT).await;
    let ping = loop {
        let frame = peer.next_raw().await.unwrap();
        if frame.kind == PING {
            break frame;
        }
    };
    peer.send(PING, 1, 0, &ping.payload).await;
    let mut answered = false;
    let last = loop {
        let frame = peer.next().await.unwrap();
        match frame.kind {
            HEADERS if frame.stream == 3 => answered = frame.payload[0] == STATUS_200,
            GOAWAY => break frame,
            _ => {}
        }
    };
    assert_eq!(last.number(), 3);
    while !answered {
        let frame = peer.next().await.unwrap();
        answered = frame.kind == HEADERS && frame.stream == 3 && frame.payload[0] == STATUS_200;
    }
    drop(first);
    peer.send(RST_STREAM, 0, 3, &8u32.to_be_bytes()).await;
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn request_during_a_drain_can_be_refused() {
    let (mut connection, mut peer) = server_and_peer().await;
    connection.handle().drain(Instant::now() + GRACE);
    peer.request(1, CONNECT).await;
    connection.accept().await.unwrap().unwrap().refuse(Refusal::Unprocessed);
    let server = serve(connection, echo);
    assert_eq!(peer.next_of(RST_STREAM).await.number(), 7);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_without_tunnels_is_over_at_once() {
    let (_send, mut connection) = pair().await;
    let start = Instant::now();
    connection.handle().drain(start + GRACE);
    assert!(connection.accept().await.is_none());
    assert!(start.elapsed() < GRACE);
}

// hbone#64
#[tokio::test(start_paused = true)]
async fn abort_ends_everything_now() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    let server = serve(connection, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    let start = Instant::now();
    handle.drain(start + GRACE);
    handle.abort();
    server.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(tunnel.read(&mut [0]).await.is_err());
    assert!(send.is_closed());
    handle.abort();
}

#[tokio::test(start_paused = true)]
async fn aborted_connection_is_no_reset_by_the_peer() {
    let (mut connection, mut peer) = server_and_peer().await;
    peer.request(1, CONNECT).await;
    let (mut recv, mut half) = connection.accept().await.unwrap().unwrap().accept().unwrap().into_split();
    connection.handle().abort();
    assert!(connection.accept().await.is_none());
    let sent = half.send(bytes::Bytes::from_static(b"x")).await.unwrap_err();
    for error in [sent, recv.data().await.unwrap().unwrap_err()] {
        assert!(matches!(error, TunnelError::Lost(ConnectionError::Closed)), "{error:?}");
        assert_eq!(error.side(), Side::Local);
    }
}

#[tokio::test(start_paused = true)]
async fn abort_says_goodbye() {
    let (mut connection, mut peer) = server_and_peer().await;
    connection.handle().abort();
    assert!(connection.accept().await.is_none());
    let mut last = None;
    while let Some(frame) = peer.next_raw().await {
        last = Some(frame);
    }
    let goaway = last.unwrap();
    assert_eq!((goaway.kind, &goaway.payload[4..8]), (GOAWAY, &[0; 4][..]));
}

// hbone#62: the client's side of it.
#[tokio::test(start_paused = true)]
async fn draining_client_opens_no_more_and_says_goodbye_after_the_last_tunnel() {
    let (near, far) = duplex(support::PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let handle = connection.handle();
    let driver = tokio::spawn(connection);
    let open = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await.unwrap() }
    });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let mut tunnel = open.await.unwrap();
    handle.drain(Instant::now() + GRACE);
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Closed) && error.is_retryable(), "{error:?}");
    assert!(send.is_closed());
    peer.send(DATA, END_STREAM, 1, b"still").await;
    let mut text = String::new();
    tunnel.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still");
    tunnel.shutdown().await.unwrap();
    drop(tunnel);
    peer.next_of(GOAWAY).await;
    drop(peer);
    assert!(driver.await.unwrap().is_ok());
}

// hbone#64
#[tokio::test(start_paused = true)]
async fn draining_client_drops_what_is_left_at_the_deadline() {
    let (near, far) = duplex(support::PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let handle = connection.handle();
    let driver = tokio::spawn(connection);
    let open = tokio::spawn(async move { send.connect(request()).await.unwrap() });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let tunnel = open.await.unwrap();
    let start = Instant::now();
    handle.drain(start + GRACE);
    driver.await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), GRACE.as_secs());
    support::assert_closed_here(tunnel).await;
}

#[tokio::test(start_paused = true)]
async fn dropped_server_ends_its_tunnels() {
    let (send, mut connection) = pair().await;
    let (near, far) = tokio::join!(send.connect(request()), async {
        connection.accept().await.unwrap().unwrap().accept().unwrap()
    });
    drop(connection);
    support::assert_closed_here(far).await;
    drop(near);
}
