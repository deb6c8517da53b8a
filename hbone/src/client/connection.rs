use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{ConnectionError, KeepaliveDriver, Liveness};

/// Drives a client's connection: reads, writes and pings for all its tunnels.
///
/// Spawn it or poll it beside whatever uses the tunnels. It resolves when the connection is closed: in good order once
/// the last [`SendConnect`](super::SendConnect) and the last tunnel are gone, or with what went wrong. Dropping it
/// ends all tunnels with [`TunnelError::Lost`](crate::TunnelError::Lost).
#[derive(Debug)]
#[must_use = "a connection does nothing unless polled"]
pub struct Connection<T: AsyncRead + AsyncWrite + Unpin> {
    /// `None` once it is over.
    inner: Option<h2::client::Connection<T, Bytes>>,
    keepalive: Option<KeepaliveDriver>,
    liveness: Liveness,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(
        inner: h2::client::Connection<T, Bytes>,
        keepalive: Option<KeepaliveDriver>,
        liveness: Liveness,
    ) -> Self {
        Self { inner: Some(inner), keepalive, liveness }
    }

    /// How many tunnels the peer lets us have, as far as it has said.
    #[cfg(feature = "pool")]
    pub(crate) fn peer_limit(&self) -> usize {
        self.inner.as_ref().map_or(0, h2::client::Connection::max_concurrent_send_streams)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(Ok(())) };
        let ended = match this.keepalive.as_mut().map(|keepalive| keepalive.poll(cx)) {
            Some(Poll::Ready(error)) => Poll::Ready(Err(error)),
            Some(Poll::Pending) | None => Pin::new(inner).poll(cx).map_err(ConnectionError::from_h2),
        };
        if ended.is_ready() {
            // What is still open learns of the end now, not when this future is dropped.
            this.liveness.end();
            this.inner = None;
        }
        ended
    }
}
