//! That nothing is lost when one side leaves as soon as it has said and heard everything.

mod support;

use std::time::Duration;

use bytes::Bytes;
use hbone::{client, server};
use support::{
    PIPE,
    frames::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, SETTINGS},
    request,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, timeout},
};

// A peer that has left takes nothing more, but what it said before counts.
#[tokio::test(start_paused = true)]
async fn what_a_client_sent_before_it_left_is_received() {
    const LENGTH: usize = 150_000;
    let (near, far) = duplex(PIPE);
    let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
    let mut server = server.unwrap();
    peer.request(1, &[(":method", "CONNECT"), (":authority", "192.0.2.7:8080")]).await;
    let mut tunnel = server.accept().await.unwrap().unwrap().accept().unwrap();
    // Acknowledged, the window is what it says.
    peer.next_of(SETTINGS).await;
    // More than is read in a turn, so that something is written before all is read.
    let payload = vec![7; LENGTH / 10];
    let mut frames: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, 1, &payload); 10];
    frames.push((DATA, END_STREAM, 1, b""));
    frames.push((GOAWAY, 0, 0, &[0; 8]));
    peer.send_all(&frames).await;
    drop(peer);
    // Nobody hears it.
    tunnel.write_all(b"bye").await.unwrap();
    let driver = tokio::spawn(async move { server.accept().await.map(|next| next.map(drop)) });
    let mut received = Vec::new();
    tunnel.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), LENGTH);
    assert!(driver.await.unwrap().is_none(), "it left in good order");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_sent_before_it_left_is_received() {
    const LENGTH: usize = 150_000;
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let driver = tokio::spawn(connection);
    let connecting = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await.unwrap() }
    });
    peer.next_of(SETTINGS).await;
    peer.next_of(HEADERS).await;
    let payload = vec![7; LENGTH / 10];
    let mut frames: Vec<(u8, u8, u32, &[u8])> = vec![(HEADERS, END_HEADERS, 1, &[frames::STATUS_200])];
    frames.extend([(DATA, 0, 1, payload.as_slice()); 10]);
    frames.push((DATA, END_STREAM, 1, b""));
    peer.send_all(&frames).await;
    drop(peer);
    let mut tunnel = connecting.await.unwrap();
    let mut received = Vec::new();
    tunnel.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), LENGTH);
    drop((tunnel, send));
    timeout(Duration::from_secs(5), driver).await.unwrap().unwrap().unwrap();
}

// A socket closed with bytes unread takes along what the peer has not read yet.
#[tokio::test(start_paused = true)]
async fn leaving_client_reads_on_until_the_server_leaves() {
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let driver = tokio::spawn(connection);
    let connecting = tokio::spawn(async move { send.connect(request()).await.unwrap() });
    peer.next_of(HEADERS).await;
    peer.accept(1).await;
    let mut tunnel = connecting.await.unwrap();
    peer.send(DATA, END_STREAM, 1, b"").await;
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
    let (_, half) = tunnel.split();
    half.send(Bytes::from_static(b"the last word")).await.unwrap();
    half.finish().unwrap();
    drop(tunnel);
    peer.next_of(GOAWAY).await;
    assert!(peer.next_raw().await.is_none(), "the client has said everything");
    // Credit that crosses the goodbye, more than a pipe holds.
    for _ in 0..PIPE / 13 + 1 {
        peer.send(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).await;
    }
    assert!(!driver.is_finished());
    drop(peer);
    driver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn peer_that_stays_is_not_waited_for_for_long() {
    let (near, far) = duplex(PIPE);
    let (client, _peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    drop(send);
    let start = Instant::now();
    connection.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}
