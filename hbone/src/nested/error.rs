use std::error::Error as StdError;

use http::StatusCode;
use thiserror::Error;

use crate::{connection::Side, pool::PoolError};

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

    /// Whether another attempt may do better; nothing has been asked of the inner peer yet.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Outer(error) => error.is_retryable(),
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
