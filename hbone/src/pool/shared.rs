use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::Instant,
};
use tower_service::Service;

use super::{
    PoolError,
    book::{Book, ConnectionId, Outcome},
    builder::Config,
    connection,
    error::DialFailure,
};
use crate::{
    client::SendConnect,
    tunnel::{Permit, Release},
};

/// What a pool, its connections and their tasks share.
pub(super) struct Shared<K, C: Service<K>> {
    pub(super) config: Config,
    connector: Mutex<C>,
    book: Mutex<PoolBook<K, C>>,
}

/// A connection in the pool, as its users hold it.
pub(super) struct Pooled<K, C: Service<K>> {
    pub(super) id: ConnectionId,
    pub(super) key: K,
    pub(super) send: SendConnect,
    /// Whether the peer has answered anything, so that its settings are known.
    pub(super) answered: AtomicBool,
    pub(super) shared: Weak<Shared<K, C>>,
}

/// A place for a tunnel on a connection.
pub(super) type Place<K, C> = (Arc<Pooled<K, C>>, Permit);

/// Who waits for a place.
pub(super) type Waiter<K, C> = oneshot::Sender<Result<Place<K, C>, PoolError<<C as Service<K>>::Error>>>;

type PoolBook<K, C> = Book<K, Arc<Pooled<K, C>>, Waiter<K, C>>;

impl<K, C> Shared<K, C>
where
    K: Clone + Eq + Hash,
    C: Service<K>,
{
    pub(super) fn new(connector: C, config: Config) -> Self {
        let book = Mutex::new(Book::new(config.limits));
        Self { config, connector: Mutex::new(connector), book }
    }

    /// The book, for as long as it takes to note something. Places and waiters are dropped only without it, since a
    /// place that is dropped is noted.
    pub(super) fn book(&self) -> MutexGuard<'_, PoolBook<K, C>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, C> Shared<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    /// Does what the book decided.
    pub(super) fn carry_out(self: &Arc<Self>, key: &K, outcome: Outcome<Arc<Pooled<K, C>>, Waiter<K, C>>) {
        for id in outcome.dials {
            self.dial(key.clone(), id);
        }
        for (waiter, connection) in outcome.grants {
            // If nobody waits any more, the place is given back as it is dropped.
            let _ = waiter.send(Ok(place(connection)));
        }
    }

    /// Starts a dial that the book has planned.
    pub(super) fn dial(self: &Arc<Self>, key: K, id: ConnectionId) {
        let connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let registration = connection::Registration::new(Arc::downgrade(self), key, id);
        (self.config.spawn)(Box::pin(connection::run(registration, connector, self.config.clone())));
    }

    /// A dial came to nothing.
    pub(super) fn dial_failed(&self, key: &K, id: ConnectionId, failure: &DialFailure<C::Error>) {
        let waiters = self.book().handle_dial_failed(key, id);
        fail(waiters, || failure.to_error());
    }

    /// A connection takes no more tunnels.
    pub(super) fn closed(self: &Arc<Self>, key: &K, id: ConnectionId) {
        let outcome = self.book().handle_closed(key, id);
        self.carry_out(key, outcome);
    }

    /// A connection's peer said how many tunnels it takes.
    pub(super) fn limited(self: &Arc<Self>, key: &K, id: ConnectionId, limit: usize) {
        let outcome = self.book().handle_limit(key, id, limit);
        self.carry_out(key, outcome);
    }
}

/// Makes a place out of a connection on which the book has counted a tunnel.
pub(super) fn place<K, C>(connection: Arc<Pooled<K, C>>) -> Place<K, C>
where
    Pooled<K, C>: Release + 'static,
    C: Service<K>,
{
    let permit = Permit::new(Arc::clone(&connection) as Arc<dyn Release>);
    (connection, permit)
}

/// Tells all who wait that it is in vain.
pub(super) fn fail<K, C: Service<K>>(waiters: Vec<Waiter<K, C>>, error: impl Fn() -> PoolError<C::Error>) {
    for waiter in waiters {
        // Whoever does not listen has given up.
        let _ = waiter.send(Err(error()));
    }
}

impl<K, C> Release for Pooled<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    fn release(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let outcome = shared.book().handle_released(&self.key, self.id, Instant::now().into_std());
        shared.carry_out(&self.key, outcome);
    }
}
