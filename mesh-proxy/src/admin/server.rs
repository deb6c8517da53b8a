use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::answer;

/// How many connections one server has open; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, or stay silent between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// The least buffer hyper takes, and enough for any head these endpoints understand.
const BUFFER_SIZE: usize = 8 * 1024;
/// How long a connection may live: nobody holds a place for ever by reading slowly.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long a connection may go on once it was asked to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept, which is usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers the requests of a server.
///
/// It is cloned for each connection, so a clone should be cheap.
pub trait Endpoint: Clone + Send + Sync + 'static {
    /// Answers a request by its head; bodies are not read.
    ///
    /// It may take its time: it is not called on a thread that polls tasks.
    fn answer(&self, request: &Parts) -> Response<Bytes>;
}

/// Serves an endpoint on a listener until `shutdown` resolves; then open connections have five seconds to finish.
///
/// At most 64 connections are open at a time, none for longer than five minutes. A request's head must arrive within two
/// seconds and fit 8 KiB.
///
/// # Errors
///
/// If the listener cannot be used by the runtime.
///
/// # Panics
///
/// If called outside a tokio runtime with I/O and time.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; open connections end as at `shutdown`.
pub async fn serve(
    listener: std::net::TcpListener,
    endpoint: impl Endpoint,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Whoever holds the receiver sees the sender go.
    let (serving, ended) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (endpoint, mut ended) = (endpoint.clone(), ended.clone());
                tokio::spawn(async move {
                    // A client that goes away or misbehaves concerns nobody else.
                    let _ =
                        serve_connection(stream, endpoint, async move { _ = ended.changed().await }).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "administrative connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, serving));
    // Every place is free once every connection has ended.
    let _ = places.acquire_many(MAX_CONNECTIONS.try_into().unwrap_or(u32::MAX)).await;
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    endpoint: impl Endpoint,
    ended: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let service = service_fn(move |request| respond(endpoint.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_SIZE)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => return result,
        () = ended => {}
        () = sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        result = connection => result,
        () = sleep(GRACE) => Ok(()),
    }
}

async fn respond(
    endpoint: impl Endpoint,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    let answer = spawn_blocking(move || endpoint.answer(&head)).await;
    let answer =
        answer.unwrap_or_else(|_| answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"));
    Ok(answer.map(Full::new))
}
