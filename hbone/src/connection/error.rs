use std::{io, time::Duration};

use h2::Reason;
use http::StatusCode;
use thiserror::Error;

use crate::proto::{Flood, ResetReason};

/// Whose doing an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Ours, or that of the code that uses this crate.
    Local,
    /// The peer's, or that of the network between.
    Peer,
}

/// Why a connection ended other than in good order.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// This side closed it: aborted, or dropped by whoever drove it.
    #[error("connection closed")]
    Closed,
    /// The peer closed it, giving a reason.
    #[error("connection closed by the peer: {0}")]
    GoAway(ResetReason),
    /// The stream below failed or ended.
    #[error("connection lost")]
    Io(#[source] io::Error),
    /// The peer left a keepalive ping unanswered for this long.
    #[error("no answer to a ping within {0:?}")]
    KeepaliveTimeout(Duration),
    /// We closed it, since the peer did something too often.
    #[error("peer floods the connection with {0}")]
    PeerFlood(Flood),
    /// We closed it, since the peer violated the protocol.
    #[error("connection closed over a protocol violation: {0}")]
    Protocol(ResetReason),
}

impl ConnectionError {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Closed => Side::Local,
            Self::GoAway(_)
            | Self::Io(_)
            | Self::KeepaliveTimeout(_)
            | Self::PeerFlood(_)
            | Self::Protocol(_) => Side::Peer,
        }
    }

    /// Whether another connection to the peer may do better. What became of tunnels on this one is for each of them to
    /// say.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::GoAway(_) | Self::Io(_) | Self::KeepaliveTimeout(_) => true,
            Self::Closed | Self::PeerFlood(_) | Self::Protocol(_) => false,
        }
    }

    /// The status the peer answered with: none, it is no answer to a request.
    pub fn status(&self) -> Option<StatusCode> {
        None
    }

    pub(crate) fn from_h2(error: h2::Error) -> Self {
        let reason = error.reason().map_or(ResetReason::Internal, from_reason);
        if error.is_go_away() && error.is_remote() {
            return Self::GoAway(reason);
        }
        if error.is_io() {
            return Self::Io(error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
        match reason {
            _ if !error.is_library() => Self::Closed,
            // RFC 9113 §10.5: what h2 answers to what it counts.
            ResetReason::EnhanceYourCalm => Self::PeerFlood(Flood::Http2),
            reason => Self::Protocol(reason),
        }
    }
}

/// Why the HTTP/2 handshake failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The stream below failed or ended.
    #[error("connection lost")]
    Io(#[source] io::Error),
    /// The peer does not speak HTTP/2.
    #[error("peer does not speak http/2: {0}")]
    Protocol(ResetReason),
}

impl HandshakeError {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        Side::Peer
    }

    /// Whether another attempt may do better: nothing has been asked of the peer yet.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// The status the peer answered with: none, it is no answer to a request.
    pub fn status(&self) -> Option<StatusCode> {
        None
    }

    pub(crate) fn from_h2(error: h2::Error) -> Self {
        match ConnectionError::from_h2(error) {
            ConnectionError::GoAway(reason) | ConnectionError::Protocol(reason) => Self::Protocol(reason),
            ConnectionError::Io(error) => Self::Io(error),
            ConnectionError::PeerFlood(_) => Self::Protocol(ResetReason::EnhanceYourCalm),
            ConnectionError::Closed | ConnectionError::KeepaliveTimeout(_) => {
                Self::Io(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

pub(crate) fn from_reason(reason: Reason) -> ResetReason {
    ResetReason::from(u32::from(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io() -> io::Error {
        io::ErrorKind::ConnectionReset.into()
    }

    #[test]
    fn every_end_of_a_connection_has_a_side_and_says_whether_another_may_do_better() {
        let table = [
            (ConnectionError::Closed, Side::Local, false),
            (ConnectionError::GoAway(ResetReason::NoError), Side::Peer, true),
            (ConnectionError::Io(io()), Side::Peer, true),
            (ConnectionError::KeepaliveTimeout(Duration::from_secs(20)), Side::Peer, true),
            (ConnectionError::PeerFlood(Flood::Http2), Side::Peer, false),
            (ConnectionError::Protocol(ResetReason::FrameSize), Side::Peer, false),
        ];
        for (error, side, is_retryable) in table {
            let answers = (error.side(), error.is_retryable(), error.status());
            assert_eq!(answers, (side, is_retryable, None), "{error:?}");
        }
    }

    #[test]
    fn only_a_lost_handshake_may_do_better() {
        let table =
            [(HandshakeError::Io(io()), true), (HandshakeError::Protocol(ResetReason::Protocol), false)];
        for (error, is_retryable) in table {
            let answers = (error.side(), error.is_retryable(), error.status());
            assert_eq!(answers, (Side::Peer, is_retryable, None), "{error:?}");
        }
    }
}
