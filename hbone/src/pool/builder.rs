use std::{fmt, future::Future, hash::Hash, pin::Pin, sync::Arc, time::Duration};

use tower_service::Service;

use super::{Pool, Sharing, book::Limits, shared::Shared};
use crate::{client, connection::limits::FOR_EVER};

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
                limits: Limits {
                    tunnels: MAX_TUNNELS,
                    connections: MAX_CONNECTIONS,
                    relief: MAX_RELIEF,
                    total: MAX_TOTAL,
                    waiters: MAX_WAITING,
                    sharing: Sharing::Fill,
                    idle_timeout: IDLE_TIMEOUT,
                    max_age: Some(MAX_AGE),
                    backoff: BACKOFF,
                },
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

    /// How many connections that take tunnels a key may have: 128 by default. Who needs another waits for a tunnel to
    /// end.
    ///
    /// The reference has no limit; this one is above what the ephemeral ports of one address allow to be in use.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.limits.connections = connections.max(1);
        self
    }

    /// Up to how many connections a key may have because the others are busy in bytes, rather than full: 4 by default.
    ///
    /// A connection is busy while what is to be sent on it piles up; a tunnel is then opened on it all the same if no
    /// other has a place, and a further connection is dialled for those that follow. One that is stalled, since its
    /// peer's bytes are not being taken here or the peer left the last request unanswered, gets new tunnels only when
    /// no further connection can be had.
    pub fn max_relief(mut self, connections: usize) -> Self {
        self.config.limits.relief = connections;
        self
    }

    /// How many connections all keys may have together, including those being dialled and those that wait for their
    /// last tunnel to end: 8192 by default.
    ///
    /// A key that needs one more gets that of the connection which has been idle for longest, whosever it is. If none
    /// is, who has a connection waits for a tunnel on it, and who has none fails at once with
    /// [`Declined::Exhausted`](super::Declined::Exhausted).
    pub fn max_total(mut self, connections: usize) -> Self {
        self.config.limits.total = connections.max(1);
        self
    }

    /// How tunnels are distributed over a key's connections: [`Sharing::Fill`] by default.
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.config.limits.sharing = sharing;
        self
    }

    /// How many may wait for a tunnel per key: 8192 by default. Excess fails at once with
    /// [`Declined::Busy`](super::Declined::Busy).
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.config.limits.waiters = waiting;
        self
    }

    /// How long a connection is kept after its last tunnel ended: 5 min by default, as in the reference.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.limits.idle_timeout = timeout.min(FOR_EVER);
        self
    }

    /// How long a connection takes tunnels, a tenth more or less at random: an hour by default. After that it lives until
    /// its last tunnel ends.
    ///
    /// The reference has no limit, so that connections outlive what authenticated them, and peers that were added later
    /// never see a share.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.config.limits.max_age = Some(age.min(FOR_EVER));
        self
    }

    /// Lets connections take tunnels for as long as they live.
    pub fn without_max_age(mut self) -> Self {
        self.config.limits.max_age = None;
        self
    }

    /// How long a key is not dialled again after a failed dial, at first and at most: 100 ms and 2 s by default.
    ///
    /// The pause doubles with each failure in a row, less up to a half of it at random, and starts anew after a success
    /// or an eviction. Meanwhile who needs a connection fails at once with
    /// [`PoolError::Backoff`](super::PoolError::Backoff), which tells the cause and its time. At most 1024 keys are
    /// remembered; beyond that the one whose pause ends first is forgotten.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.config.limits.backoff = (first.min(FOR_EVER), longest.min(FOR_EVER));
        self
    }

    /// How long dialling may take, TLS and HTTP/2 included, and how long to wait for a place on a connection: 10 s by
    /// default, as the reference allows for TCP alone.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long the peer may take to answer a request: 15 s by default. It answers after it has dialled the
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
        let Config { limits, connect_timeout, response_timeout, client, spawn: _ } = &self.config;
        f.debug_struct("Builder")
            .field("limits", limits)
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
/// Enough to use four workers at the other end, each of which serves a connection alone.
const MAX_RELIEF: usize = 4;
/// A few hundred MiB with TLS buffers, and well below what a process may have in open files.
const MAX_TOTAL: usize = 8192;
/// A new handshake an hour costs nothing; a twentieth of the life of a mesh certificate, by default a day.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// From a few round trips between regions to about as long as a node proxy takes to come back.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// More than two connections' worth of ports of a busy client; a few hundred bytes each.
const MAX_WAITING: usize = 8192;
/// The reference's.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The reference's for TCP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The reference's for TCP at the far end, and time for the answer that it failed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
