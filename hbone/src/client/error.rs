use http::StatusCode;
use thiserror::Error;

use crate::{
    connection::{ConnectionError, Shared, Side, from_reason},
    proto::ResetReason,
};

/// Why a tunnel was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection was closed before the request could be sent.
    #[error("connection closed")]
    Closed,
    /// The peer is closing the connection and has not looked at the request (RFC 9113 §6.8).
    #[error("connection going away: {0}")]
    GoAway(ResetReason),
    /// A header of the request must not be in one (RFC 9113 §8.2.2, RFC 9110 §9.3.6), or its destination has port 0.
    #[error("invalid request")]
    InvalidRequest,
    /// The connection was lost while the request was under way; the peer may have acted on it.
    #[error("connection lost")]
    Lost(#[source] ConnectionError),
    /// This process holds as much unread data as its [`Budget`](crate::Budget) allows.
    #[error("memory budget of the process used up")]
    OverBudget,
    /// The peer answered with a status other than success.
    #[error("refused with status {0}")]
    Refused(StatusCode),
    /// The peer reset the request instead of answering it.
    #[error("reset by the peer: {0}")]
    Reset(ResetReason),
}

impl ConnectError {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::InvalidRequest | Self::OverBudget => Side::Local,
            Self::Closed | Self::GoAway(_) | Self::Lost(_) | Self::Refused(_) | Self::Reset(_) => Side::Peer,
        }
    }

    /// Whether the peer has certainly not acted on the request, so that it can be repeated on another connection.
    ///
    /// Not where another connection would meet the same.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Closed | Self::GoAway(_) | Self::Reset(ResetReason::Refused))
    }

    /// The status the peer answered with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status) => Some(*status),
            _ => None,
        }
    }

    /// What became of a request that was not sent.
    pub(super) fn unsent(error: &h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_go_away() && error.is_remote() => Self::GoAway(from_reason(reason)),
            _ => Self::Closed,
        }
    }

    /// What became of a request that was sent.
    pub(crate) fn sent(error: h2::Error, connection: &Shared) -> Self {
        match error.reason() {
            // Only streams above the last one processed are failed with the peer's GOAWAY.
            Some(reason) if error.is_go_away() && error.is_remote() => Self::GoAway(from_reason(reason)),
            Some(reason) if error.is_reset() => Self::Reset(from_reason(reason)),
            _ => Self::Lost(connection.why_lost(ConnectionError::from_h2(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_processed_is_retryable() {
        let lost = || ConnectionError::Io(std::io::ErrorKind::BrokenPipe.into());
        let table = [
            (ConnectError::Closed, true, Side::Peer),
            (ConnectError::GoAway(ResetReason::NoError), true, Side::Peer),
            (ConnectError::InvalidRequest, false, Side::Local),
            (ConnectError::Lost(lost()), false, Side::Peer),
            (ConnectError::OverBudget, false, Side::Local),
            (ConnectError::Refused(StatusCode::SERVICE_UNAVAILABLE), false, Side::Peer),
            (ConnectError::Reset(ResetReason::Refused), true, Side::Peer),
            (ConnectError::Reset(ResetReason::Cancel), false, Side::Peer),
        ];
        for (error, is_retryable, side) in table {
            assert_eq!((error.is_retryable(), error.side()), (is_retryable, side), "{error:?}");
        }
    }

    #[test]
    fn only_a_refusal_has_a_status() {
        assert_eq!(ConnectError::Refused(StatusCode::UNAUTHORIZED).status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(ConnectError::Closed.status(), None);
    }
}
