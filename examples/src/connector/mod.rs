//! HTTP and gRPC clients through HBONE: what hyper-util's client and tonic's channel take their connections from.
//!
//! The `hbone` crate knows nothing of hyper; these few lines are all that lies between, to be used or copied.

mod stream;

use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll},
};

use hbone::{
    ConnectRequest, Destination, DestinationError,
    pool::{Pool, PoolError},
};
use http::Uri;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

pub use self::stream::HboneStream;

/// Reaches each server that a client names through tunnels on connections for one key of a pool: to a waypoint, a
/// gateway, or the one node proxy in front of them.
pub struct HboneConnector<K, C: Service<K>> {
    pool: Pool<K, C>,
    key: K,
}

impl<K, C: Service<K>> HboneConnector<K, C> {
    /// Opens tunnels on connections of `pool` for `key`.
    pub fn new(pool: Pool<K, C>, key: K) -> Self {
        Self { pool, key }
    }
}

impl<K, C> Service<Uri> for HboneConnector<K, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    C: Service<K> + Clone + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C::Error: Send + Sync + 'static,
    C::Future: Send,
{
    type Response = HboneStream;
    type Error = ConnectorError<C::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<HboneStream, Self::Error>> + Send>>;

    /// Always ready, as the pool is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { pool, key } = self.clone();
        Box::pin(async move {
            let request = ConnectRequest::new(destination(&uri)?);
            pool.connect(key, request).await.map(HboneStream::new).map_err(ConnectorError::Pool)
        })
    }
}

/// The server that a URI names.
fn destination<E>(uri: &Uri) -> Result<Destination, ConnectorError<E>> {
    let host = uri.host().ok_or(ConnectorError::NoHost)?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    format!("{host}:{port}").parse().map_err(ConnectorError::Destination)
}

impl<K: Clone, C: Service<K>> Clone for HboneConnector<K, C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), key: self.key.clone() }
    }
}

impl<K: fmt::Debug, C: Service<K>> fmt::Debug for HboneConnector<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HboneConnector").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why there is no connection to a server. `E` is the error of the service that dials for the pool.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectorError<E> {
    /// The URI names a host that no tunnel can lead to.
    #[error("invalid destination")]
    Destination(#[source] DestinationError),
    /// The URI names no host.
    #[error("no host in the uri")]
    NoHost,
    /// There is no tunnel.
    #[error("no tunnel")]
    Pool(#[source] PoolError<E>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_names_the_destination() {
        let table = [
            ("http://stock.shop.svc.cluster.local/prices", Some("stock.shop.svc.cluster.local:80")),
            ("https://stock.shop.svc.cluster.local", Some("stock.shop.svc.cluster.local:443")),
            ("http://192.0.2.7:8080/", Some("192.0.2.7:8080")),
            ("http://[2001:db8::7]:8080/", Some("[2001:db8::7]:8080")),
            ("/prices", None),
        ];
        for (uri, expected) in table {
            let found = destination::<()>(&uri.parse().unwrap()).ok().map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }
}
