use std::{
    error::Error as StdError,
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
///
/// It is an [`Error`](StdError), and answers, where `E` is one, which `Box<dyn Error>` is not: a service whose middleware boxes
/// errors has to be given one of a type, with the box as its [`source`](StdError::source). The answers see what is inside.
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
    /// There was a connection, but no tunnel: the peer's answer, usually.
    #[error("connect failed")]
    Connect(#[source] ConnectError),
    /// No connection had a place for the tunnel within this time, including any time to dial it.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The pool turned the request down by itself.
    #[error("declined by the pool")]
    Declined(#[source] Declined),
    /// The connection could not be dialled. All who waited for it share the error.
    #[error("dial failed")]
    Dial(#[source] DialError<E>),
    /// The peer did not answer the request within this time.
    #[error("no answer within {0:?}")]
    ResponseTimeout(Duration),
}

/// Why a pool turns a request down without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Declined {
    /// Too many wait for a tunnel with this key already.
    #[error("too many waiting")]
    Busy,
    /// The pool is draining.
    #[error("pool draining")]
    Draining,
    /// The key was evicted while this tunnel waited for a connection.
    #[error("key evicted")]
    Evicted,
    /// The pool has as many connections as it may have, none of them idle and none of this key.
    #[error("too many connections")]
    Exhausted,
}

impl Declined {
    /// Whether the pool may do better when it is asked again: not one that drains.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Busy | Self::Evicted | Self::Exhausted => true,
            Self::Draining => false,
        }
    }
}

/// Why there is no connection. Clones share the cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError<E> {
    /// The task that dialled was dropped, for instance by a runtime that shuts down.
    #[error("dial aborted")]
    Aborted(#[source] TaskDropped),
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

/// A task ended before what it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("task dropped")]
pub struct TaskDropped(());

impl TaskDropped {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl<E: StdError + 'static> PoolError<E> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Declined(_) => Side::Local,
            Self::Connect(error) => error.side(),
            Self::Backoff { cause, .. } | Self::Dial(cause) => cause.side(),
            Self::ConnectTimeout(_) | Self::ResponseTimeout(_) => Side::Peer,
        }
    }

    /// Whether the peer has certainly not acted on the request, and may do so when asked again. Where GOAWAY or
    /// REFUSED_STREAM say so, the pool has asked again already.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Backoff { cause, .. } | Self::Dial(cause) => cause.is_retryable(),
            Self::ConnectTimeout(_) => true,
            Self::Declined(declined) => declined.is_retryable(),
            Self::ResponseTimeout(_) => false,
        }
    }

    /// The status the peer answered with, or the gateway on the way there.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Connect(error) => error.status(),
            Self::Backoff { cause, .. } | Self::Dial(cause) => cause.status(),
            _ => None,
        }
    }
}

impl<E> PoolError<E> {
    pub(super) fn refused(refusal: Refusal<DialError<E>>, now: Instant) -> Self {
        match refusal {
            Refusal::Backoff(Failure { cause, at, retry_at }) => {
                Self::Backoff { cause, at, retry_in: retry_at.saturating_duration_since(now) }
            }
            Refusal::Busy => Self::Declined(Declined::Busy),
            Refusal::Dial(cause) => Self::Dial(cause),
            Refusal::Draining => Self::Declined(Declined::Draining),
            Refusal::Evicted => Self::Declined(Declined::Evicted),
            Refusal::Exhausted => Self::Declined(Declined::Exhausted),
        }
    }
}

