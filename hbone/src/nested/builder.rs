use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;

use super::{Nested, Settings, connector::Connector};
use crate::{
    client,
    pool::{self, Connect, Key, Pool, Sharing, Task},
    tunnel::Tunnel,
};

/// Tunes a [`Nested`].
#[derive(Clone)]
pub struct Builder {
    network: HeaderValue,
    client: client::Builder,
    connect_timeout: Duration,
    response_timeout: Duration,
    spawn: Arc<dyn Fn(Task) + Send + Sync>,
    share: Option<(usize, Duration)>,
}

impl Builder {
    /// Starts from the defaults. `network` names the network of this side, which the inner peer is told; it may be empty.
    pub fn new(network: HeaderValue) -> Self {
        Self {
            network,
            client: client::Builder::new(),
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            spawn: Arc::new(|task| {
                tokio::spawn(task);
            }),
            share: None,
        }
    }

    /// Shares inner connections: up to `connections` per gateway, key and destination, each for new tunnels during `age`,
    /// a tenth more or less.
    ///
    /// Each of the first so many tunnels gets an inner connection to itself, by the gateway's choice; after that they take
    /// turns. More connections and shorter ages follow the gateway's choices more closely, at the price of handshakes.
    pub fn share(mut self, connections: usize, age: Duration) -> Self {
        self.share = Some((connections.max(1), age));
        self
    }

    /// How inner connections are tuned. Their windows lie within those of the outer tunnel.
    pub fn client(mut self, client: client::Builder) -> Self {
        self.client = client;
        self
    }

    /// How long an inner connection may take to make, the outer tunnel included: 20 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the inner peer may take to answer a request: 15 s by default.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Spawns the tasks that drive inner connections; [`tokio::spawn`] by default. They use tokio's timers.
    pub fn executor(mut self, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self {
        self.spawn = Arc::new(spawn);
        self
    }

    /// Builds it over the gateways' pool. `secure` makes an authenticated byte stream of an outer tunnel; it is cloned for
    /// each.
    pub fn build<K, I, C, S>(self, gateways: Pool<K, C>, secure: S) -> Nested<K, I, C, S>
    where
        K: Key,
        I: Key,
        C: Connect<K>,
        S: Connect<(I, Tunnel)> + Sync,
    {
        let Self { network, client, connect_timeout, response_timeout, spawn, share } = self;
        let connector = Connector::new(gateways, secure);
        let inner = share.map(|(connections, age)| {
            let spawn = Arc::clone(&spawn);
            pool::Builder::new()
                .sharing(Sharing::Spread)
                .max_connections(connections)
                .max_age(age)
                .connect_timeout(connect_timeout)
                .response_timeout(response_timeout)
                .client(client.clone())
                .executor(move |task| spawn(task))
                .build(connector.clone())
        });
        let settings = Settings { network, client, connect_timeout, response_timeout, spawn };
        Nested { connector, inner, settings: Arc::new(settings) }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("network", &self.network)
            .field("client", &self.client)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// Twice what one hop may take, for there are two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// As for any tunnel.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
