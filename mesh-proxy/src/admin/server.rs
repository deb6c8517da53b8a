use std::{collections::VecDeque, convert::Infallible, future::Future, io, pin::pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};

use super::answer;

/// How many connections one server has open; for a further one the oldest is closed.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// The least buffer hyper takes, and enough for any head these endpoints understand.
const BUFFER_SIZE: usize = 8 * 1024;
/// How long a connection may live: enough for 100 MB over a slow forward, and nobody holds an answer for longer.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long a connection may go on once the server was asked to end.
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
/// A connection serves one request, whose head must arrive within two seconds and fit 8 KiB, and lives for a minute at
/// most. At most 64 are open at a time; one more closes the oldest, so that whoever asks is heard, no matter how many
/// neither ask nor read.
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
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
    // Whoever holds the receiver sees the sender go, and the sender when all receivers have gone.
    let (serving, ended) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let (endpoint, mut ended) = (endpoint.clone(), ended.clone());
                let connection = tokio::spawn(async move {
                    let end = async { _ = ended.wait_for(|&ended| ended).await };
                    // A client that goes away or misbehaves concerns nobody else.
                    let _ = serve_connection(stream, endpoint, end).await;
                });
                open.push_back(connection.abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "administrative connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, ended));
    serving.send_replace(true);
    serving.closed().await;
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
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => return result,
        () = ended => {}
        () = sleep(MAX_AGE) => return Ok(()),
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
