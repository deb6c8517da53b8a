//! Shares connections: tunnels with equal keys travel on the same ones.
//!
//! The caller brings a [`tower_service::Service`] that makes an authenticated byte stream for a key. The key holds
//! everything that two tunnels must agree on to share a connection: next hop, own identity, identities expected of the
//! peer, source address.
//!
//! * **Who needs the same connection waits for the same dial**, and learns of its failure at once. The dial does not
//!   depend on any of those who wait: one who gives up disturbs nobody.
//! * **A connection carries as many tunnels as the peer allows now**, up to a limit of the pool's. A further connection
//!   is dialled for those who find no place.
//! * **A request that the peer has provably not processed** (GOAWAY, REFUSED_STREAM) is repeated once on another
//!   connection.
//! * **Everything is bounded**: tunnels per connection, connections and waiters per key, each wait by a deadline. A
//!   connection without tunnels is closed after a while, and its key forgotten.
//!
//! Keys do not wait for each other, and no lock is held while anything is awaited.

mod book;
mod builder;
mod connection;
mod error;
mod shared;

use std::{
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::timeout,
};
use tower_service::Service;

use self::{
    book::{ConnectionId, Ticket, WaitRefusal},
    shared::{Place, Shared, fail, place},
};
pub use self::{
    builder::{Builder, Task},
    error::PoolError,
};
use crate::{client::ConnectError, proto::ConnectRequest, tunnel::Tunnel};

/// Opens tunnels on connections that are shared per key. Clones share the connections.
///
/// Dropping the last clone lets go of the connections: each closes when its last tunnel ends.
pub struct Pool<K, C: Service<K>> {
    shared: Arc<Shared<K, C>>,
}

impl<K, C> Pool<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    /// Builds a pool with the defaults of [`Builder`].
    pub fn new(connector: C) -> Self {
        Builder::new().build(connector)
    }

    /// Opens a tunnel on a connection for `key`, dialling one if need be.
    ///
    /// Cost, where there is a connection with a place: a look-up and a request; nothing is spawned.
    ///
    /// # Errors
    ///
    /// If no connection can be had or the peer refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back; the peer may have acted on it. A dial goes on, and its connection
    /// stays for the next.
    // Says `Send` itself, for what the compiler finds out about an `async fn` does not hold for keys with lifetimes.
    pub fn connect(
        &self,
        key: K,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<Tunnel, PoolError<C::Error>>> + Send {
        self.open(key, request)
    }

    /// Lets go of the connections for `key`, whose peer is known to be gone: nothing new is sent on them, and each
    /// closes when its last tunnel ends. Who waits for one fails with [`PoolError::Evicted`].
    pub fn evict(&self, key: &K) {
        let waiters = self.shared.book().evict(key);
        fail::<K, C>(waiters, || PoolError::Evicted);
    }

    /// Evicts all keys that `keep` does not want. `keep` must not use the pool.
    pub fn retain(&self, keep: impl FnMut(&K) -> bool) {
        let waiters = self.shared.book().retain(keep);
        fail::<K, C>(waiters, || PoolError::Evicted);
    }

    /// Opens no more tunnels, for good, and lets go of all connections: each closes when its last tunnel ends. Who waits
    /// fails with [`PoolError::Draining`].
    pub fn drain(&self) {
        let waiters = self.shared.book().drain();
        fail::<K, C>(waiters, || PoolError::Draining);
    }

    /// How many connections the pool holds. Cost: a look at each key.
    pub fn connections(&self) -> usize {
        self.shared.book().connections()
    }

    async fn open(&self, key: K, request: ConnectRequest) -> Result<Tunnel, PoolError<C::Error>> {
        let limit = self.shared.config.response_timeout;
        let mut unsent = 0;
        let mut avoid = None;
        loop {
            let (connection, permit) = self.place(&key, avoid).await?;
            let opening = match connection.send.open(&request, permit) {
                Ok(opening) => opening,
                Err(error) => {
                    unsent += 1;
                    if !error.is_retryable() || unsent == MAX_UNSENT {
                        return Err(PoolError::Connect(error));
                    }
                    self.shared.closed(&key, connection.id);
                    continue;
                }
            };
            let answer =
                timeout(limit, opening).await.map_err(|_elapsed| PoolError::ResponseTimeout(limit))?;
            // Settings come before any answer. A peer that takes one tunnel is told from one that has not said so yet
            // only by this.
            if !connection.answered.load(Ordering::Relaxed)
                && !connection.answered.swap(true, Ordering::Relaxed)
            {
                self.shared.limited(&key, connection.id, connection.send.peer_limit());
            }
            let error = match answer {
                Ok(tunnel) => return Ok(tunnel),
                Err(error) => error,
            };
            if matches!(error, ConnectError::GoAway(_) | ConnectError::Lost(_)) {
                self.shared.closed(&key, connection.id);
            }
            if !error.is_retryable() || avoid.is_some() {
                return Err(PoolError::Connect(error));
            }
            avoid = Some(connection.id);
        }
    }

    /// Finds a place on a connection, waiting for one to be dialled or to become free.
    async fn place(&self, key: &K, avoid: Option<ConnectionId>) -> Result<Place<K, C>, PoolError<C::Error>> {
        let (ticket, dial, receiver) = {
            let mut book = self.shared.book();
            if let Some(connection) = book.checkout(key, avoid) {
                return Ok(place(connection));
            }
            let (sender, receiver) = oneshot::channel();
            let (ticket, dial) = book.wait(key, avoid, sender).map_err(|refusal| match refusal {
                WaitRefusal::Busy => PoolError::Busy,
                WaitRefusal::Draining => PoolError::Draining,
            })?;
            (ticket, dial, receiver)
        };
        let waiting = Waiting { pool: self, key, ticket };
        if let Some(id) = dial {
            self.shared.dial(key.clone(), id);
        }
        let limit = self.shared.config.connect_timeout;
        let result = match timeout(limit, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(PoolError::Aborted),
            Err(_elapsed) => Err(PoolError::ConnectTimeout(limit)),
        };
        drop(waiting);
        result
    }
}

impl<K, C: Service<K>> Clone for Pool<K, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, C: Service<K>> fmt::Debug for Pool<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// Someone in the queue, who leaves it when dropped.
struct Waiting<'a, K: Clone + Eq + Hash, C: Service<K>> {
    pool: &'a Pool<K, C>,
    key: &'a K,
    ticket: Ticket,
}

impl<K: Clone + Eq + Hash, C: Service<K>> Drop for Waiting<'_, K, C> {
    fn drop(&mut self) {
        self.pool.shared.book().cancel(self.key, self.ticket);
    }
}

/// How often a connection may turn out to be closed as a request is about to be sent on it. Each is one that closed
/// within moments, so that a peer which does nothing else is not dialled for ever.
const MAX_UNSENT: usize = 4;
