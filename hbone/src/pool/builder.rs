use std::{fmt, future::Future, hash::Hash, pin::Pin, sync::Arc, time::Duration};

use tower_service::Service;

use super::{Pool, book::Limits, shared::Shared};
use crate::client;

/// A task of the pool's, to be spawned: one per connection, from its dial to its end.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tunes a [`Pool`].
#[derive(Clone)]
pub struct Builder {
    pub(super) config: Config,
}

/// What a pool is built with.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) limits: Limits,
    pub(super) idle_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) client: client::Builder,
    pub(super) spawn: Arc<dyn Fn(Task) + Send + Sync>,
}

impl Builder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self {
            config: Config {
                limits: Limits { tunnels: MAX_TUNNELS, connections: MAX_CONNECTIONS, waiters: MAX_WAITING },
                idle_timeout: IDLE_TIMEOUT,
                connect_timeout: CONNECT_TIMEOUT,
                response_timeout: RESPONSE_TIMEOUT,
                client: client::Builder::new(),
                spawn: Arc::new(|task| {
                    tokio::spawn(task);
                }),
            },
        }
    }

    /// How many tunnels share a connection: 100 by default, as in the reference, and never more than the peer allows.
    pub fn max_tunnels(mut self, tunnels: usize) -> Self {
        self.config.limits.tunnels = tunnels.max(1);
        self
    }

    /// How many connections a key may have: 128 by default. Who needs another waits for a tunnel to end.
    ///
    /// The reference has no limit; this one is above what the ephemeral ports of one address allow to be in use.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.limits.connections = connections.max(1);
        self
    }

    /// How many may wait for a tunnel per key: 8192 by default. Excess fails at once with
    /// [`PoolError::Busy`](super::PoolError::Busy).
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.config.limits.waiters = waiting;
        self
    }

    /// How long a connection is kept after its last tunnel ended: 5 min by default, as in the reference.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// How long dialling may take, TLS and HTTP/2 included, and how long to wait for a place on a connection: 10 s by
    /// default, as the reference allows for TCP alone.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long the peer may take to answer a request: 10 s by default. It answers after it has dialled the
    /// destination, for which the reference takes up to 10 s.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.config.response_timeout = timeout;
        self
    }

    /// How connections are tuned.
    pub fn client(mut self, client: client::Builder) -> Self {
        self.config.client = client;
        self
    }

    /// Spawns the pool's tasks; [`tokio::spawn`] by default. The tasks use tokio's timers.
    pub fn executor(mut self, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self {
        self.config.spawn = Arc::new(spawn);
        self
    }

    /// Builds the pool. `connector` makes the authenticated byte stream for a key; it is cloned for each dial.
    pub fn build<K, C>(self, connector: C) -> Pool<K, C>
    where
        K: Clone + Eq + Hash,
        C: Service<K>,
    {
        Pool { shared: Arc::new(Shared::new(connector, self.config)) }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { limits, idle_timeout, connect_timeout, response_timeout, client, spawn: _ } =
            &self.config;
        f.debug_struct("Builder")
            .field("limits", limits)
            .field("idle_timeout", idle_timeout)
            .field("connect_timeout", connect_timeout)
            .field("response_timeout", response_timeout)
            .field("client", client)
            .finish_non_exhaustive()
    }
}

/// The reference's.
const MAX_TUNNELS: usize = 100;
/// With 100 tunnels each, 12,800 tunnels.
const MAX_CONNECTIONS: usize = 128;
/// More than two connections' worth of ports of a busy client; a few hundred bytes each.
const MAX_WAITING: usize = 8192;
/// The reference's.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The reference's for TCP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The reference's for TCP at the far end.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
