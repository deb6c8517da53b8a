//! The task of one connection: dials, drives, and tells the pool.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak, atomic::AtomicBool},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep, timeout},
};
use tower_service::Service;

use super::{
    Connect, DialError, Key, TaskDropped,
    book::{ConnectionId, NextCheck},
    builder::Config,
    drain::Running,
    gauged::{Gauge, Gauged},
    shared::{Pooled, Shared, now},
    suspicion::Suspicion,
};
use crate::client::{self, INITIAL_PEER_LIMIT, SendConnect};

/// Dials a connection, hands it to the pool and drives it to its end, or to the deadline of a drain.
pub(super) async fn run<K, C>(mut registration: Registration<K, C>, connector: C, config: Config)
where
    K: Key,
    C: Connect<K>,
{
    let dial = timeout(config.connect_timeout, dial(connector, registration.key.clone(), &config.client));
    let (send, connection, gauge) = match registration.running.unless_drained(dial).await {
        Some(Ok(Ok(dialed))) => dialed,
        Some(Ok(Err(error))) => return registration.fail(error),
        Some(Err(_elapsed)) => return registration.fail(DialError::Timeout(config.connect_timeout)),
        None => return,
    };
    if !registration.open(send, gauge) {
        return;
    }
    let registration = &registration;
    let serve = Serve {
        connection,
        peer_limit: INITIAL_PEER_LIMIT,
        on_limit: |limit| registration.limit(limit),
        was_saturated: false,
        on_relief: || registration.relieve(),
        timer: sleep(Duration::ZERO),
        on_timer: || registration.check_timer(),
    };
    registration.running.unless_expired(serve).await;
}

async fn dial<K, C>(
    mut connector: C,
    key: K,
    client: &client::Builder,
) -> Result<Dialed<C::Response>, DialError<C::Error>>
where
    C: Service<K>,
    C::Response: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error| DialError::Connector(Arc::new(error));
    poll_fn(|cx| connector.poll_ready(cx)).await.map_err(failed)?;
    let (io, gauge) = Gauged::new(connector.call(key).await.map_err(failed)?);
    match client.handshake(io).await {
        Ok((send, connection)) => Ok((send, connection, gauge)),
        Err(error) => Err(DialError::Handshake(Arc::new(error))),
    }
}

type Dialed<T> = (SendConnect, client::Connection<Gauged<T>>, Gauge);

pin_project! {
    /// Drives a connection until it ends, by itself or after the pool let go of it.
    struct Serve<T, L, R, C>
    where
        T: AsyncRead,
        T: AsyncWrite,
        T: Unpin,
    {
        connection: client::Connection<T>,
        peer_limit: usize,
        // Told each change of the peer's limit.
        on_limit: L,
        was_saturated: bool,
        // Told when what is held here has been taken.
        on_relief: R,
        // When to ask.
        #[pin]
        timer: Sleep,
        // Asked then whether the connection is to go, and otherwise when to ask again.
        on_timer: C,
    }
}

impl<T, L, R, C> Future for Serve<T, L, R, C>
where
    T: AsyncRead + AsyncWrite + Unpin,
    L: FnMut(usize),
    R: FnMut(),
    C: FnMut() -> NextCheck,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if Pin::new(&mut *this.connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let peer_limit = this.connection.peer_limit();
        if peer_limit != *this.peer_limit {
            *this.peer_limit = peer_limit;
            (this.on_limit)(peer_limit);
        }
        let is_saturated = this.connection.is_saturated();
        if std::mem::replace(this.was_saturated, is_saturated) && !is_saturated {
            (this.on_relief)();
        }
        loop {
            ready!(this.timer.as_mut().poll(cx));
            this.timer.as_mut().reset(match (this.on_timer)() {
                NextCheck::At(next) => Instant::from_std(next),
                // The pool has let go of it, so that it closes once its last tunnel is gone: nothing left to check.
                NextCheck::Never => Instant::now() + FAR_FUTURE,
            });
        }
    }
}

/// A connection's entry in the book, from its dial on. Whatever becomes of the task, dropping it leaves no trace there.
pub(super) struct Registration<K, C>
where
    K: Key,
    C: Connect<K>,
{
    shared: Weak<Shared<K, C>>,
    key: K,
    id: ConnectionId,
    phase: Phase,
    running: Running,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    Gone,
}

impl<K, C> Registration<K, C>
where
    K: Key,
    C: Connect<K>,
{
    pub(super) fn new(shared: &Arc<Shared<K, C>>, key: K, id: ConnectionId) -> Self {
        let running = shared.drain.enter();
        Self { shared: Arc::downgrade(shared), key, id, phase: Phase::Dialling, running }
    }

    /// Hands a dialled connection to the pool, unless nobody wants it any more.
    fn open(&mut self, send: SendConnect, gauge: Gauge) -> bool {
        self.phase = Phase::Gone;
        let Some(shared) = self.shared.upgrade() else { return false };
        let pooled = Pooled {
            id: self.id,
            key: self.key.clone(),
            send,
            gauge,
            answered: AtomicBool::new(false),
            suspect: Suspicion::default(),
            response_timeout: shared.config.response_timeout,
            shared: self.shared.clone(),
        };
        let (is_open, outcome) = shared.book().handle_dialed(&self.key, self.id, Arc::new(pooled), now());
        if is_open {
            self.phase = Phase::Open;
        }
        shared.carry_out(outcome);
        is_open
    }

    fn fail(&mut self, error: DialError<C::Error>) {
        self.phase = Phase::Gone;
        if let Some(shared) = self.shared.upgrade() {
            shared.dial_failed(&self.key, self.id, error);
        }
    }

    fn limit(&self, limit: usize) {
        if let Some(shared) = self.shared.upgrade() {
            shared.limited(&self.key, self.id, limit);
        }
    }

    fn relieve(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.relieved(&self.key);
        }
    }

    fn check_timer(&self) -> NextCheck {
        let Some(shared) = self.shared.upgrade() else { return NextCheck::Never };
        let (next, outcome) = shared.book().handle_timer(&self.key, self.id, now());
        shared.carry_out(outcome);
        next
    }
}

impl<K, C> Drop for Registration<K, C>
where
    K: Key,
    C: Connect<K>,
{
    fn drop(&mut self) {
        match self.phase {
            Phase::Dialling => self.fail(DialError::Aborted(TaskDropped::new())),
            Phase::Open => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.closed(&self.key, self.id);
                }
            }
            Phase::Gone => {}
        }
    }
}

/// A day, after which checking again does no harm.
const FAR_FUTURE: Duration = Duration::from_secs(24 * 60 * 60);
