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

impl<E, S> NestedDialError<E, S> {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Outer(error) => error.side(),
            Self::Secure(_) => Side::Peer,
        }
    }
}
