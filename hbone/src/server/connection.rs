use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep_until},
};

use super::{Handle, Incoming};
use crate::connection::{ConnectionError, Control, Driver, KeepaliveDriver, Metered, Order, Over};

/// Drives a server's connection and yields the tunnels that are asked for.
///
/// Nothing happens on the connection, nor on its tunnels, unless [`accept`](Self::accept) is being polled. Dropping it
/// ends all tunnels with [`TunnelError::Lost`](crate::TunnelError::Lost).
#[derive(Debug)]
#[must_use = "a connection does nothing unless tunnels are accepted from it"]
pub struct Connection<T: AsyncRead + AsyncWrite + Unpin> {
    /// `None` once it is over.
    inner: Option<h2::server::Connection<Metered<T>, Bytes>>,
    keepalive: Option<KeepaliveDriver>,
    driver: Driver,
    control: Arc<Control>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Requests that nobody has taken yet: no more than the peer may have tunnels.
    waiting: VecDeque<Incoming>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(
        inner: h2::server::Connection<Metered<T>, Bytes>,
        keepalive: Option<KeepaliveDriver>,
        driver: Driver,
    ) -> Self {
        Self {
            inner: Some(inner),
            keepalive,
            driver,
            control: Arc::default(),
            deadline: None,
            waiting: VecDeque::new(),
        }
    }

    /// A handle that ends the connection from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.control), Arc::clone(self.driver.shared()))
    }

    /// Waits for the next request for a tunnel, driving the connection and all its tunnels meanwhile.
    ///
    /// A request that is no CONNECT, or whose authority is no host and port, is answered with 400 and not yielded: it
    /// does not end the connection. Nor is one yielded that the client has taken back. `None` when the connection is
    /// closed in good order, drained or aborted.
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
        let received = self.driver.shared().received();
        if let Some(Poll::Ready(silence)) =
            self.keepalive.as_mut().map(|keepalive| keepalive.poll(cx, received))
        {
            self.end(Over::Silent(silence));
            return Poll::Ready(Some(Err(ConnectionError::KeepaliveTimeout(silence))));
        }
        if let Poll::Ready(ended) = self.poll_requests(cx) {
            self.end(Over::Ended);
            // A peer that leaves during a drain does what it was asked to, at whatever moment.
            let left = self.deadline.is_some() && matches!(ended, Err(ConnectionError::Io(_)));
            return Poll::Ready(ended.err().filter(|_| !left).map(Err));
        }
        while let Some(mut incoming) = self.waiting.pop_front() {
            if !incoming.is_cancelled() {
                return Poll::Ready(Some(Ok(incoming)));
            }
        }
        Poll::Pending
    }

    /// One turn: takes all that has arrived out of h2. Resolves when the connection has ended.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Ok(())) };
        self.driver.begin();
        let ended = loop {
            match inner.poll_accept(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.waiting.extend(receive(request, respond, &self.driver));
                }
                Poll::Ready(Some(Err(error))) => break Poll::Ready(Err(ConnectionError::from_h2(error))),
                Poll::Ready(None) => break Poll::Ready(Ok(())),
            }
        };
        self.driver.drain();
        if let Some(window) = self.driver.next_window() {
            inner.set_target_window_size(window);
        }
        if let Some(window) = self.driver.next_stream_window()
            && inner.set_initial_window_size(window).is_ok()
        {
            self.driver.stream_window_sent();
        }
        ended
    }

    /// Drops the connection, saying goodbye if the peer is listening.
    fn abort(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        if let Some(inner) = &mut self.inner {
            self.driver.shared().end(Over::Ended);
            inner.abrupt_shutdown(Reason::NO_ERROR);
            let _ = inner.poll_closed(cx);
        }
        self.end(Over::Ended);
        Poll::Ready(None)
    }

    fn end(&mut self, cause: Over) {
        let inner = self.inner.take();
        self.driver.end(cause, || drop(inner));
        self.waiting.clear();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Connection<T> {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.end(Over::Ended);
        }
    }
}

/// Takes a request, unless too much is held already or it is none for a tunnel.
fn receive(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    driver: &Driver,
) -> Option<Incoming> {
    let shared = driver.shared();
    if shared.is_saturated() || !shared.admit() {
        respond.send_reset(Reason::REFUSED_STREAM);
        return None;
    }
    Incoming::check(request, respond, shared)
}
