use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use thiserror::Error;

use super::book::{Failure, Refusal};
use crate::{
    client::ConnectError,
    connection::{HandshakeError, Side},
};

/// Why the pool did not open a tunnel. `E` is the error of the service that dials.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolError<E> {
    /// The last dial for this key failed a short while ago, and the next is not due.
    #[error("not to be dialled again for {retry_in:?}")]
    Backoff {
        /// Why it failed.
        #[source]
        cause: DialError<E>,
        /// When it failed.
        at: Instant,
        /// When the next dial is due, counted from this error.
        retry_in: Duration,
    },
    /// Too many wait for a tunnel with this key already.
    #[error("too many waiting")]
    Busy,
    /// There was a connection, but no tunnel: the peer's answer, usually.
    #[error("connect failed")]
    Connect(#[source] ConnectError),
    /// No connection had a place for the tunnel within this time, including any time to dial it.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The connection could not be dialled. All who waited for it share the error.
    #[error("dial failed")]
    Dial(#[source] DialError<E>),
    /// The pool is draining.
    #[error("pool draining")]
    Draining,
    /// The key was evicted while this tunnel waited for a connection.
    #[error("key evicted")]
    Evicted,
    /// The pool has as many connections as it may have, none of them idle and none of this key.
    #[error("too many connections")]
    Exhausted,
    /// The peer did not answer the request within this time.
    #[error("no answer within {0:?}")]
    ResponseTimeout(Duration),
}

/// Why there is no connection. Clones share the cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError<E> {
    /// The task that dialled was dropped, for instance by a runtime that shuts down.
    #[error("dial aborted")]
    Aborted,
    /// The service that dials failed.
    #[error(transparent)]
    Connector(Arc<E>),
    /// There was a byte stream, but HTTP/2 did not start on it.
    #[error("http/2 handshake failed")]
    Handshake(#[source] Arc<HandshakeError>),
    /// There was no connection within this time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

impl<E> PoolError<E> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Busy | Self::Draining | Self::Evicted | Self::Exhausted => Side::Local,
            Self::Connect(error) => error.side(),
            Self::Backoff { cause, .. } | Self::Dial(cause) => cause.side(),
            Self::ConnectTimeout(_) | Self::ResponseTimeout(_) => Side::Peer,
        }
    }

    /// Whether the peer has certainly not acted on the request. The pool has tried again already where that could help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::ResponseTimeout(_) => false,
            _ => true,
        }
    }

    /// The status the peer answered with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Connect(error) => error.status(),
            _ => None,
        }
    }

    pub(super) fn refused(refusal: Refusal<DialError<E>>, now: Instant) -> Self {
        match refusal {
            Refusal::Backoff(Failure { cause, at, retry_at }) => {
                Self::Backoff { cause, at, retry_in: retry_at.saturating_duration_since(now) }
            }
            Refusal::Busy => Self::Busy,
            Refusal::Dial(cause) => Self::Dial(cause),
            Refusal::Draining => Self::Draining,
            Refusal::Evicted => Self::Evicted,
            Refusal::Exhausted => Self::Exhausted,
        }
    }
}

impl<E> DialError<E> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Aborted => Side::Local,
            Self::Connector(_) | Self::Handshake(_) | Self::Timeout(_) => Side::Peer,
        }
    }
}

impl<E> Clone for DialError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Aborted => Self::Aborted,
            Self::Connector(error) => Self::Connector(Arc::clone(error)),
            Self::Handshake(error) => Self::Handshake(Arc::clone(error)),
            Self::Timeout(limit) => Self::Timeout(*limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, io};

    use super::*;
    use crate::proto::ResetReason;

    fn refused_connection() -> DialError<io::Error> {
        DialError::Connector(Arc::new(io::ErrorKind::ConnectionRefused.into()))
    }

    #[test]
    fn every_error_has_a_side_and_says_whether_to_repeat() {
        let limit = Duration::from_secs(1);
        let backoff = PoolError::Backoff { cause: refused_connection(), at: Instant::now(), retry_in: limit };
        let table = [
            (backoff, Side::Peer, true),
            (PoolError::Busy, Side::Local, true),
            (PoolError::Connect(ConnectError::InvalidRequest), Side::Local, false),
            (PoolError::Connect(ConnectError::Reset(ResetReason::Refused)), Side::Peer, true),
            (PoolError::ConnectTimeout(limit), Side::Peer, true),
            (PoolError::Dial(DialError::Aborted), Side::Local, true),
            (PoolError::Dial(DialError::Timeout(limit)), Side::Peer, true),
            (PoolError::Dial(refused_connection()), Side::Peer, true),
            (PoolError::Draining, Side::Local, true),
            (PoolError::Evicted, Side::Local, true),
            (PoolError::Exhausted, Side::Local, true),
            (PoolError::ResponseTimeout(limit), Side::Peer, false),
        ];
        for (error, side, is_retryable) in table {
            assert_eq!((error.side(), error.is_retryable()), (side, is_retryable), "{error:?}");
        }
    }

    #[test]
    fn remembered_failure_keeps_its_cause_and_its_time() {
        let (at, limit) = (Instant::now(), Duration::from_secs(1));
        let failure = Failure { cause: refused_connection(), at, retry_at: at + limit * 3 };
        let error = PoolError::refused(Refusal::Backoff(failure), at + limit);
        let PoolError::Backoff { at: told, retry_in, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*told, *retry_in), (at, limit * 2));
        let cause = error.source().unwrap().to_string();
        assert_eq!(cause, io::Error::from(io::ErrorKind::ConnectionRefused).to_string());
    }
}
