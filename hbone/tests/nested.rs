//! Double HBONE: a connection inside a tunnel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use hbone::{ConnectRequest, Destination, client, server};
use support::{assert_echoes, echo, pair, request, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

fn hostname() -> Destination {
    "cart.shop.svc.cluster.local:80".parse().unwrap()
}

/// A gateway that passes each tunnel on to a server behind it.
async fn gateway() -> client::SendConnect {
    let (send, connection) = pair().await;
    serve(connection, |incoming| async {
        assert_eq!(*incoming.destination(), hostname());
        let outer = incoming.accept().unwrap();
        let mut inner = server::handshake(outer).await.unwrap();
        while let Some(Ok(incoming)) = inner.accept().await {
            assert_eq!(*incoming.destination(), hostname());
            assert_eq!(incoming.forwarded_network(), Some("west"));
            tokio::spawn(echo(incoming));
        }
    });
    send
}

// hbone#30, hbone#77
#[tokio::test(start_paused = true)]
async fn tunnel_carries_a_connection_with_tunnels() {
    let outer = gateway().await.connect(ConnectRequest::new(hostname())).await.unwrap();
    let (send, connection) = client::handshake(outer).await.unwrap();
    tokio::spawn(connection);
    let inner_request = || ConnectRequest::new(hostname()).with_forwarded_network("west".parse().unwrap());
    let mut first = send.connect(inner_request()).await.unwrap();
    let mut second = send.connect(inner_request()).await.unwrap();
    for _ in 0..3 {
        assert_echoes(&mut first).await;
        assert_echoes(&mut second).await;
    }
    let data = vec![7; 3_000_000];
    let (mut read, mut write) = tokio::io::split(first);
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    assert!(received == data);
    drop(writer.await);
}

// hbone#81
#[tokio::test(start_paused = true)]
async fn end_of_the_inner_connection_ends_the_outer_tunnel_only() {
    let gateway = gateway().await;
    let outer = gateway.connect(ConnectRequest::new(hostname())).await.unwrap();
    let (send, connection) = client::handshake(outer).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = ConnectRequest::new(hostname()).with_forwarded_network("west".parse().unwrap());
    let mut inner = send.connect(request).await.unwrap();
    drop(send);
    inner.shutdown().await.unwrap();
    assert_eq!(inner.read(&mut [0]).await.unwrap(), 0);
    drop(inner);
    driver.await.unwrap().unwrap();
    let ended = async {
        while gateway.active_tunnels() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(1), ended).await.unwrap();
    assert!(!gateway.is_closed());
    let _next = gateway.connect(ConnectRequest::new(hostname())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_outer_connection_ends_the_inner_one() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    serve(connection, |incoming| async {
        let mut inner = server::handshake(incoming.accept().unwrap()).await.unwrap();
        while let Some(Ok(incoming)) = inner.accept().await {
            tokio::spawn(echo(incoming));
        }
    });
    let outer = send.connect(request()).await.unwrap();
    let (send, connection) = client::handshake(outer).await.unwrap();
    tokio::spawn(connection);
    let mut inner = send.connect(request()).await.unwrap();
    assert_echoes(&mut inner).await;
    handle.abort();
    assert!(inner.read(&mut [0]).await.is_err());
}
