use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::time::timeout;
use tower_service::Service;

use super::{
    Connect, Key, PoolError,
    book::ConnectionId,
    shared::{Place, Pooled},
};
use crate::{
    client::{ConnectError, Opening},
    proto::ConnectRequest,
    tunnel::{Permit, Tunnel},
};

/// A place for one tunnel on a pooled connection. Dropping it gives the place back.
#[must_use = "dropping a reservation gives the place back"]
pub struct Reservation<K, C: Service<K>> {
    connection: Arc<Pooled<K, C>>,
    permit: Permit,
}

impl<K, C: Service<K>> Reservation<K, C> {
    pub(super) fn new((connection, permit): Place<K, C>) -> Self {
        Self { connection, permit }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.connection.id
    }
}

impl<K, C> Reservation<K, C>
where
    K: Key,
    C: Connect<K>,
{
    /// Opens the tunnel, on this connection only: unlike [`Pool::connect`](super::Pool::connect) it does not repeat a
    /// request that the peer has not processed.
    ///
    /// # Errors
    ///
    /// If the peer refuses, does not answer in time, or the connection fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back; the peer may have acted on it.
    pub async fn connect(self, request: ConnectRequest) -> Result<Tunnel, PoolError<C::Error>> {
        self.start(&request).map_err(PoolError::Connect)?.answer().await
    }

    /// Sends the request, unless the connection turns out not to take any.
    pub(super) fn start(self, request: &ConnectRequest) -> Result<Started<K, C>, ConnectError> {
        let Self { connection, permit } = self;
        match connection.send.open(request, Some(permit)) {
            Ok(opening) => Ok(Started { connection, opening }),
            Err(error) => {
                connection.note(&error);
                Err(error)
            }
        }
    }
}

/// A request under way.
pub(super) struct Started<K, C: Service<K>> {
    connection: Arc<Pooled<K, C>>,
    opening: Opening,
}

impl<K, C> Started<K, C>
where
    K: Key,
    C: Connect<K>,
{
    /// Waits for the peer's answer.
    pub(super) async fn answer(self) -> Result<Tunnel, PoolError<C::Error>> {
        let Self { connection, opening } = self;
        let limit = connection.response_timeout;
        match timeout(limit, opening).await {
            Ok(Ok(tunnel)) => {
                connection.note_answer();
                Ok(tunnel)
            }
            Ok(Err(error)) => {
                connection.note(&error);
                Err(PoolError::Connect(error))
            }
            Err(_elapsed) => {
                connection.suspect.note(connection.send.received());
                Err(PoolError::ResponseTimeout(limit))
            }
        }
    }
}

impl<K, C> Pooled<K, C>
where
    K: Key,
    C: Connect<K>,
{
    /// The peer has answered a request, with whatever.
    fn note_answer(&self) {
        // Settings come before any answer. A peer that takes one tunnel is told from one that has not said so yet only
        // by this.
        let is_first = !self.answered.load(Ordering::Relaxed) && !self.answered.swap(true, Ordering::Relaxed);
        let is_relieved = self.suspect.clear();
        if !is_first && !is_relieved {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        if is_first {
            shared.limited(&self.key, self.id, self.send.peer_limit());
        }
        if is_relieved {
            shared.relieved(&self.key);
        }
    }

    /// A request came to nothing.
    fn note(&self, error: &ConnectError) {
        match error {
            ConnectError::Closed | ConnectError::GoAway(_) | ConnectError::Lost(_) => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.unusable(&self.key, self.id);
                }
            }
            ConnectError::InvalidRequest | ConnectError::OverBudget => {}
            ConnectError::Refused(_) | ConnectError::Reset(_) => self.note_answer(),
        }
    }
}

impl<K, C: Service<K>> fmt::Debug for Reservation<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("connection", &self.connection.id).finish_non_exhaustive()
    }
}
