//! Crosses networks through a gateway: a connection inside a tunnel, "double HBONE".
//!
//! A gateway between networks looks at the destination of a tunnel and passes its bytes on to one of the pods behind it.
//! What it passes on is a second connection, end to end, whose peer is that pod; the gateway sees its TLS records only.
//!
//! ```text
//!   application bytes
//!     inner tunnel       CONNECT cart.shop.svc.cluster.local:80     + x-forwarded-network
//!       inner connection   TLS with the pod                         one outer tunnel each
//!         outer tunnel       CONNECT cart.shop.svc.cluster.local:80
//!           outer connection   TLS with the gateway                 pooled
//! ```
//!
//! [`Nested`] composes the two from what is there already: a [`Pool`] of connections to gateways, and a
//! [`Service`](tower_service::Service) of the caller's that secures a tunnel. Both requests name the same destination and say the same about the
//! client, since they are made from one.
//!
//! * **Each tunnel has an inner connection of its own**, unless asked otherwise: the gateway balances outer tunnels, so
//!   sharing an inner connection sends all its tunnels to one pod. The price is a TLS handshake each.
//! * **On request, inner connections are [shared](Builder::share)**: up to so many per destination, taking turns, each
//!   for a limited time, so that successive tunnels still reach different pods.
//! * **The end of an inner connection ends its outer tunnel**, in good order, and nothing else.
//!
//! ```
//! use std::{convert::Infallible, future::{Ready, ready}, task::{Context, Poll}};
//!
//! use hbone::{ConnectRequest, Tunnel, nested, pool::Pool};
//! # use std::{net::SocketAddr, pin::Pin, future::Future, io};
//! # use tokio::net::TcpStream;
//!
//! /// Secures an outer tunnel. In real life: TLS, as whom and with whom the key says.
//! #[derive(Clone)]
//! struct Plaintext;
//!
//! impl tower_service::Service<((), Tunnel)> for Plaintext {
//!     type Response = Tunnel;
//!     type Error = Infallible;
//!     type Future = Ready<Result<Tunnel, Infallible>>;
//!
//!     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
//!         Poll::Ready(Ok(()))
//!     }
//!
//!     fn call(&mut self, (_, tunnel): ((), Tunnel)) -> Self::Future {
//!         ready(Ok(tunnel))
//!     }
//! }
//!
//! # #[derive(Clone)]
//! # struct Dialer;
//! # impl tower_service::Service<SocketAddr> for Dialer {
//! #     type Response = TcpStream;
//! #     type Error = io::Error;
//! #     type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
//! #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> { Poll::Ready(Ok(())) }
//! #     fn call(&mut self, next_hop: SocketAddr) -> Self::Future { Box::pin(TcpStream::connect(next_hop)) }
//! # }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let gateways = Pool::new(Dialer);
//! let nested = nested::Builder::new("west".parse()?).build(gateways, Plaintext);
//! let gateway: SocketAddr = "203.0.113.4:15008".parse()?;
//! let destination: hbone::Destination = "cart.shop.svc.cluster.local:80".parse()?;
//! let tunnel = nested.connect(gateway, (), ConnectRequest::new(destination)).await?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod connector;
mod error;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::{Instant, timeout};

use self::connector::Connector;
pub use self::{
    builder::Builder,
    error::{NestedDialError, NestedError},
};
use crate::{
    client,
    pool::{Connect, DialError, Key, Pool, PoolError, Task},
    proto::{ConnectRequest, Destination},
    tunnel::Tunnel,
};

/// Opens tunnels through gateways. Clones share connections.
///
/// `K` is the key of the gateways' pool, `C` its connector. `S` secures an outer tunnel, given `I`, which says as whom
/// and with whom: whatever two inner connections to one destination must agree on to be the same.
pub struct Nested<K, I, C, S>
where
    K: Key,
    I: Key,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    connector: Connector<K, C, S>,
    /// Where inner connections are shared, if they are.
    inner: Option<InnerPool<K, I, C, S>>,
    settings: Arc<Settings>,
}

type InnerPool<K, I, C, S> = Pool<NestedKey<K, I>, Connector<K, C, S>>;

/// What inner connections must agree on to be shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NestedKey<K, I> {
    /// The gateway's key.
    pub gateway: K,
    /// As whom and with whom.
    pub inner: I,
    /// Where to.
    pub destination: Destination,
}

