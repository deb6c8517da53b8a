use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use tokio::io::AsyncWrite;

use super::{
    Sender, Stream, TunnelError,
    outgoing::{Given, Gone, MAX_CHUNK, Phase},
    stream::Sending,
};
use crate::{
    connection::{ConnectionError, from_reason},
    proto::ResetReason,
};

/// The sending direction of a [`Tunnel`](crate::Tunnel).
///
/// Dropped before it is [finished](Self::finish), it resets the tunnel with CANCEL.
#[derive(Debug)]
pub struct SendHalf {
    stream: Sender,
}

impl SendHalf {
    pub(super) fn new(stream: Sender) -> Self {
        Self { stream }
    }

    /// Sends bytes, waiting while the peer's window or the connection's buffer is full.
    ///
    /// The bytes travel in frames of at most 64 KiB, so that other tunnels get their turn. They are not copied, unless there
    /// are less than 4 KiB and the connection has not got round to those before: then they share a frame.
    ///
    /// # Errors
    ///
    /// If the tunnel is closed, reset or its connection lost; part of the bytes may have been sent.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: part of the bytes may have been sent. [`poll_send`](Self::poll_send) tells how much.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), TunnelError> {
        let sending = Reserving(self);
        while !data.is_empty() {
            poll_fn(|cx| sending.0.poll_send(cx, &mut data)).await?;
        }
        std::mem::forget(sending);
        Ok(())
    }

    /// Sends a first part of `data`, at least one byte unless it is empty, and takes it off.
    ///
    /// One who gives up while this is pending should [`cancel_reserve`](Self::cancel_reserve).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), with `data` untouched.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, TunnelError>> {
        if data.is_empty() {
            // A frame without payload says nothing, and too many of them make peers close the connection.
            return Poll::Ready(Ok(0));
        }
        let wanted = data.len();
        self.poll_write_with(cx, wanted, |granted| data.split_to(granted))
    }

    /// Waits until something can be sent; yields how much, up to `wanted` and 64 KiB.
    ///
    /// For a sender that takes bytes from its own source only when they can go on. What is reserved is withheld from
    /// the connection's other tunnels until it is used, reserved again with another size, or
    /// [given back](Self::cancel_reserve).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn poll_reserve(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, TunnelError>> {
        let granted = match &mut self.stream.lock().send {
            Sending::Open(outgoing) if outgoing.phase() == Phase::Open => {
                ready!(outgoing.poll_capacity(cx, wanted))
            }
            _ => return Poll::Ready(Err(TunnelError::Closed)),
        };
        Poll::Ready(granted.map_err(|gone| self.why_gone(gone)))
    }

    /// Gives back what was reserved and not used, so that other tunnels can have it.
    pub fn cancel_reserve(&mut self) {
        if let Sending::Open(outgoing) = &mut self.stream.lock().send {
            outgoing.cancel_reserve();
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
        if let Sending::Open(outgoing) = &mut self.stream.lock().send {
            match outgoing.phase() {
                Phase::Finished => return Ok(()),
                Phase::Reset => return Err(TunnelError::Closed),
                Phase::Open if outgoing.finish().is_ok() => return Ok(()),
                Phase::Open => {}
            }
        }
        match self.why_closed() {
            TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)
                if self.stream.stream().is_recv_ended() =>
            {
                if let Sending::Open(outgoing) = &mut self.stream.lock().send {
                    outgoing.finish_unheard();
                }
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Resets the tunnel: both directions end at once, and the peer learns that it was no orderly end.
    ///
    /// What was sent and is still on its way within this process is dropped.
    pub fn reset(&mut self, reason: ResetReason) {
        let sending = &mut self.stream.lock().send;
        sending.reset(Reason::from(reason.code()));
        if let Sending::Open(outgoing) = sending {
            outgoing.close();
        }
    }

    /// Whether the peer has finished its own direction, though perhaps not all of it has been received from here.
    pub fn is_peer_finished(&self) -> bool {
        self.stream.stream().is_recv_ended()
    }

    /// Waits until the peer resets the tunnel or the connection is lost, which one who has nothing to send and nothing
    /// to receive would not notice.
    ///
    /// Once both directions have ended in order it does not resolve, whatever becomes of the connection: nothing is left to
    /// be stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopped(&mut self) -> TunnelError {
        poll_fn(|cx| self.poll_stopped(cx)).await
    }

    /// Polls for a reset, see [`stopped`](Self::stopped).
    pub fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let reset = match &mut self.stream.lock().send {
            Sending::Open(outgoing) if outgoing.phase() != Phase::Reset => ready!(outgoing.poll_reset(cx)),
            _ => return Poll::Ready(TunnelError::Closed),
        };
        Poll::Ready(why_reset(reset, self.stream.stream()))
    }

    /// Sends what `take` makes of as many bytes as can be sent, up to `wanted`.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        take: impl FnOnce(usize) -> Bytes,
    ) -> Poll<Result<usize, TunnelError>> {
        let result = match &mut self.stream.lock().send {
            Sending::Open(outgoing) if outgoing.phase() == Phase::Open => {
                ready!(outgoing.poll_capacity(cx, wanted)).and_then(|granted| {
                    let given = outgoing.send(take(granted), self.stream.connection())?;
                    if granted < wanted.min(MAX_CHUNK) {
                        // Whether there will be more to send is not certain, and others have something.
                        outgoing.cancel_reserve();
                    }
                    Ok((granted, given))
                })
            }
            _ => return Poll::Ready(Err(TunnelError::Closed)),
        };
        Poll::Ready(match result {
            Ok((granted, Given::Sent)) => Ok(granted),
            Ok((granted, Given::List)) => {
                self.stream.list_unsent();
                Ok(granted)
            }
            Err(gone) => Err(self.why_gone(gone)),
        })
    }

    fn why_gone(&mut self, gone: Gone) -> TunnelError {
        match gone {
            Gone::Closed => self.why_closed(),
            Gone::Failed(error) => TunnelError::from_h2(error).explain(self.stream.stream().connection()),
        }
    }

    /// Asks a stream that takes no more data why.
    fn why_closed(&mut self) -> TunnelError {
        match self.poll_stopped(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => error,
            Poll::Pending => TunnelError::Closed,
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
        let written = this.poll_write_with(cx, total, |granted| {
            let mut data = BytesMut::with_capacity(granted);
            for buffer in buffers {
                let length = buffer.len().min(granted - data.len());
                data.put(buffer.iter().as_slice().get(..length).unwrap_or_default());
            }
            data.freeze()
        });
        written.map_err(io::Error::from)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: bytes once written are sent by whoever drives the connection, in its next turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes this direction.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().finish().map_err(io::Error::from))
    }
}

/// What it means that h2 reports a reset.
pub(super) fn why_reset(reset: Result<Reason, h2::Error>, stream: &Stream) -> TunnelError {
    let connection = stream.connection();
    let error = match reset {
        Ok(_) if stream.is_over_budget() => TunnelError::OverBudget,
        // It had been reset before the connection ended.
        Ok(reason) if connection.is_over() && stream.was_reset() => TunnelError::Reset(from_reason(reason)),
        Ok(Reason::NO_ERROR) if connection.is_over() => TunnelError::Lost(ConnectionError::Closed),
        Ok(reason) if connection.is_over() => {
            TunnelError::Lost(ConnectionError::Protocol(from_reason(reason)))
        }
        Ok(reason) => TunnelError::Reset(from_reason(reason)),
        Err(error) => TunnelError::from_h2(error),
    };
    error.explain(connection)
}

/// Gives back what was reserved when a send is given up.
struct Reserving<'a>(&'a mut SendHalf);

impl Drop for Reserving<'_> {
    fn drop(&mut self) {
        self.0.cancel_reserve();
    }
}
