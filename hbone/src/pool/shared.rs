use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tower_service::Service;

use super::{
    Connect, DialError, Key, PoolError,
    book::{Book, ConnectionId, Load, MeasureLoad, Outcome},
    builder::Config,
    connection,
    drain::Drain,
    gauged::Gauge,
    suspicion::Suspicion,
};
use crate::{
    client::SendConnect,
    proto::random,
    tunnel::{Permit, Release},
};

/// What a pool, its connections and their tasks share.
pub(super) struct Shared<K, C: Service<K>> {
    pub(super) config: Config,
    pub(super) drain: Arc<Drain>,
    connector: Mutex<C>,
    book: Mutex<PoolBook<K, C>>,
}

/// A connection in the pool, as its users hold it.
pub(super) struct Pooled<K, C: Service<K>> {
    pub(super) id: ConnectionId,
    pub(super) key: K,
    pub(super) send: SendConnect,
    pub(super) gauge: Gauge,
    /// Whether the peer has answered anything, so that its settings are known.
    pub(super) answered: AtomicBool,
    pub(super) suspect: Suspicion,
    pub(super) response_timeout: Duration,
    pub(super) shared: Weak<Shared<K, C>>,
}

/// A place for a tunnel on a connection.
pub(super) type Place<K, C> = (Arc<Pooled<K, C>>, Permit);

/// Who waits for a place.
pub(super) type Waiter<K, C> = oneshot::Sender<Result<Place<K, C>, PoolError<<C as Service<K>>::Error>>>;

type Failure<K, C> = DialError<<C as Service<K>>::Error>;
type PoolBook<K, C> = Book<K, Arc<Pooled<K, C>>, Waiter<K, C>, Failure<K, C>>;
type PoolOutcome<K, C> = Outcome<K, Arc<Pooled<K, C>>, Waiter<K, C>, Failure<K, C>>;

impl<K, C> Shared<K, C>
where
    K: Clone + Eq + Hash,
    C: Service<K>,
{
    pub(super) fn new(connector: C, config: Config) -> Self {
        let book = Mutex::new(Book::new(config.limits, random()));
        Self { config, drain: Arc::new(Drain::new()), connector: Mutex::new(connector), book }
    }

    /// The book, for as long as it takes to note something. Places, waiters and connections are dropped only without
    /// it, since a place that is dropped is noted.
    pub(super) fn book(&self) -> MutexGuard<'_, PoolBook<K, C>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, C> Shared<K, C>
where
    K: Key,
    C: Connect<K>,
{
    /// Does what the book decided.
    pub(super) fn carry_out(self: &Arc<Self>, outcome: PoolOutcome<K, C>) {
        for (key, id) in outcome.dials {
            self.dial(key, id);
        }
        for (waiter, connection) in outcome.grants {
            // If nobody waits any more, the place is given back as it is dropped.
            let _ = waiter.send(Ok(place(connection)));
        }
        for (waiter, refusal) in outcome.refusals {
            // Whoever does not listen has given up.
            let _ = waiter.send(Err(PoolError::refused(refusal, now())));
        }
    }

    /// Starts a dial that the book has planned.
    pub(super) fn dial(self: &Arc<Self>, key: K, id: ConnectionId) {
        let connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let registration = connection::Registration::new(self, key, id);
        (self.config.spawn)(Box::pin(connection::run(registration, connector, self.config.clone())));
    }

    /// A dial came to nothing.
    pub(super) fn dial_failed(self: &Arc<Self>, key: &K, id: ConnectionId, failure: Failure<K, C>) {
        let outcome = self.book().handle_dial_failed(key, id, failure, now());
        self.carry_out(outcome);
    }

    /// A connection turned out to take no more tunnels.
    pub(super) fn unusable(self: &Arc<Self>, key: &K, id: ConnectionId) {
        let outcome = self.book().handle_unusable(key, id, now());
        self.carry_out(outcome);
    }

    /// A connection is over.
    pub(super) fn closed(self: &Arc<Self>, key: &K, id: ConnectionId) {
        let outcome = self.book().handle_closed(key, id, now());
        self.carry_out(outcome);
    }

    /// A connection's peer said how many tunnels it takes.
    pub(super) fn limited(self: &Arc<Self>, key: &K, id: ConnectionId, limit: usize) {
        let outcome = self.book().handle_limit(key, id, limit, now());
        self.carry_out(outcome);
    }

    /// A connection is less loaded than it was.
    pub(super) fn relieved(self: &Arc<Self>, key: &K) {
        let outcome = self.book().handle_relief(key, now());
        self.carry_out(outcome);
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

/// The time as the book takes it; tokio's, which tests pause.
pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl<K, C: Service<K>> MeasureLoad for Arc<Pooled<K, C>> {
    fn load(&self) -> Load {
        if self.suspect.stands(|| self.send.received()) || self.send.is_saturated() {
            Load::Stalled
        } else if self.gauge.is_full() {
            Load::Busy
        } else {
            Load::Free
        }
    }
}

impl<K, C> Release for Pooled<K, C>
where
    K: Key,
    C: Connect<K>,
{
    fn release(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let outcome = shared.book().handle_released(&self.key, self.id, now());
        shared.carry_out(outcome);
    }
}
