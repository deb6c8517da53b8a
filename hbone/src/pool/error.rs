use std::{sync::Arc, time::Duration};

use http::StatusCode;
use thiserror::Error;

use crate::{
    client::ConnectError,
    connection::{HandshakeError, Side},
};

/// Why the pool did not open a tunnel. `E` is the error of the service that dials.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolError<E> {
    /// The task that dialled was dropped, for instance by a runtime that shuts down.
    #[error("dial aborted")]
    Aborted,
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
    Dial(#[source] Arc<E>),
    /// The pool is draining.
    #[error("pool draining")]
    Draining,
    /// The key was evicted while this tunnel waited for a connection.
    #[error("key evicted")]
    Evicted,
    /// The connection was dialled, but HTTP/2 did not start on it.
    #[error("http/2 handshake failed")]
    Handshake(#[source] Arc<HandshakeError>),
    /// The peer did not answer the request within this time.
    #[error("no answer within {0:?}")]
    ResponseTimeout(Duration),
}

impl<E> PoolError<E> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Aborted | Self::Busy | Self::Draining | Self::Evicted => Side::Local,
            Self::Connect(error) => error.side(),
            Self::ConnectTimeout(_) | Self::Dial(_) | Self::Handshake(_) | Self::ResponseTimeout(_) => {
                Side::Peer
            }
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
}

/// Why a dial failed, told to each who waited for it.
#[derive(Debug)]
pub(super) enum DialFailure<E> {
    Aborted,
    Dial(Arc<E>),
    Handshake(Arc<HandshakeError>),
    Timeout(Duration),
}

impl<E> DialFailure<E> {
    pub(super) fn to_error(&self) -> PoolError<E> {
        match self {
            Self::Aborted => PoolError::Aborted,
            Self::Dial(error) => PoolError::Dial(Arc::clone(error)),
            Self::Handshake(error) => PoolError::Handshake(Arc::clone(error)),
            Self::Timeout(limit) => PoolError::ConnectTimeout(*limit),
        }
    }
}
