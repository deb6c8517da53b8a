//! The task of one connection: dials, drives, and tells the pool.

use std::{
    future::{Future, poll_fn},
    hash::Hash,
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
    book::{ConnectionId, Idle},
    builder::Config,
    error::DialFailure,
    shared::{Pooled, Shared},
};
use crate::{
    client::{self, INITIAL_PEER_LIMIT, SendConnect},
    connection::HandshakeError,
};

/// Dials a connection, hands it to the pool and drives it to its end.
pub(super) async fn run<K, C>(mut registration: Registration<K, C>, connector: C, config: Config)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    let dialed =
        timeout(config.connect_timeout, dial(connector, registration.key.clone(), &config.client)).await;
    let failure = match dialed {
        Ok(Ok((send, connection))) => {
            if registration.open(send) {
                let registration = &registration;
                let serve = Serve {
                    connection,
                    peer_limit: INITIAL_PEER_LIMIT,
                    on_limit: |limit| registration.limit(limit),
                    idle: sleep(config.idle_timeout),
                    on_idle: |now| registration.check_idle(now),
                };
                serve.await;
            }
            return;
        }
        Ok(Err(failure)) => failure,
        Err(_elapsed) => DialFailure::Timeout(config.connect_timeout),
    };
    registration.fail(&failure);
}

async fn dial<K, C>(
    mut connector: C,
    key: K,
    client: &client::Builder,
) -> Result<(SendConnect, client::Connection<C::Response>), DialFailure<C::Error>>
where
    C: Service<K>,
    C::Response: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error| DialFailure::Dial(Arc::new(error));
    poll_fn(|cx| connector.poll_ready(cx)).await.map_err(failed)?;
    let io = connector.call(key).await.map_err(failed)?;
    client.handshake(io).await.map_err(|error: HandshakeError| DialFailure::Handshake(Arc::new(error)))
}

pin_project! {
    /// Drives a connection until it ends, by itself or after having been idle.
    struct Serve<T, L, I>
    where
        T: AsyncRead,
        T: AsyncWrite,
        T: Unpin,
    {
        connection: client::Connection<T>,
        peer_limit: usize,
        // Told each change of the peer's limit.
        on_limit: L,
        // When to fire.
        #[pin]
        idle: Sleep,
        // Asked then whether the connection expired.
        on_idle: I,
    }
}

impl<T, L, I> Future for Serve<T, L, I>
where
    T: AsyncRead + AsyncWrite + Unpin,
    L: FnMut(usize),
    I: FnMut(Instant) -> Idle,
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
        loop {
            ready!(this.idle.as_mut().poll(cx));
            let now = Instant::now();
            this.idle.as_mut().reset(match (this.on_idle)(now) {
                Idle::CheckAt(next) => Instant::from_std(next),
                // The pool has let go of it, so that it closes once its last tunnel is gone: nothing left to check.
                Idle::Expired => now + FAR_FUTURE,
            });
        }
    }
}

/// A connection's entry in the book, from its dial on. Whatever becomes of the task, dropping it leaves no trace there.
pub(super) struct Registration<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    shared: Weak<Shared<K, C>>,
    key: K,
    id: ConnectionId,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    Gone,
}

impl<K, C> Registration<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    pub(super) fn new(shared: Weak<Shared<K, C>>, key: K, id: ConnectionId) -> Self {
        Self { shared, key, id, phase: Phase::Dialling }
    }

    /// Hands a dialled connection to the pool, unless nobody wants it any more.
    fn open(&mut self, send: SendConnect) -> bool {
        self.phase = Phase::Gone;
        let Some(shared) = self.shared.upgrade() else { return false };
        let pooled = Pooled {
            id: self.id,
            key: self.key.clone(),
            send,
            answered: AtomicBool::new(false),
            shared: self.shared.clone(),
        };
        let now = Instant::now().into_std();
        let outcome = shared.book().handle_dialed(&self.key, self.id, Arc::new(pooled), now);
        let Some(outcome) = outcome else { return false };
        self.phase = Phase::Open;
        shared.carry_out(&self.key, outcome);
        true
    }

    fn fail(&mut self, failure: &DialFailure<C::Error>) {
        self.phase = Phase::Gone;
        if let Some(shared) = self.shared.upgrade() {
            shared.dial_failed(&self.key, self.id, failure);
        }
    }

    fn limit(&self, limit: usize) {
        if let Some(shared) = self.shared.upgrade() {
            shared.limited(&self.key, self.id, limit);
        }
    }

    fn check_idle(&self, now: Instant) -> Idle {
        let Some(shared) = self.shared.upgrade() else { return Idle::Expired };
        let timeout = shared.config.idle_timeout;
        shared.book().handle_idle_check(&self.key, self.id, timeout, now.into_std())
    }
}

impl<K, C> Drop for Registration<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    fn drop(&mut self) {
        match self.phase {
            Phase::Dialling => self.fail(&DialFailure::Aborted),
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