/// How an unshared inner connection is made.
struct Settings {
    network: HeaderValue,
    client: client::Builder,
    connect_timeout: Duration,
    response_timeout: Duration,
    spawn: Arc<dyn Fn(Task) + Send + Sync>,
}

impl<K, I, C, S> Nested<K, I, C, S>
where
    K: Key,
    I: Key,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    /// Opens a tunnel to the request's destination through `gateway`.
    ///
    /// The request goes to both peers, with this network's name to the inner one only. Where inner connections are shared,
    /// the gateway is told the destination alone, since the connection is nobody's in particular.
    ///
    /// # Errors
    ///
    /// If no inner connection can be had, in which case the cause tells whether the gateway or what is behind it was at
    /// fault, or the inner peer refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back; the peers may have acted on it.
    pub fn connect(
        &self,
        gateway: K,
        inner: I,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<Tunnel, NestedError<C::Error, S::Error>>> + Send {
        self.open(NestedKey { gateway, inner, destination: request.destination().clone() }, request)
    }

    /// Lets go of the shared inner connections for which `is_stale`: see [`Pool::retire`]. Those of the gateways are
    /// their pool's.
    pub fn retire(&self, is_stale: impl FnMut(&NestedKey<K, I>) -> bool) {
        if let Some(inner) = &self.inner {
            inner.retire(is_stale);
        }
    }

    /// Evicts the shared inner connections that `keep` does not want: see [`Pool::retain`]. Those of the gateways are
    /// their pool's.
    pub fn retain(&self, keep: impl FnMut(&NestedKey<K, I>) -> bool) {
        if let Some(inner) = &self.inner {
            inner.retain(keep);
        }
    }

    /// Drains the shared inner connections, then the gateways' pool: see [`Pool::drain`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn drain<D: Into<Instant>>(
        &self,
        deadline: D,
    ) -> impl Future<Output = ()> + Send + use<K, I, C, S, D> {
        let deadline = deadline.into();
        let inner = self.inner.as_ref().map(|inner| inner.drain(deadline));
        let outer = self.connector.outer().drain(deadline);
        async move {
            if let Some(inner) = inner {
                inner.await;
            }
            outer.await;
        }
    }

    async fn open(
        &self,
        key: NestedKey<K, I>,
        request: ConnectRequest,
    ) -> Result<Tunnel, NestedError<C::Error, S::Error>> {
        let network = self.settings.network.clone();
        match &self.inner {
            Some(inner) => inner.connect(key, request.with_forwarded_network(network)).await,
            None => self.open_alone(key, request.clone(), request.with_forwarded_network(network)).await,
        }
    }

    /// Opens a tunnel on an inner connection of its own.
    async fn open_alone(
        &self,
        key: NestedKey<K, I>,
        outer: ConnectRequest,
        inner: ConnectRequest,
    ) -> Result<Tunnel, NestedError<C::Error, S::Error>> {
        let Settings { client, connect_timeout, response_timeout, spawn, .. } = &*self.settings;
        let failed = |error| PoolError::Dial(DialError::Connector(Arc::new(error)));
        let dial = async {
            let io = self.connector.dial(key.gateway, key.inner, outer).await.map_err(failed)?;
            let handshake = client.handshake(io).await;
            handshake.map_err(|error| PoolError::Dial(DialError::Handshake(Arc::new(error))))
        };
        let Ok(dialed) = timeout(*connect_timeout, dial).await else {
            return Err(PoolError::Dial(DialError::Timeout(*connect_timeout)));
        };
        let (send, connection) = dialed?;
        // Ends with its tunnel, and with it the outer one.
        spawn(Box::pin(async move { drop(connection.await) }));
        let answer = timeout(*response_timeout, send.connect(inner)).await;
        answer.map_err(|_elapsed| PoolError::ResponseTimeout(*response_timeout))?.map_err(PoolError::Connect)
    }
}

impl<K, I, C, S> Clone for Nested<K, I, C, S>
where
    K: Key,
    I: Key,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    fn clone(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            inner: self.inner.clone(),
            settings: Arc::clone(&self.settings),
        }
    }
}

impl<K, I, C, S> fmt::Debug for Nested<K, I, C, S>
where
    K: Key,
    I: Key,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nested").field("shares", &self.inner.is_some()).finish_non_exhaustive()
    }
}
