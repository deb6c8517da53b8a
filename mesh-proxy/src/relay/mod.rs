//! Moving bytes between two ends of one connection, with the semantics of a single TCP connection.
//!
//! Each direction ends on its own: a FIN becomes END_STREAM or a FIN and the other direction goes on, for as long
//! as the application likes. A reset ends both directions at once and stays a reset: towards a tunnel as
//! RST_STREAM, towards TCP as RST (RFC 9113 §8.5). So a truncated transfer is never taken for a complete one. What an end
//! sent before it was gone is still delivered, as the kernel would.

mod buffer;
mod directions;
mod tcp;
mod tunnel;

use std::{io, time::Duration};

use thiserror::Error;
use tokio::{io::Interest, net::TcpStream};

pub(crate) use tcp::relay_tcp;
pub(crate) use tunnel::relay_tunnel;

use crate::{socket::reset_on_close, telemetry::ResetBy};

/// Resolves when a connection was reset, which one who cannot read on at the moment would not notice.
///
/// Cancel safe.
pub(crate) async fn failed(stream: &TcpStream) {
    if stream.ready(Interest::ERROR).await.is_err() {
        // The runtime is going down; the relay goes with it.
        std::future::pending::<()>().await;
    }
}

/// A connection that closes with a reset unless its relay came to an orderly end, so that what is cut short, by whatever,
/// never looks complete.
#[derive(Debug)]
struct ResetUnlessDone<'a> {
    stream: &'a mut TcpStream,
    done: bool,
}

impl<'a> ResetUnlessDone<'a> {
    fn new(stream: &'a mut TcpStream) -> Self {
        Self { stream, done: false }
    }
}

impl Drop for ResetUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            reset_on_close(self.stream);
        }
    }
}

/// How a relay ended other than with both directions complete.
#[derive(Debug, Error)]
pub(crate) enum RelayError {
    /// One direction had ended, and nothing moved in the other for too long.
    #[error("half-closed and silent for {limit:?}")]
    HalfOpen { limit: Duration },
    /// A socket failed for a reason that is not the far end's doing.
    #[error(transparent)]
    Io(io::Error),
    /// One end gave up on the connection; the other was told so.
    #[error("connection reset")]
    Reset(ResetBy),
    /// The tunnel failed: the connection under it is gone, or the peer reset it over a fault of its own or ours.
    #[error(transparent)]
    Tunnel(hbone::TunnelError),
}

impl RelayError {
    /// What the failure of a socket means, if this end is behind it.
    fn of(error: io::Error, end: ResetBy) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => Self::Reset(end),
            _ => Self::Io(error),
        }
    }
}
