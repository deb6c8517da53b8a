use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, SendStream};
use tokio::io::AsyncWrite;

use super::{Shared, TunnelError};
use crate::{
    connection::{ConnectionError, from_reason},
    proto::ResetReason,
};

/// The sending direction of a [`Tunnel`](crate::Tunnel).
///
/// Dropped before it is [finished](Self::finish), it resets the tunnel with CANCEL.
#[derive(Debug)]
pub struct SendHalf {
    stream: SendStream<Bytes>,
    state: State,
    // Last, so that the stream is gone when the tunnel counts as gone.
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Reset,
}

impl SendHalf {
    pub(super) fn new(stream: SendStream<Bytes>, shared: Arc<Shared>) -> Self {
        Self { stream, state: State::Open, shared }
    }

    /// Sends bytes, waiting while the peer's window or the connection's buffer is full.
    ///
    /// The bytes are not copied. They travel in frames of at most 64 KiB, so that other tunnels get their turn.
    ///
    /// # Errors
    ///
    /// If the tunnel is closed, reset or its connection lost; part of the bytes may have been sent.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: part of the bytes may have been sent. [`poll_send`](Self::poll_send) tells how much.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), TunnelError> {
        while !data.is_empty() {
            poll_fn(|cx| self.poll_send(cx, &mut data)).await?;
        }
        Ok(())
    }

    /// Sends a first part of `data`, at least one byte unless it is empty, and takes it off.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), with `data` untouched.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, TunnelError>> {
        if data.is_empty() {
            // A frame without payload says nothing, and too many of them make peers close the connection.
            return Poll::Ready(Ok(0));
        }
        let length = ready!(self.poll_reserve(cx, data.len()))?;
        self.push(data.split_to(length))?;
        Poll::Ready(Ok(length))
    }

    /// Waits until something can be sent; yields how much, up to `wanted` and 64 KiB.
    ///
    /// For a sender that takes bytes from its own source only when they can go on. What is reserved is withheld from
    /// the connection's other tunnels until it is used, or reserved again with another size.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn poll_reserve(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, TunnelError>> {
        if self.state != State::Open {
            return Poll::Ready(Err(TunnelError::Closed));
        }
        let wanted = wanted.clamp(1, MAX_CHUNK);
        self.stream.reserve_capacity(wanted);
        loop {
            let granted = self.stream.capacity().min(wanted);
            if granted > 0 {
                return Poll::Ready(Ok(granted));
            }
            // A grant may have been taken back by a change of settings by the time it is looked at.
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(TunnelError::from_h2(error))),
                None => return Poll::Ready(Err(self.why_closed())),
            }
        }
    }

    /// Ends this direction with END_STREAM, after everything sent before. The other direction goes on.
    ///
    /// Finishing twice does nothing. Nor is it an error if the peer, having finished itself, no longer wants to hear
    /// of it.
    ///
    /// # Errors
    ///
    /// If the tunnel is reset or its connection lost.
    pub fn finish(&mut self) -> Result<(), TunnelError> {
        match self.state {
            State::Finished => return Ok(()),
            State::Reset => return Err(TunnelError::Closed),
            State::Open => {}
        }
        if self.stream.send_data(Bytes::new(), true).is_ok() {
            self.state = State::Finished;
            return Ok(());
        }
        match self.why_closed() {
            TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)
                if self.shared.recv_ended.load(Ordering::Acquire) =>
            {
                self.state = State::Finished;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Resets the tunnel: both directions end at once, and the peer learns that it was no orderly end.
    ///
    /// What was sent and is still on its way within this process is dropped.
    pub fn reset(&mut self, reason: ResetReason) {
        self.stream.send_reset(Reason::from(reason.code()));
        self.state = State::Reset;
    }

    /// Waits until the peer resets the tunnel or the connection is lost, which one who has nothing to send and nothing
    /// to receive would not notice.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopped(&mut self) -> TunnelError {
        poll_fn(|cx| self.poll_stopped(cx)).await
    }

    /// Polls for a reset, see [`stopped`](Self::stopped).
    pub fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        if self.state == State::Reset {
            return Poll::Ready(TunnelError::Closed);
        }
        self.stream.poll_reset(cx).map(|reset| match reset {
            Ok(Reason::NO_ERROR) if self.shared.liveness.is_over() => {
                TunnelError::Lost(ConnectionError::Closed)
            }
            Ok(reason) if self.shared.liveness.is_over() => {
                TunnelError::Lost(ConnectionError::Protocol(from_reason(reason)))
            }
            Ok(reason) => TunnelError::Reset(from_reason(reason)),
            Err(error) => TunnelError::from_h2(error),
        })
    }

    fn push(&mut self, data: Bytes) -> Result<(), TunnelError> {
        self.stream.send_data(data, false).map_err(|_| self.why_closed())
    }

    /// Asks a stream that takes no more data why.
    fn why_closed(&mut self) -> TunnelError {
        match self.poll_stopped(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => error,
            Poll::Pending => TunnelError::Closed,
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.state == State::Open {
            self.reset(ResetReason::Cancel);
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    /// Writes all buffers into one frame.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let granted = ready!(this.poll_reserve(cx, total))?;
        let mut data = BytesMut::with_capacity(granted);
        for buffer in buffers {
            let length = buffer.len().min(granted - data.len());
            data.put(buffer.iter().as_slice().get(..length).unwrap_or_default());
        }
        this.push(data.freeze())?;
        Poll::Ready(Ok(granted))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: bytes once written are sent by whoever drives the connection.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes this direction.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().finish().map_err(io::Error::from))
    }
}

/// The longest payload sent in one frame, whatever the peer would take: the next frame of another tunnel waits for it.
const MAX_CHUNK: usize = 64 << 10;
