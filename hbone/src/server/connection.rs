use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep_until},
};

use super::{
    Handle, Incoming,
    control::{Control, Order},
};
use crate::connection::{ConnectionError, KeepaliveDriver, Liveness};

/// Drives a server's connection and yields the tunnels that are asked for.
///
/// Nothing happens on the connection, nor on its tunnels, unless [`accept`](Self::accept) is being polled. Dropping it
/// ends all tunnels with [`TunnelError::Lost`](crate::TunnelError::Lost).
#[derive(Debug)]
#[must_use = "a connection does nothing unless tunnels are accepted from it"]
pub struct Connection<T> {
    /// `None` once it is over.
    inner: Option<h2::server::Connection<T, Bytes>>,
    keepalive: Option<KeepaliveDriver>,
    control: Arc<Control>,
    liveness: Liveness,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(inner: h2::server::Connection<T, Bytes>, keepalive: Option<KeepaliveDriver>) -> Self {
        Self {
            inner: Some(inner),
            keepalive,
            control: Arc::default(),
            liveness: Liveness::default(),
            deadline: None,
        }
    }

    /// A handle that ends the connection from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.control))
    }

    /// Waits for the next request for a tunnel, driving the connection and all its tunnels meanwhile.
    ///
    /// A request that is no CONNECT, or whose authority is no host and port, is answered with 400 and not yielded: it
    /// does not end the connection. `None` when the connection is closed in good order, drained or aborted.
    ///
    /// # Errors
    ///
    /// If the connection fails; it is over then, and the next call yields `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no request is lost. But nothing moves until it is called again.
    pub async fn accept(&mut self) -> Option<Result<Incoming, ConnectionError>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Polls for the next request, see [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match self.control.poll_order(cx) {
            None => {}
            Some(Order::Abort) => return self.abort(cx),
            Some(Order::Drain { deadline }) => {
                // Once; repeated, it does nothing.
                inner.graceful_shutdown();
                let sleep = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if sleep.deadline() != deadline {
                    sleep.as_mut().reset(deadline);
                }
                if sleep.as_mut().poll(cx).is_ready() {
                    return self.abort(cx);
                }
            }
        }
        if let Some(Poll::Ready(error)) = self.keepalive.as_mut().map(|keepalive| keepalive.poll(cx)) {
            self.end();
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match inner.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if let Some(incoming) = Incoming::check(request, respond, &self.liveness) {
                        return Poll::Ready(Some(Ok(incoming)));
                    }
                }
                Poll::Ready(ended) => {
                    self.end();
                    let error = ended.and_then(Result::err).map(ConnectionError::from_h2);
                    // A peer that leaves during a drain does what it was asked to, at whatever moment.
                    let left = self.deadline.is_some() && matches!(error, Some(ConnectionError::Io(_)));
                    return Poll::Ready(error.filter(|_| !left).map(Err));
                }
            }
        }
    }

    /// Drops the connection, saying goodbye if the peer is listening.
    fn abort(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        self.liveness.end();
        if let Some(mut inner) = self.inner.take() {
            inner.abrupt_shutdown(Reason::NO_ERROR);
            let _ = inner.poll_closed(cx);
        }
        Poll::Ready(None)
    }

    fn end(&mut self) {
        self.liveness.end();
        self.inner = None;
    }
}
