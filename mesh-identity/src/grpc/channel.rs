//! A connection that calls share, and that is there again when the next call needs it.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::Mutex, time::Instant};
use tonic::body::Body;
use tower::Service;

use super::{DialError, Dialer, backoff::Backoff};

/// One HTTP/2 connection to a server, opened when first needed and again once it is lost, replaced, or has let
/// a call wait in vain. Clones share it.
///
/// However many calls wait for a connection, one dials, and all learn why it failed. The task that drives the
/// connection ends with the last clone and the last call.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Shared>);

struct Shared {
    dialer: Dialer,
    dial_timeout: Duration,
    ping_interval: Option<Duration>,
    state: Mutex<State>,
    /// How often dialling has ended, well or not.
    dials: AtomicU64,
    /// The connection that a call has given up waiting on, by number.
    suspect: AtomicU64,
}

struct State {
    connection: Option<Connection>,
    failure: Option<DialError>,
    backoff: Backoff,
    not_before: Instant,
}

#[derive(Clone)]
struct Connection {
    sender: http2::SendRequest<Body>,
    /// From one, in the order of dialling.
    number: u64,
    /// What the dialler was when it dialled.
    epoch: u64,
}

impl Channel {
    /// Connects through `dialer`, which may take `dial_timeout` up to the end of all handshakes. During calls
    /// the server is asked for a sign of life every `ping_interval`: many servers take pings for abuse.
    pub(crate) fn new(dialer: Dialer, dial_timeout: Duration, ping_interval: Option<Duration>) -> Self {
        Self(Arc::new(Shared {
            dialer,
            dial_timeout,
            ping_interval,
            state: Mutex::new(State {
                connection: None,
                failure: None,
                backoff: Backoff::new(FIRST_WAIT, LAST_WAIT),
                not_before: Instant::now(),
            }),
            dials: AtomicU64::new(0),
            suspect: AtomicU64::new(0),
        }))
    }

    async fn send(self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, ChannelError> {
        let mut fresh = false;
        loop {
            let Connection { mut sender, number, .. } = self.connection().await?;
            let mut waiting = Waiting { shared: &self.0, number, in_vain: true };
            let sent = sender.try_send_request(request).await;
            waiting.in_vain = false;
            match sent {
                Ok(response) => return Ok(response),
                // The server ended the connection before it saw the call: that says nothing about the call.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        self.0.suspect.store(number, Ordering::Relaxed);
                        (request, fresh) = (unsent, true);
                    }
                    _ => return Err(ChannelError::Lost(Arc::new(error.into_error()))),
                },
            }
        }
    }

    /// The connection there is, or a new one.
    async fn connection(&self) -> Result<Connection, ChannelError> {
        let shared = &*self.0;
        let dials = shared.dials.load(Ordering::Acquire);
        let mut state = shared.state.lock().await;
        let epoch = shared.dialer.epoch().await?;
        if let Some(connection) = &state.connection
            && connection.epoch == epoch
            && connection.number != shared.suspect.load(Ordering::Relaxed)
            && !connection.sender.is_closed()
        {
            return Ok(connection.clone());
        }
        // Calls that are under way keep theirs until they end.
        state.connection = None;
        if let Some(failure) = &state.failure
            && dials != shared.dials.load(Ordering::Acquire)
        {
            return Err(failure.clone().into());
        }
        tokio::time::sleep_until(state.not_before).await;
        let dialled = tokio::time::timeout(shared.dial_timeout, self.dial()).await;
        let number = shared.dials.fetch_add(1, Ordering::AcqRel) + 1;
        match dialled.unwrap_or(Err(DialError::Deadline { after: shared.dial_timeout })) {
            Ok((sender, epoch)) => {
                let connection = Connection { sender, number, epoch };
                state.connection = Some(connection.clone());
                state.failure = None;
                state.backoff.succeeded();
                state.not_before = Instant::now();
                Ok(connection)
            }
            Err(failure) => {
                state.not_before = Instant::now() + state.backoff.failed();
                state.failure = Some(failure.clone());
                Err(failure.into())
            }
        }
    }

    async fn dial(&self) -> Result<(http2::SendRequest<Body>, u64), DialError> {
        let (stream, epoch) = self.0.dialer.dial().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.0.ping_interval)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false)
            .max_header_list_size(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| DialError::Http2(Arc::new(error)))?;
        tokio::spawn(connection);
        Ok((sender, epoch))
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = ChannelError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// Always: a call waits for its connection itself, within its own deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.0.dialer).finish()
    }
}

/// A call without an answer so far. Who gives up on it makes the next one dial: a connection whose packets are
/// lost on the way looks open for many minutes.
struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
    in_vain: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.in_vain {
            self.shared.suspect.store(self.number, Ordering::Relaxed);
        }
    }
}

/// Why a call reached no server, or lost it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no connection.
    #[error("no connection")]
    Dial(#[from] DialError),
    /// The connection ended during the call.
    #[error("connection lost")]
    Lost(#[source] Arc<hyper::Error>),
}

impl ChannelError {
    /// Finds it among the sources of a gRPC status.
    pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// Between dials that fail: short, as who calls backs off by himself and a server that is back should be found
/// at once.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// As Istio's proxies.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// No server of ours sends more.
const MAX_HEADERS: u32 = 16 * 1024;
