use std::io;

use http::StatusCode;
use thiserror::Error;

use crate::{
    connection::{ConnectionError, Shared, Side, from_reason},
    proto::ResetReason,
};

/// Why a tunnel does not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// This side finished or reset it before.
    #[error("tunnel already closed")]
    Closed,
    /// The connection that carried it is gone.
    #[error("connection under the tunnel lost")]
    Lost(#[source] ConnectionError),
    /// This side reset it, since what the peer sent and nobody read exceeded its budget.
    #[error("tunnel reset: more unread bytes than its budget allows")]
    OverBudget,
    /// The peer reset it: what was sent may not have arrived, what was received may not be all.
    #[error("tunnel reset by the peer: {0}")]
    Reset(ResetReason),
}

impl TunnelError {
    /// Whether the peer reset the tunnel.
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Reset(_))
    }

    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Closed | Self::OverBudget => Side::Local,
            Self::Lost(error) => error.side(),
            Self::Reset(_) => Side::Peer,
        }
    }

    /// Whether it is safe to do the same again on another tunnel: never, since the far end may have acted on any byte.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// The status the peer answered with: none, it had accepted the tunnel.
    pub fn status(&self) -> Option<StatusCode> {
        None
    }

    /// With what the connection knows about its own end.
    pub(super) fn explain(self, connection: &Shared) -> Self {
        match self {
            Self::Lost(error) => Self::Lost(connection.why_lost(error)),
            other => other,
        }
    }

    pub(crate) fn from_h2(error: h2::Error) -> Self {
        if !error.is_reset() {
            return Self::Lost(ConnectionError::from_h2(error));
        }
        match error.reason() {
            // Also a reset that h2 sent because of what the peer did on the stream.
            Some(reason) if error.is_remote() || error.is_library() => Self::Reset(from_reason(reason)),
            _ => Self::Closed,
        }
    }
}

impl From<TunnelError> for io::Error {
    fn from(error: TunnelError) -> Self {
        let kind = match error {
            TunnelError::Closed | TunnelError::OverBudget => io::ErrorKind::BrokenPipe,
            TunnelError::Lost(_) => io::ErrorKind::ConnectionAborted,
            TunnelError::Reset(_) => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_tunnel_has_a_side_and_a_kind_and_is_never_retryable() {
        let lost = |error| TunnelError::Lost(error);
        let table = [
            (TunnelError::Closed, Side::Local, io::ErrorKind::BrokenPipe),
            (lost(ConnectionError::Closed), Side::Local, io::ErrorKind::ConnectionAborted),
            (
                lost(ConnectionError::GoAway(ResetReason::NoError)),
                Side::Peer,
                io::ErrorKind::ConnectionAborted,
            ),
            (TunnelError::OverBudget, Side::Local, io::ErrorKind::BrokenPipe),
            (TunnelError::Reset(ResetReason::Refused), Side::Peer, io::ErrorKind::ConnectionReset),
        ];
        for (error, side, kind) in table {
            let answers = (error.side(), error.is_retryable(), error.status());
            assert_eq!(answers, (side, false, None), "{error:?}");
            assert_eq!(error.is_reset(), kind == io::ErrorKind::ConnectionReset);
            assert_eq!(io::Error::from(error).kind(), kind);
        }
    }
}
