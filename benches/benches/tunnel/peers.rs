//! Both ends of HBONE and of bare HTTP/2 in memory, on one thread, with equal settings. Port 1 swallows what it gets,
//! any other sends it back.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use hbone::{
    ConnectRequest, Destination, Tunnel,
    client::{self, SendConnect},
    server,
};
use http::{Request, Response};
use tokio::io::{DuplexStream, duplex};
use tower_service::Service;

/// The capacity of a pipe: what a socket buffers.
pub(crate) const PIPE: usize = 256 << 10;

/// Starts an HBONE client with a server.
pub(crate) async fn hbone_client() -> SendConnect {
    let builder = client::Builder::new()
        .stream_window(STREAM_WINDOW)
        .connection_window(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .send_buffer(SEND_BUFFER)
        .without_keepalive();
    let (near, far) = duplex(PIPE);
    tokio::spawn(hbone_server(far));
    let (send, connection) = builder.handshake(near).await.expect("both ends are ours");
    tokio::spawn(connection);
    send
}

/// Opens a tunnel.
pub(crate) async fn connect(send: &SendConnect, port: u16) -> Tunnel {
    send.connect(request(port)).await.expect("a tunnel")
}

/// A request for a tunnel.
pub(crate) fn request(port: u16) -> ConnectRequest {
    ConnectRequest::new(Destination::from(std::net::SocketAddr::from(([192, 0, 2, 7], port))))
}

/// Dials an HBONE server, for a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InMemory;

impl Service<()> for InMemory {
    type Response = DuplexStream;
    type Error = Infallible;
    type Future = Ready<Result<DuplexStream, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let (near, far) = duplex(PIPE);
        tokio::spawn(hbone_server(far));
        ready(Ok(near))
    }
}

async fn hbone_server(io: DuplexStream) {
    let builder = server::Builder::new()
        .stream_window(STREAM_WINDOW)
        .connection_window(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .send_buffer(SEND_BUFFER)
        .max_tunnels(MAX_STREAMS)
        .without_keepalive();
    let Ok(mut connection) = builder.handshake(io).await else { return };
    while let Some(Ok(incoming)) = connection.accept().await {
        // A block, as at the server of bare HTTP/2: functions keep their arguments twice.
        tokio::spawn(async move {
            let echo = incoming.destination().port() != 1;
            let Ok(tunnel) = incoming.accept() else { return };
            let (mut recv, mut send) = tunnel.into_split();
            while let Some(data) = recv.data().await {
                let Ok(data) = data else { return };
                let length = data.len();
                if echo && send.send(data).await.is_err() {
                    return;
                }
                recv.release(length);
            }
            let _ = send.finish();
        });
    }
}

/// A client made of bare h2, with a server made of the same.
#[derive(Debug)]
pub(crate) struct RawClient {
    send: SendRequest<Bytes>,
}

impl RawClient {
    /// Starts both ends.
    pub(crate) async fn start() -> Self {
        let (near, far) = duplex(PIPE);
        tokio::spawn(raw_server(far));
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(near)
            .await
            .expect("both ends are ours");
        tokio::spawn(connection);
        Self { send }
    }

    /// Opens a stream, as h2's documentation says: once the handle is ready.
    pub(crate) async fn open(&self, port: u16) -> (RecvStream, SendStream<Bytes>) {
        let request = Request::connect(format!("192.0.2.7:{port}")).body(()).expect("a valid request");
        let mut send = self.send.clone().ready().await.expect("an open connection");
        let (response, body) = send.send_request(request, false).expect("an open connection");
        (response.await.expect("an answer").into_body(), body)
    }
}

async fn raw_server(io: DuplexStream) {
    let connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .handshake(io)
        .await;
    let Ok(mut connection) = connection else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let echo = request.uri().port_u16() != Some(1);
            let mut body = request.into_body();
            let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
            while let Some(data) = body.data().await {
                let Ok(data) = data else { return };
                let length = data.len();
                if echo && send.send_data(data, false).is_err() {
                    return;
                }
                let _ = body.flow_control().release_capacity(length);
            }
            let _ = send.send_data(Bytes::new(), true);
        });
    }
}

/// What hbone has by default.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 64 << 10;
const SEND_BUFFER: usize = 256 << 10;
const MAX_STREAMS: u32 = 200;
