//! One CONNECT stream carrying one byte stream.

mod error;
mod io;
mod outgoing;
mod permit;
mod recv;
mod send;
mod stream;

#[cfg(feature = "pool")]
pub(crate) use self::permit::Release;
pub use self::{error::TunnelError, recv::RecvHalf, send::SendHalf};
pub(crate) use self::{
    permit::Permit,
    stream::{Receiver, Sender, Stream},
};
use crate::proto::{ConnectResponse, ResetReason};

/// A byte stream in both directions between two ends of a connection, with the semantics of a TCP connection.
///
/// Read and write it as [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite), or
/// [split](Self::into_split) it into halves that pass [`Bytes`](bytes::Bytes) without copying.
///
/// * **Each direction ends on its own.** Shutting down the write side (END_STREAM) leaves the read side open, for as
///   long as the peer likes, and the other way round.
/// * **A reset is not an end.** Before the peer's END_STREAM, RST_STREAM with whatever code is an error of kind
///   [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), after everything that arrived before it was read.
/// * **Dropping a tunnel without having shut it down resets it** with CANCEL, so that the peer does not take what it
///   got for complete. Having shut it down, read to the end before dropping it: what the peer has not taken yet may
///   otherwise be lost, as with TCP.
/// * **Flow control is end to end.** The peer may send as much as was read, plus one window.
#[derive(Debug)]
#[must_use = "dropping a tunnel resets it"]
pub struct Tunnel {
    recv: RecvHalf,
    send: SendHalf,
    response: ConnectResponse,
}

impl Tunnel {
    pub(crate) fn new(recv: Receiver, send: Sender, response: ConnectResponse) -> Self {
        Self { recv: RecvHalf::new(recv), send: SendHalf::new(send), response }
    }

    /// What the server said when it accepted the tunnel; empty at the server itself.
    pub fn response(&self) -> &ConnectResponse {
        &self.response
    }

    /// Splits the tunnel into its two directions, to be used by different tasks or dropped one after the other.
    pub fn into_split(self) -> (RecvHalf, SendHalf) {
        (self.recv, self.send)
    }

    /// Borrows the two directions, to be used at the same time.
    pub fn split(&mut self) -> (&mut RecvHalf, &mut SendHalf) {
        (&mut self.recv, &mut self.send)
    }

    /// Resets the tunnel: both directions end at once, and the peer learns that it was no orderly end.
    pub fn reset(mut self, reason: ResetReason) {
        self.send.reset(reason);
    }
}
