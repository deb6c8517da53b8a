use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Receiver, TunnelError};

/// The receiving direction of a [`Tunnel`](crate::Tunnel).
///
/// Dropped before the end, it discards what arrives from then on; the tunnel itself lives until the other half is
/// finished or dropped, and is reset then.
#[derive(Debug)]
pub struct RecvHalf {
    stream: Receiver,
    /// Taken, but not yet copied out by `AsyncRead`.
    chunk: Bytes,
    /// Taken, but not yet released.
    held: usize,
    ended: bool,
}

impl RecvHalf {
    pub(super) fn new(stream: Receiver) -> Self {
        Self { stream, chunk: Bytes::new(), held: 0, ended: false }
    }

    /// Receives the next bytes, never empty; `None` after the last.
    ///
    /// The bytes count against the peer's window until they are [released](Self::release). A small frame that waited
    /// behind others comes in one piece with them.
    ///
    /// # Errors
    ///
    /// If the tunnel is reset or its connection lost before the peer finished. Everything that arrived before comes
    /// first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no bytes are lost.
    pub async fn data(&mut self) -> Option<Result<Bytes, TunnelError>> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    /// Polls for the next bytes, see [`data`](Self::data).
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TunnelError>>> {
        if !self.chunk.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.chunk))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.stream.poll_data(cx));
        match &event {
            Some(Ok(data)) => self.held += data.len(),
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        Poll::Ready(event)
    }

    /// Lets the peer send `bytes` more: so many of those received have been dealt with.
    ///
    /// Call it once the bytes went where they belong. A consumer that releases before holds back nobody, and the bytes
    /// pile up in front of it. More than what was received and not released before is not released.
    ///
    /// Cost: a lock; a frame to the peer each time a good part of the window has been released.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        if bytes > 0 {
            self.held -= bytes;
            self.stream.release(bytes);
        }
    }

    /// Whether the peer's END_STREAM has arrived, though what it sent before may not have been received yet. What ends
    /// the tunnel now takes nothing away from this direction.
    pub fn is_end_received(&self) -> bool {
        self.ended || self.stream.is_end_received()
    }

    /// Whether the peer has finished and everything has been received.
    pub fn is_finished(&self) -> bool {
        self.ended && self.chunk.is_empty()
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.release(self.held);
    }
}

impl AsyncRead for RecvHalf {
    /// Reads, releasing what was copied out.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(data) = ready!(this.poll_data(cx)).transpose()? else { return Poll::Ready(Ok(())) };
        this.chunk = data;
        let length = this.chunk.len().min(buffer.remaining());
        buffer.put_slice(this.chunk.get(..length).unwrap_or_default());
        this.chunk.advance(length);
        this.release(length);
        Poll::Ready(Ok(()))
    }
}
