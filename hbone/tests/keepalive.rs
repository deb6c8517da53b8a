//! Pings: how a peer that vanished is noticed.

mod support;

use std::time::Duration;

use hbone::{ConnectError, ConnectionError, TunnelError, client, server};
use support::{
    PIPE, echo,
    frames::{ACK, DATA, END_HEADERS, HEADERS, PING, Peer, encode_fields},
    request, serve, server_and_peer,
};
use tokio::{
    io::duplex,
    time::{Instant, timeout},
};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(20);

// hbone#17
#[tokio::test(start_paused = true)]
async fn both_ends_ping_after_ten_seconds_and_ten_after_each_answer() {
    let start = Instant::now();
    let (_send, mut server) = support::client_and_peer(&[]).await;
    let (connection, mut client) = server_and_peer().await;
    serve(connection, echo);
    for round in 1..4 {
        for peer in [&mut server, &mut client] {
            peer.next_of(PING).await;
            assert_eq!(start.elapsed().as_secs(), (INTERVAL * round).as_secs());
        }
    }
}

// hbone#17, routing#54
#[tokio::test(start_paused = true)]
async fn client_gives_up_a_silent_peer() {
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let driver = tokio::spawn(connection);
    let connecting = tokio::spawn(async move { send.connect(request()).await });
    let stream = peer.next_of(HEADERS).await.stream;
    peer.accept(stream).await;
    let tunnel = connecting.await.unwrap().unwrap();
    let start = Instant::now();
    let error = driver.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::KeepaliveTimeout(TIMEOUT)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), (INTERVAL + TIMEOUT).as_secs());
    let (mut recv, _half) = tunnel.into_split();
    assert!(matches!(recv.data().await, Some(Err(TunnelError::Lost(_)))));
}

// hbone#17
#[tokio::test(start_paused = true)]
async fn server_gives_up_a_silent_peer() {
    let (mut connection, _peer) = server_and_peer().await;
    let start = Instant::now();
    let error = connection.accept().await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::KeepaliveTimeout(TIMEOUT)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), (INTERVAL + TIMEOUT).as_secs());
    assert!(connection.accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn server_goes_on_pinging_while_draining() {
    let (mut connection, mut peer) = server_and_peer().await;
    peer.send(
        HEADERS,
        END_HEADERS,
        1,
        &encode_fields(&[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]),
    )
    .await;
    let incoming = connection.accept().await.unwrap().unwrap();
    let _tunnel = incoming.accept().unwrap();
    let start = Instant::now();
    connection.handle().drain(start + Duration::from_secs(3600));
    let error = connection.accept().await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::KeepaliveTimeout(_)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), (INTERVAL + TIMEOUT).as_secs());
}

#[tokio::test(start_paused = true)]
async fn keepalive_can_be_tuned_and_switched_off() {
    let (near, far) = duplex(PIPE);
    let builder = server::Builder::new().keepalive(Duration::from_secs(1), Duration::from_secs(2));
    let (server, _peer) = tokio::join!(builder.handshake(near), Peer::client(far));
    let start = Instant::now();
    assert!(server.unwrap().accept().await.unwrap().is_err());
    assert_eq!(start.elapsed().as_secs(), 3);

    let (near, far) = duplex(PIPE);
    let builder = server::Builder::new().without_keepalive().first_request_timeout(None).idle_timeout(None);
    let (server, _peer) = tokio::join!(builder.handshake(near), Peer::client(far));
    let mut server = server.unwrap();
    assert!(timeout(Duration::from_secs(3600), server.accept()).await.is_err());
}

// hbone#18
#[tokio::test(start_paused = true)]
async fn pings_are_answered_while_tunnels_are_stalled_and_while_draining() {
    let (mut connection, mut peer) = server_and_peer().await;
    let handle = connection.handle();
    peer.send(
        HEADERS,
        END_HEADERS,
        1,
        &encode_fields(&[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]),
    )
    .await;
    let mut tunnel = connection.accept().await.unwrap().unwrap().accept().unwrap();
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    // Nothing gives it credit, so the sender blocks after the initial window.
    tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut tunnel, &vec![0; 200_000]).await });
    peer.next_of(DATA).await;
    for payload in [[1; 8], [2; 8]] {
        peer.send(PING, 0, 0, &payload).await;
        loop {
            let frame = peer.next().await.unwrap();
            if frame.kind == PING && frame.flags == ACK && frame.payload == payload {
                break;
            }
        }
        handle.drain(Instant::now() + Duration::from_secs(3600));
    }
}

#[tokio::test(start_paused = true)]
async fn tunnels_and_requests_learn_that_the_peer_fell_silent() {
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    tokio::spawn(connection);
    let first = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await.unwrap() }
    });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let (mut recv, mut half) = first.await.unwrap().into_split();
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Lost(ConnectionError::KeepaliveTimeout(TIMEOUT))), "{error:?}");
    let received = recv.data().await.unwrap().unwrap_err();
    for error in [received, half.stopped().await] {
        assert!(matches!(error, TunnelError::Lost(ConnectionError::KeepaliveTimeout(TIMEOUT))), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn peer_from_which_something_arrives_is_not_pinged() {
    let (connection, mut peer) = server_and_peer().await;
    serve(connection, echo);
    peer.request(1, &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]).await;
    // The first in any case.
    peer.next_of(PING).await;
    let start = Instant::now();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        peer.send(PING, 0, 0, &[7; 8]).await;
    }
    let last = Instant::now();
    loop {
        let frame = peer.next_of(PING).await;
        if frame.payload != [7; 8] {
            break;
        }
    }
    assert!(start.elapsed() >= Duration::from_secs(60));
    assert!(last.elapsed() <= 2 * INTERVAL, "{:?}", last.elapsed());
}
