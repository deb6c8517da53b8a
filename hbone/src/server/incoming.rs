use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Method, Request, Response};

use crate::{
    connection::Shared,
    proto::{Baggage, ConnectResponse, Destination, Forwarded, Refusal, TraceParent, TraceState, header},
    tunnel::{Receiver, Sender, Stream, Tunnel, TunnelError},
};

/// A request for a tunnel, waiting for an answer.
///
/// What the client sends before the answer is held back: it is delivered once the tunnel is
/// [accepted](Self::accept), and discarded if it is [refused](Self::refuse).
///
/// Dropping it refuses it with [`Refusal::Unavailable`], and not with [`Refusal::Unprocessed`], which would claim that
/// nothing was done about it: whoever had it may have dialled the destination already.
#[derive(Debug)]
#[must_use = "dropping a request refuses it"]
pub struct Incoming {
    destination: Destination,
    headers: HeaderMap,
    /// `None` once answered.
    stream: Option<(Receiver, Sender)>,
}

impl Incoming {
    /// Takes a request that is one for a tunnel; answers any other.
    pub(super) fn check(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        connection: &Arc<Shared>,
    ) -> Option<Self> {
        let (head, recv) = request.into_parts();
        let destination = match (head.method, head.uri.authority()) {
            (Method::CONNECT, Some(authority)) => authority.as_str().parse().ok(),
            _ => None,
        };
        let Some(destination) = destination else {
            answer(&mut respond, Refusal::BadRequest);
            connection.note_refusal();
            connection.note_taken_back();
            return None;
        };
        let stream = Some(Stream::incoming(Arc::clone(connection), recv, respond));
        Some(Self { destination, headers: head.headers, stream })
    }

    /// Where the tunnel is to lead.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// All headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Which workload the client says it is. Not to be trusted.
    ///
    /// Parsed with each call, as are the others.
    pub fn baggage(&self) -> Option<Baggage> {
        Baggage::from_headers(&self.headers)
    }

    /// For whom the client says it asks. Not to be trusted.
    pub fn forwarded(&self) -> Option<Forwarded> {
        Forwarded::from_headers(&self.headers)
    }

    /// Which network the client says it asks from, in double HBONE. Not to be trusted.
    pub fn forwarded_network(&self) -> Option<&str> {
        self.headers.get(header::FORWARDED_NETWORK)?.to_str().ok()
    }

    /// Whether the request comes from the network `own`, as far as it says; if not, it came through a gateway, and the
    /// connection's source address is not the client's. Case means nothing, as in the reference.
    pub fn is_from_network(&self, own: &str) -> bool {
        self.forwarded_network().is_none_or(|network| network.eq_ignore_ascii_case(own))
    }

    /// Which trace the connection is part of, if the client says so in a valid way.
    pub fn traceparent(&self) -> Option<TraceParent> {
        TraceParent::from_headers(&self.headers)
    }

    /// What tracing systems say about that trace, to be passed on.
    pub fn tracestate(&self) -> Option<TraceState> {
        TraceState::from_headers(&self.headers)
    }

    /// Accepts the tunnel with status 200.
    ///
    /// # Errors
    ///
    /// If the client took the request back or the connection is lost.
    pub fn accept(self) -> Result<Tunnel, TunnelError> {
        self.accept_with(ConnectResponse::new())
    }

    /// Accepts the tunnel with status 200 and headers.
    ///
    /// # Errors
    ///
    /// If the client took the request back, the connection is lost, or a header must not be in a response
    /// (RFC 9113 §8.2.2, RFC 9110 §9.3.6), which refuses the request.
    pub fn accept_with(mut self, response: ConnectResponse) -> Result<Tunnel, TunnelError> {
        let (recv, send) = self.stream.take().expect("answered once, by value");
        let Some(head) = response.into_http() else {
            send.with_respond(|respond| respond.send_reset(Reason::INTERNAL_ERROR));
            return Err(TunnelError::Closed);
        };
        if let Err(error) = send.respond(head) {
            note_taken_back(&error, &send);
            return Err(error);
        }
        Ok(Tunnel::new(recv, send, ConnectResponse::new()))
    }

    /// Waits until the client takes the request back or the connection is lost: nobody wants the answer any more.
    ///
    /// For a server that takes long to answer, to be polled beside its work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn taken_back(&mut self) -> TunnelError {
        poll_fn(|cx| self.poll_taken_back(cx)).await
    }

    /// Polls for that, see [`taken_back`](Self::taken_back).
    pub fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        match &self.stream {
            Some((_, send)) => send.poll_reset(cx),
            None => Poll::Ready(TunnelError::Closed),
        }
    }

    /// Whether it was taken back, as far as the connection's driver has seen.
    pub(super) fn is_taken_back(&self) -> bool {
        self.stream.as_ref().is_none_or(|(recv, _)| recv.was_reset())
    }

    /// Refuses the tunnel. Tells nobody why beyond the status.
    pub fn refuse(mut self, refusal: Refusal) {
        self.refuse_with(refusal);
    }

    fn refuse_with(&mut self, refusal: Refusal) {
        if let Some((_recv, send)) = self.stream.take() {
            if let Poll::Ready(error) = send.poll_reset(&mut Context::from_waker(Waker::noop())) {
                note_taken_back(&error, &send);
            }
            send.with_respond(|respond| answer(respond, refusal));
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.refuse_with(Refusal::Unavailable);
    }
}

/// Counts a request that the client took back, or that it broke the protocol on.
fn note_taken_back(error: &TunnelError, send: &Sender) {
    if error.is_reset() {
        send.connection().note_taken_back();
    }
}

/// Sends a refusal. If the client is gone it does not matter.
fn answer(respond: &mut SendResponse<Bytes>, refusal: Refusal) {
    match refusal.status() {
        Some(status) => {
            let mut response = Response::new(());
            *response.status_mut() = status;
            let _ = respond.send_response(response, true);
        }
        None => respond.send_reset(Reason::REFUSED_STREAM),
    }
}
