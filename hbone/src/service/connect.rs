use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    client::{ConnectError, Opening, SendConnect},
    proto::ConnectRequest,
    tunnel::Tunnel,
};

impl Service<ConnectRequest> for SendConnect {
    type Response = Tunnel;
    type Error = ConnectError;
    type Future = ResponseFuture;

    /// Ready while the connection takes tunnels, and failed with [`ConnectError::Closed`] for ever after; never pending.
    /// Past the peer's limit a request waits inside its future for a tunnel to end.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(if self.is_closed() { Err(ConnectError::Closed) } else { Ok(()) })
    }

    fn call(&mut self, request: ConnectRequest) -> ResponseFuture {
        ResponseFuture(Some(self.open(&request, None)))
    }
}

/// The answer to a request for a tunnel.
///
/// Dropping it takes the request back with CANCEL; the peer may have acted on it.
#[derive(Debug)]
#[must_use = "dropping it takes the request back"]
pub struct ResponseFuture(Option<Result<Opening, ConnectError>>);

impl Future for ResponseFuture {
    type Output = Result<Tunnel, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(Ok(opening)) => Pin::new(opening).poll(cx),
            unsent => {
                let error = unsent.take().and_then(Result::err);
                Poll::Ready(Err(error.expect("not polled again once answered")))
            }
        }
    }
}
