//! Both ends of a connection in memory, and peers that speak raw HTTP/2.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

pub mod delay;
pub mod frames;

use std::{future::Future, task::Poll};

use bytes::Bytes;
use hbone::{
    ConnectRequest, ConnectionError, Destination, Side, Tunnel, TunnelError,
    client::{self, SendConnect},
    server::{self, Incoming},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

/// Room for a few frames, so that writers block like on a socket.
pub const PIPE: usize = 256 << 10;

pub fn destination() -> Destination {
    "192.0.2.7:8080".parse().unwrap()
}

pub fn request() -> ConnectRequest {
    ConnectRequest::new(destination())
}

/// Both ends with default settings, the client's driven by a task.
pub async fn pair() -> (SendConnect, server::Connection<DuplexStream>) {
    pair_with(client::Builder::new(), server::Builder::new()).await
}

pub async fn pair_with(
    client: client::Builder,
    server: server::Builder,
) -> (SendConnect, server::Connection<DuplexStream>) {
    let (near, far) = duplex(PIPE);
    let (client, server) = tokio::join!(client.handshake(near), server.handshake(far));
    let (send, connection) = client.unwrap();
    tokio::spawn(connection);
    (send, server.unwrap())
}

/// What a future has to say when it is polled once, and dropped.
pub async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Drives a server's connection, giving each request to a task of its own.
pub fn serve<F, R>(mut connection: server::Connection<DuplexStream>, handle: F) -> JoinHandle<()>
where
    F: Fn(Incoming) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(incoming)) = connection.accept().await {
            tokio::spawn(handle(incoming));
        }
    })
}

/// One open tunnel: the client's end, the server's, and the client's connection.
pub async fn tunnel() -> (Tunnel, Tunnel, SendConnect) {
    tunnel_with(client::Builder::new(), server::Builder::new()).await
}

pub async fn tunnel_with(client: client::Builder, server: server::Builder) -> (Tunnel, Tunnel, SendConnect) {
    let (send, mut connection) = pair_with(client, server).await;
    let (near, far) = tokio::join!(send.connect(request()), async {
        let far = connection.accept().await.unwrap().unwrap().accept().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        far
    });
    (near.unwrap(), far, send)
}

/// Sends back what it receives, then finishes.
pub async fn echo(incoming: Incoming) {
    let (mut recv, mut send) = incoming.accept().unwrap().into_split();
    while let Some(Ok(data)) = recv.data().await {
        let length = data.len();
        if send.send(data).await.is_err() {
            return;
        }
        recv.release(length);
    }
    let _ = send.finish();
}

/// Sends a message through a tunnel to an echo and checks what comes back.
pub async fn assert_echoes(tunnel: &mut Tunnel) {
    tunnel.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    tunnel.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
}

/// Checks that a tunnel ended because this side ended its connection.
pub async fn assert_closed_here(tunnel: Tunnel) {
    let (mut recv, mut half) = tunnel.into_split();
    let sent = half.send(Bytes::from_static(b"x")).await.unwrap_err();
    for error in [sent, recv.data().await.unwrap().unwrap_err()] {
        assert!(matches!(error, TunnelError::Lost(ConnectionError::Closed)), "{error:?}");
        assert_eq!(error.side(), Side::Local);
    }
}

/// A server made of bare h2, for what ours would not do.
pub async fn raw_server(io: DuplexStream) -> h2::server::Connection<DuplexStream, Bytes> {
    h2::server::handshake(io).await.unwrap()
}

/// A client made of bare h2, driven by a task.
pub async fn raw_client(io: DuplexStream) -> h2::client::SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    send
}

/// A CONNECT request as bare h2 sends it.
pub fn raw_connect(authority: &str) -> http::Request<()> {
    http::Request::builder().method("CONNECT").uri(authority).version(http::Version::HTTP_2).body(()).unwrap()
}

/// A response as bare h2 sends it.
pub fn raw_response(status: u16) -> http::Response<()> {
    http::Response::builder().status(status).body(()).unwrap()
}

/// Our client and a scripted server.
pub async fn client_and_peer(settings: &[(u16, u32)]) -> (SendConnect, frames::Peer) {
    let (near, far) = duplex(PIPE);
    let (client, peer) = tokio::join!(client::handshake(near), frames::Peer::server(far, settings));
    let (send, connection) = client.unwrap();
    tokio::spawn(connection);
    (send, peer)
}

/// Our server and a scripted client.
pub async fn server_and_peer() -> (server::Connection<DuplexStream>, frames::Peer) {
    let (near, far) = duplex(PIPE);
    let (server, peer) = tokio::join!(server::handshake(near), frames::Peer::client(far));
    (server.unwrap(), peer)
}

/// Our client with one open tunnel, and a scripted server.
pub async fn tunnel_to_peer(settings: &[(u16, u32)]) -> (Tunnel, frames::Peer) {
    let (send, mut peer) = client_and_peer(settings).await;
    let (tunnel, ()) = tokio::join!(send.connect(request()), async {
        let stream = peer.next_of(frames::HEADERS).await.stream;
        peer.accept(stream).await;
    });
    (tunnel.unwrap(), peer)
}
