use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Handle, send_connect::Requests};
use crate::connection::{
    Alarm, ConnectionError, Driver, KeepaliveDriver, Metered, Order, Orders, Over, poll_deadline,
};

/// Drives a client's connection: reads, writes and pings for all its tunnels.
///
/// Spawn it or poll it beside whatever uses the tunnels. It resolves when the connection is closed: in good order once
/// the last [`SendConnect`](super::SendConnect) and the last tunnel are gone, drained or aborted, or with what went
/// wrong. Dropping it ends all tunnels with [`TunnelError::Lost`](crate::TunnelError::Lost).
#[derive(Debug)]
#[must_use = "a connection does nothing unless polled"]
pub struct Connection<T: AsyncRead + AsyncWrite + Unpin> {
    /// `None` once it is over.
    inner: Option<h2::client::Connection<Metered<T>, Bytes>>,
    keepalive: Option<KeepaliveDriver>,
    driver: Driver,
    requests: Weak<Requests>,
    orders: Orders,
    /// When a drain ends.
    deadline: Option<Alarm>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(
        inner: h2::client::Connection<Metered<T>, Bytes>,
        keepalive: Option<KeepaliveDriver>,
        driver: Driver,
        requests: Weak<Requests>,
    ) -> Self {
        Self { inner: Some(inner), keepalive, driver, requests, orders: Orders::default(), deadline: None }
    }

    /// A handle that ends the connection from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.driver.shared()), Weak::clone(&self.requests))
    }

    /// How many tunnels the peer lets us have, as far as it has said.
    #[cfg(feature = "pool")]
    pub(crate) fn peer_limit(&self) -> usize {
        self.inner.as_ref().map_or(0, h2::client::Connection::max_concurrent_send_streams)
    }

    /// Whether so much is held that the connection should take no more tunnels.
    #[cfg(feature = "pool")]
    pub(crate) fn is_saturated(&self) -> bool {
        self.driver.shared().is_saturated()
    }

    /// Whether the connection is to end now by order.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> bool {
        match self.driver.shared().control().poll_order(&mut self.orders, cx) {
            None => false,
            Some(Order::Abort) => true,
            Some(Order::Drain { deadline }) => {
                if let Some(requests) = self.requests.upgrade() {
                    requests.close();
                }
                deadline.is_some_and(|deadline| poll_deadline(&mut self.deadline, deadline, cx).is_ready())
            }
        }
    }

    fn end(&mut self, cause: Over) {
        let inner = self.inner.take();
        self.driver.end(cause, || drop(inner));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.inner.is_some() && this.poll_control(cx) {
            this.end(Over::Closed);
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(Ok(())) };
        let received = this.driver.shared().received();
        if let Some(Poll::Ready(silence)) =
            this.keepalive.as_mut().map(|keepalive| keepalive.poll(cx, received))
        {
            this.end(Over::Silent(silence));
            return Poll::Ready(Err(ConnectionError::KeepaliveTimeout(silence)));
        }
        this.driver.begin();
        let ended = Pin::new(&mut *inner).poll(cx).map_err(ConnectionError::from_h2);
        this.driver.drain();
        if let Some(flood) = this.driver.shared().flood() {
            this.end(Over::Flooded(flood));
            return Poll::Ready(Err(ConnectionError::PeerFlood(flood)));
        }
        if ended.is_ready() {
            // What is still open learns of the end now, not when this future is dropped.
            this.end(Over::Ended);
            return ended;
        }
        if let Some(window) = this.driver.next_window() {
            inner.set_target_window_size(window);
        }
        if let Some(window) = this.driver.next_stream_window()
            && inner.set_initial_window_size(window).is_ok()
        {
            this.driver.stream_window_sent();
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Connection<T> {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.end(Over::Closed);
        }
    }
}
