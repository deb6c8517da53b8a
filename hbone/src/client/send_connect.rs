use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};

use super::ConnectError;
use crate::{
    connection::Liveness,
    proto::{ConnectRequest, ConnectResponse},
    tunnel::{Permit, Release, Tunnel},
};

/// Opens tunnels on a connection. Clones share the connection.
///
/// The connection closes in good order once all clones and all tunnels are gone.
#[derive(Clone)]
pub struct SendConnect {
    inner: SendRequest<Bytes>,
    active: Arc<ActiveTunnels>,
    liveness: Liveness,
}

impl SendConnect {
    pub(super) fn new(inner: SendRequest<Bytes>, liveness: Liveness) -> Self {
        Self { inner, active: Arc::default(), liveness }
    }

    /// Asks the peer for a tunnel and waits for its answer, any status from 200 to 299.
    ///
    /// While the connection has as many tunnels as the peer allows, the request waits for one of them to end. There is
    /// no deadline: put one around it.
    ///
    /// # Errors
    ///
    /// If the peer refuses or the connection fails; other tunnels on the connection are not affected by a refusal.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back with CANCEL; the peer may have acted on it.
    pub async fn connect(&self, request: ConnectRequest) -> Result<Tunnel, ConnectError> {
        self.start(&request)?.await
    }

    /// Sends a request without waiting for the answer.
    pub(crate) fn start(&self, request: &ConnectRequest) -> Result<Opening, ConnectError> {
        self.active.0.fetch_add(1, Ordering::Relaxed);
        let permit = Permit::new(Arc::clone(&self.active) as Arc<dyn Release>);
        self.open(request, permit)
    }

    /// Sends a request without waiting for the answer. `permit` stays with the tunnel.
    pub(crate) fn open(&self, request: &ConnectRequest, permit: Permit) -> Result<Opening, ConnectError> {
        let request = request.to_http().ok_or(ConnectError::InvalidRequest)?;
        let mut send = self.inner.clone();
        // Never pending on a fresh clone; tells a connection that is over from a request that is wrong.
        if let Poll::Ready(Err(error)) = send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            return Err(ConnectError::unsent(&error));
        }
        let (response, stream) = send.send_request(request, false).map_err(|error| {
            if error.is_go_away() || error.is_io() {
                ConnectError::unsent(&error)
            } else {
                ConnectError::InvalidRequest
            }
        })?;
        Ok(Opening { response, liveness: self.liveness.clone(), send: Some((stream, permit)) })
    }

    /// How many tunnels this connection has, including requests under way, opened through this or a clone.
    pub fn active_tunnels(&self) -> usize {
        self.active.0.load(Ordering::Relaxed)
    }

    /// How many tunnels the peer lets this connection have now; one until it has said.
    pub fn peer_limit(&self) -> usize {
        self.inner.current_max_send_streams()
    }

    /// Whether the connection takes no more tunnels: it is closed, or the peer is closing it. Open tunnels may live on.
    pub fn is_closed(&self) -> bool {
        let ready = self.inner.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }
}

impl fmt::Debug for SendConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendConnect").field("active_tunnels", &self.active_tunnels()).finish_non_exhaustive()
    }
}

/// A request under way. Dropping it takes the request back.
#[derive(Debug)]
pub(crate) struct Opening {
    response: ResponseFuture,
    liveness: Liveness,
    /// `None` once answered.
    send: Option<(SendStream<Bytes>, Permit)>,
}

impl Future for Opening {
    type Output = Result<Tunnel, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(ConnectError::sent)?;
        let (head, recv) = response.into_parts();
        if !head.status.is_success() {
            return Poll::Ready(Err(ConnectError::Refused(head.status)));
        }
        let (send, permit) = self.send.take().expect("not polled again once answered");
        let response = ConnectResponse::from_headers(head.headers);
        Poll::Ready(Ok(Tunnel::new(recv, send, response, self.liveness.clone(), Some(permit))))
    }
}

/// Counts the tunnels of a connection.
#[derive(Debug, Default)]
struct ActiveTunnels(AtomicUsize);

impl Release for ActiveTunnels {
    fn release(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