impl<E: StdError + 'static> DialError<E> {
    /// Whose doing it is. A service that dials is taken to fail because of the peer, unless its error comes from one of this
    /// crate's that says otherwise: a gateway's [`ConnectError`], a pool that [declined](Declined), a
    /// [task that was dropped](TaskDropped).
    pub fn side(&self) -> Side {
        match self {
            Self::Aborted(_) => Side::Local,
            Self::Connector(error) => {
                let error = &**error;
                if cause::<Declined>(error).is_some() || cause::<TaskDropped>(error).is_some() {
                    return Side::Local;
                }
                cause(error).map_or(Side::Peer, ConnectError::side)
            }
            Self::Handshake(error) => error.side(),
            Self::Timeout(_) => Side::Peer,
        }
    }

    /// Whether another attempt may do better; nothing has been asked of the peer yet, whatever a gateway on the way there has
    /// seen. Not if a gateway has refused.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Aborted(_) | Self::Timeout(_) => true,
            Self::Connector(error) => {
                let error = &**error;
                if let Some(declined) = cause::<Declined>(error) {
                    return declined.is_retryable();
                }
                if let Some(handshake) = cause::<Arc<HandshakeError>>(error) {
                    return handshake.is_retryable();
                }
                cause(error).is_none_or(may_do_better)
            }
            Self::Handshake(error) => error.is_retryable(),
        }
    }

    /// The status with which a gateway on the way to the peer refused.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Connector(error) => cause(&**error).and_then(ConnectError::status),
            Self::Aborted(_) | Self::Handshake(_) | Self::Timeout(_) => None,
        }
    }
}

/// Whether a gateway may give another answer to another request. It is safe to make one, since nobody behind the gateway has
/// heard of the first.
pub(crate) fn may_do_better(error: &ConnectError) -> bool {
    match error {
        ConnectError::InvalidRequest | ConnectError::OverBudget | ConnectError::Refused(_) => false,
        ConnectError::Closed | ConnectError::GoAway(_) | ConnectError::Lost(_) | ConnectError::Reset(_) => {
            true
        }
    }
}

/// The error of a type among an error and its causes: why there is no tunnel on which the connection was to run.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl<E> Clone for DialError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Aborted(dropped) => Self::Aborted(*dropped),
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
        let garbage = HandshakeError::Protocol(ResetReason::Protocol);
        let backoff = PoolError::Backoff { cause: refused_connection(), at: Instant::now(), retry_in: limit };
        let table = [
            (backoff, Side::Peer, true),
            (PoolError::Declined(Declined::Busy), Side::Local, true),
            (PoolError::Connect(ConnectError::InvalidRequest), Side::Local, false),
            (PoolError::Connect(ConnectError::Reset(ResetReason::Refused)), Side::Peer, true),
            (PoolError::ConnectTimeout(limit), Side::Peer, true),
            (PoolError::Dial(DialError::Aborted(TaskDropped::new())), Side::Local, true),
            (PoolError::Dial(DialError::Timeout(limit)), Side::Peer, true),
            (PoolError::Dial(refused_connection()), Side::Peer, true),
            (PoolError::Dial(DialError::Handshake(Arc::new(garbage))), Side::Peer, false),
            (PoolError::Declined(Declined::Draining), Side::Local, false),
            (PoolError::Declined(Declined::Evicted), Side::Local, true),
            (PoolError::Declined(Declined::Exhausted), Side::Local, true),
            (PoolError::ResponseTimeout(limit), Side::Peer, false),
        ];
        for (error, side, is_retryable) in table {
            assert_eq!((error.side(), error.is_retryable()), (side, is_retryable), "{error:?}");
        }
    }

    /// What a connector behind middleware that boxes errors has to fail with.
    #[derive(Debug, Error)]
    #[error("dial failed in some layer")]
    struct Boxed(#[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn errors_in_boxes_answer_as_what_is_inside() {
        let table: [(Box<dyn Error + Send + Sync>, _, _, _); 6] = [
            ("some layer timed out".into(), Side::Peer, true, None),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), Side::Peer, true, None),
            (Declined::Draining.into(), Side::Local, false, None),
            (TaskDropped::new().into(), Side::Local, true, None),
            (ConnectError::OverBudget.into(), Side::Local, false, None),
            (
                ConnectError::Refused(StatusCode::UNAUTHORIZED).into(),
                Side::Peer,
                false,
                Some(StatusCode::UNAUTHORIZED),
            ),
        ];
        for (inside, side, is_retryable, status) in table {
            let error = PoolError::Dial(DialError::Connector(Arc::new(Boxed(Box::new(Boxed(inside))))));
            let answers = (error.side(), error.is_retryable(), error.status());
            assert_eq!(answers, (side, is_retryable, status), "{error:?}");
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
