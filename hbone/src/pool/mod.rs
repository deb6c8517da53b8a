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
//! * **A busy connection gets a sibling**: when bytes pile up on it, not only when it is full.
//! * **A key that cannot be dialled is left alone for a while**, a little longer each time; who asks for it meanwhile
//!   learns at once why.
//! * **Connections do not outlive their reason**: they take no more tunnels after a while without any, past an age, when
//!   their identity is [retired](Pool::retire) or their peer [evicted](Pool::evict); open tunnels live on.
//! * **Everything is bounded**: tunnels per connection, connections and waiters per key, connections in total, each wait
//!   by a deadline. A key without connections is forgotten.
//!
//! Keys do not wait for each other, and no lock is held while anything is awaited.
//!
//! ```
//! use std::{io, time::Duration};
//!
//! use hbone::{ConnectRequest, Destination, pool::Builder};
//! use tokio::{net::TcpStream, time::Instant};
//! # use std::{net::SocketAddr, pin::Pin, future::Future, task::{Context, Poll}};
//!
//! /// Dials next hops. In real life the key also says as whom, and the stream is TLS.
//! #[derive(Clone)]
//! struct Dialer;
//!
//! impl tower_service::Service<SocketAddr> for Dialer {
//!     type Response = TcpStream;
//!     type Error = io::Error;
//!     type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
//!
//!     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Poll::Ready(Ok(()))
//!     }
//!
//!     fn call(&mut self, next_hop: SocketAddr) -> Self::Future {
//!         Box::pin(TcpStream::connect(next_hop))
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Builder::new().max_age(Duration::from_secs(600)).build(Dialer);
//! let next_hop: SocketAddr = "192.0.2.9:15008".parse()?;
//! let destination: Destination = "192.0.2.9:8080".parse()?;
//! let tunnel = pool.connect(next_hop, ConnectRequest::new(destination)).await?;
//! // ...
//! pool.drain(Instant::now() + Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

mod book;
mod builder;
mod connect;
mod connection;
mod drain;
mod error;
mod gauged;
mod reservation;
mod shared;
mod suspicion;

use std::{fmt, future::Future, sync::Arc};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tower_service::Service;

