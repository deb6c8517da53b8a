use std::error::Error as StdError;

use http::StatusCode;
use thiserror::Error;

use crate::{
    connection::Side,
    pool::{PoolError, may_do_better},
};

/// Why there is no tunnel through a gateway: the inner pool's error, whatever pool there is.
pub type NestedError<E, S> = PoolError<NestedDialError<E, S>>;

/// Why there is no inner connection. `E` is the error of the service that dials gateways, `S` of the one that secures
/// tunnels.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NestedDialError<E, S> {
    /// There is no tunnel through the gateway.
    #[error("no tunnel through the gateway")]
    Outer(#[source] PoolError<E>),
    /// There is a tunnel through the gateway, but what is behind it could not be authenticated.
    #[error("inner handshake failed")]
    Secure(#[source] S),
}

impl<E: StdError + 'static, S> NestedDialError<E, S> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Outer(error) => error.side(),
            Self::Secure(_) => Side::Peer,
        }
    }

    /// Whether another attempt may do better; nothing has been asked of the inner peer yet, whatever the gateway has seen.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Outer(PoolError::Connect(error)) => may_do_better(error),
            Self::Outer(error) => matches!(error, PoolError::ResponseTimeout(_)) || error.is_retryable(),
            Self::Secure(_) => true,
        }
    }

    /// The status the gateway answered with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Outer(error) => error.status(),
            Self::Secure(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        client::ConnectError,
        connection::{ConnectionError, HandshakeError},
        pool::{Declined, DialError, TaskDropped},
        proto::ResetReason,
    };

    #[test]
    fn fault_on_the_way_is_the_same_seen_from_here_and_through_the_inner_pool() {
        let limit = Duration::from_secs(1);
        let connect = |error| NestedDialError::Outer(PoolError::Connect(error));
        let dial = |error| NestedDialError::Outer(PoolError::Dial(error));
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let backoff = PoolError::Backoff {
            cause: DialError::Aborted(TaskDropped::new()),
            at: std::time::Instant::now(),
            retry_in: limit,
        };
        let garbage = HandshakeError::Protocol(ResetReason::Protocol);
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let table = [
            (NestedDialError::Secure(refused()), Side::Peer, true, None),
            (NestedDialError::Outer(backoff), Side::Local, true, None),
            (NestedDialError::Outer(PoolError::ConnectTimeout(limit)), Side::Peer, true, None),
            (NestedDialError::Outer(PoolError::ResponseTimeout(limit)), Side::Peer, true, None),
            (NestedDialError::Outer(PoolError::Declined(Declined::Busy)), Side::Local, true, None),
            (NestedDialError::Outer(PoolError::Declined(Declined::Draining)), Side::Local, false, None),
            (connect(ConnectError::Refused(unavailable)), Side::Peer, false, Some(unavailable)),
            (connect(ConnectError::Reset(ResetReason::Cancel)), Side::Peer, true, None),
            (connect(ConnectError::Lost(ConnectionError::Io(refused()))), Side::Peer, true, None),
            (connect(ConnectError::OverBudget), Side::Local, false, None),
            (dial(DialError::Aborted(TaskDropped::new())), Side::Local, true, None),
            (dial(DialError::Connector(Arc::new(refused()))), Side::Peer, true, None),
            (dial(DialError::Handshake(Arc::new(garbage))), Side::Peer, false, None),
            (dial(DialError::Handshake(Arc::new(HandshakeError::Io(refused())))), Side::Peer, true, None),
            (dial(DialError::Timeout(limit)), Side::Peer, true, None),
        ];
        for (error, side, is_retryable, status) in table {
            let expected = (side, is_retryable, status);
            assert_eq!((error.side(), error.is_retryable(), error.status()), expected, "{error:?}");
            let through: NestedError<_, _> = PoolError::Dial(DialError::Connector(Arc::new(error)));
            assert_eq!((through.side(), through.is_retryable(), through.status()), expected, "{through:?}");
        }
    }
}
