use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::Request;

use super::ConnectError;
use crate::{
    connection::Shared,
    proto::{ConnectRequest, ConnectResponse},
    tunnel::{Permit, Receiver, Sender, Stream, Tunnel},
};

/// Opens tunnels on a connection. Clones share the connection.
///
/// The connection closes in good order once all clones and all tunnels are gone.
#[derive(Clone)]
pub struct SendConnect {
    requests: Arc<Requests>,
}

impl SendConnect {
    pub(super) fn new(send: SendRequest<Bytes>, shared: Arc<Shared>) -> Self {
        Self { requests: Arc::new(Requests { send: Mutex::new(Some(send)), shared }) }
    }

    pub(super) fn requests(&self) -> &Arc<Requests> {
        &self.requests
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
        self.open(&request, None)?.await
    }

    /// Sends a request without waiting for the answer. `permit` stays with the tunnel.
    pub(crate) fn open(
        &self,
        request: &ConnectRequest,
        permit: Option<Permit>,
    ) -> Result<Opening, ConnectError> {
        let request = request.to_http().ok_or(ConnectError::InvalidRequest)?;
        let (response, stream) = self.requests.send(request)?;
        let ends = Stream::requested(Arc::clone(&self.requests.shared), response, stream, permit);
        Ok(Opening { ends: Some(ends) })
    }

    /// How many tunnels this connection has, including requests under way, opened through this or a clone.
    pub fn active_tunnels(&self) -> usize {
        self.requests.shared.tunnels()
    }

    /// How many tunnels the peer lets this connection have now; one until it has said, none once it is closed.
    pub fn peer_limit(&self) -> usize {
        self.requests.get().map_or(0, |send| send.current_max_send_streams())
    }

    /// Whether the connection takes no more tunnels: it is closed, draining, or the peer is closing it. Open tunnels may
    /// live on.
    pub fn is_closed(&self) -> bool {
        let Some(mut send) = self.requests.get() else { return true };
        let ready = send.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    /// How many bytes have arrived on the connection.
    #[cfg(feature = "pool")]
    pub(crate) fn received(&self) -> u64 {
        self.requests.shared.received()
    }

    /// How much memory the connection takes with bytes that were received and not yet released.
    ///
    /// Cost: one atomic load.
    pub fn held_bytes(&self) -> usize {
        self.requests.shared.held()
    }

    /// Whether so much is [held](Self::held_bytes) that new tunnels should go to another connection.
    ///
    /// The limit is [`Builder::connection_budget`](super::Builder::connection_budget). A tunnel opened all the same works
    /// like any other. Cost: one atomic load.
    pub fn is_saturated(&self) -> bool {
        self.requests.shared.is_saturated()
    }
}

impl fmt::Debug for SendConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendConnect").field("active_tunnels", &self.active_tunnels()).finish_non_exhaustive()
    }
}

/// What all clones share: as long as it is there and open, the connection stays.
pub(super) struct Requests {
    /// `None` once the connection is to take no more.
    send: Mutex<Option<SendRequest<Bytes>>>,
    shared: Arc<Shared>,
}

impl Requests {
    /// Takes no more requests.
    pub(super) fn close(&self) {
        let send = self.send.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(send);
    }

    fn get(&self) -> Option<SendRequest<Bytes>> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, request: Request<()>) -> Result<(ResponseFuture, SendStream<Bytes>), ConnectError> {
        let mut slot = self.send.lock().unwrap_or_else(PoisonError::into_inner);
        let send = slot.as_mut().ok_or(ConnectError::Closed)?;
        if !self.shared.admit() {
            return Err(ConnectError::OverBudget);
        }
        let sent = send.send_request(request, false);
        match (sent, send.poll_ready(&mut Context::from_waker(Waker::noop()))) {
            (Ok(stream), ready) => {
                if ready.is_pending() {
                    // The stream waits until the peer allows it. This handle would take no other meanwhile, and keep
                    // that one even if its user gave up.
                    *send = send.clone();
                }
                self.shared.tunnel_opened();
                Ok(stream)
            }
            (Err(_), Poll::Ready(Err(error))) => Err(ConnectError::unsent(&error)),
            (Err(_), _) => Err(ConnectError::InvalidRequest),
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// A request under way. Dropping it takes the request back.
#[derive(Debug)]
pub(crate) struct Opening {
    /// `None` once answered.
    ends: Option<(Receiver, Sender)>,
}

impl Future for Opening {
    type Output = Result<Tunnel, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (recv, _) = self.ends.as_ref().expect("not polled again once answered");
        let (status, headers) = ready!(recv.poll_answer(cx))?;
        if !status.is_success() {
            return Poll::Ready(Err(ConnectError::Refused(status)));
        }
        let (recv, send) = self.ends.take().expect("looked at above");
        Poll::Ready(Ok(Tunnel::new(recv, send, ConnectResponse::from_headers(headers))))
    }
}