pub(crate) use self::error::may_do_better;
use self::{
    book::{ConnectionId, Ticket},
    shared::{Shared, now, place},
};
pub use self::{
    book::{PoolStatus, Sharing},
    builder::{Builder, Task},
    connect::{Connect, Key},
    error::{Declined, DialError, PoolError, TaskDropped},
    reservation::Reservation,
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
    K: Key,
    C: Connect<K>,
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

    /// Takes a place for a tunnel on a connection for `key`, dialling one if need be: what [`connect`](Self::connect)
    /// does first.
    ///
    /// # Errors
    ///
    /// If no connection can be had.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A dial goes on, and its connection stays for the next.
    pub fn reserve(
        &self,
        key: K,
    ) -> impl Future<Output = Result<Reservation<K, C>, PoolError<C::Error>>> + Send {
        self.place_for(key)
    }

    /// Takes a place for a tunnel on a connection for `key` if there is one.
    ///
    /// Cost: a look-up under a lock, no allocation.
    pub fn try_reserve(&self, key: &K) -> Option<Reservation<K, C>> {
        self.checkout(key, None)
    }

    /// Lets go of the connections for `key`, whose peer is known to be gone: nothing new is sent on them, and each
    /// closes when its last tunnel ends. Who waits for one fails with [`Declined::Evicted`], and failures are forgotten.
    pub fn evict(&self, key: &K) {
        let outcome = self.shared.book().evict(key, now());
        self.shared.carry_out(outcome);
    }

    /// Evicts all keys that `keep` does not want. `keep` must not use the pool. Cost: a look at each key.
    pub fn retain(&self, keep: impl FnMut(&K) -> bool) {
        let outcome = self.shared.book().retain(keep, now());
        self.shared.carry_out(outcome);
    }

    /// Lets go of the connections of the keys for which `is_stale`, since what they were made with has been replaced,
    /// a certificate for instance: nothing new is sent on them, and each closes when its last tunnel ends. Who waits
    /// gets a new one. `is_stale` must not use the pool. Cost: a look at each key.
    pub fn retire(&self, is_stale: impl FnMut(&K) -> bool) {
        let outcome = self.shared.book().retire(is_stale, now());
        self.shared.carry_out(outcome);
    }

    /// Opens no more tunnels, for good, and lets go of all connections: each closes, with GOAWAY, when its last tunnel
    /// ends, and is dropped at `deadline`. Who waits fails with [`Declined::Draining`].
    ///
    /// All this happens whether the future is polled or not. It resolves once no connection is left. A second drain can
    /// bring the deadline forward.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn drain<D: Into<Instant>>(&self, deadline: D) -> impl Future<Output = ()> + Send + use<K, C, D> {
        let outcome = self.shared.book().drain(now());
        self.shared.drain.begin(deadline.into());
        self.shared.carry_out(outcome);
        let drain = Arc::clone(&self.shared.drain);
        async move { drain.finished().await }
    }

    /// How much there is of everything. Cost: nothing worth mentioning.
    pub fn status(&self) -> PoolStatus {
        let mut book = self.shared.book();
        book.forget_failures(now());
        book.status()
    }

    async fn open(&self, key: K, request: ConnectRequest) -> Result<Tunnel, PoolError<C::Error>> {
        let mut unsent = 0;
        let mut unprocessed: Option<(ConnectionId, ConnectError)> = None;
        loop {
            let avoid = unprocessed.as_ref().map(|(id, _)| *id);
            let reservation = match self.place(&key, avoid).await {
                Ok(reservation) => reservation,
                Err(error) => {
                    return Err(match (error, unprocessed) {
                        // There is no other place to try.
                        (PoolError::Declined(Declined::Exhausted), Some((_, first))) => {
                            PoolError::Connect(first)
                        }
                        (error, _) => error,
                    });
                }
            };
            let id = reservation.id();
            let started = match reservation.start(&request) {
                Ok(started) => started,
                Err(error) => {
                    unsent += 1;
                    if !error.is_retryable() || unsent == MAX_UNSENT {
                        return Err(PoolError::Connect(error));
                    }
                    continue;
                }
            };
            match started.answer().await {
                Err(PoolError::Connect(error)) if error.is_retryable() && avoid.is_none() => {
                    unprocessed = Some((id, error));
                }
                result => return result,
            }
        }
    }

    async fn place_for(&self, key: K) -> Result<Reservation<K, C>, PoolError<C::Error>> {
        self.place(&key, None).await
    }

    /// Finds a place on a connection, waiting for one to be dialled or to become free.
    async fn place(
        &self,
        key: &K,
        avoid: Option<ConnectionId>,
    ) -> Result<Reservation<K, C>, PoolError<C::Error>> {
        if let Some(reservation) = self.checkout(key, avoid) {
            return Ok(reservation);
        }
        let (sender, mut receiver) = oneshot::channel();
        let (ticket, outcome) = self.shared.book().wait(key, avoid, sender, now());
        self.shared.carry_out(outcome);
        if let Ok(result) = receiver.try_recv() {
            return result.map(Reservation::new);
        }
        let waiting = Waiting { pool: self, key, ticket };
        let limit = self.shared.config.connect_timeout;
        let result = match timeout(limit, receiver).await {
            Ok(Ok(result)) => result.map(Reservation::new),
            Ok(Err(_dropped)) => Err(PoolError::Dial(DialError::Aborted(TaskDropped::new()))),
            Err(_elapsed) => Err(PoolError::ConnectTimeout(limit)),
        };
        drop(waiting);
        result
    }

    fn checkout(&self, key: &K, avoid: Option<ConnectionId>) -> Option<Reservation<K, C>> {
        let mut book = self.shared.book();
        let (connection, is_busy) = book.checkout(key, avoid)?;
        let relief = if is_busy { book.plan_relief(key, now()) } else { None };
        drop(book);
        if let Some(id) = relief {
            self.shared.dial(key.clone(), id);
        }
        Some(Reservation::new(place(connection)))
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
struct Waiting<'a, K, C>
where
    K: Key,
    C: Connect<K>,
{
    pool: &'a Pool<K, C>,
    key: &'a K,
    ticket: Ticket,
}

impl<K, C> Drop for Waiting<'_, K, C>
where
    K: Key,
    C: Connect<K>,
{
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        let cancelled = shared.book().cancel(self.key, self.ticket, now());
        if let Some((_, outcome)) = cancelled {
            shared.carry_out(outcome);
        }
    }
}

/// How often a connection may turn out to be closed as a request is about to be sent on it. Each is one that closed
/// within moments, so that a peer which does nothing else is not dialled for ever.
const MAX_UNSENT: usize = 4;
