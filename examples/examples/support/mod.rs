//! The far side of the examples: a workload that accepts HBONE over mutual TLS, and the way to it.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hbone::{Tunnel, server};
use mesh_identity::{
    ExpectedPeer, SpiffeId, TlsConfigs, server_name,
    testing::{Authority, provider},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tower::Service;

/// Who calls.
const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
/// Who is called.
const STOCK: &str = "spiffe://example.org/ns/shop/sa/stock";

/// Dials the HBONE port of a workload, as `cart`, and expects `stock` there: what a pool is built with.
#[derive(Clone)]
pub(crate) struct MeshDialer {
    tls: TlsConfigs,
    own: SpiffeId,
    peer: ExpectedPeer,
}

impl Service<SocketAddr> for MeshDialer {
    type Response = TlsStream<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, next_hop: SocketAddr) -> Self::Future {
        let Self { tls, own, peer } = self.clone();
        Box::pin(async move {
            let config = tls.client(&own, &peer).await.map_err(io::Error::other)?;
            let stream = TcpStream::connect(next_hop).await?;
            TlsConnector::from(config).connect(server_name(), stream).await
        })
    }
}

/// Starts the workload `stock`, which gives each tunnel to `serve`. Yields how to dial it, and where.
pub(crate) async fn mesh<F, R>(serve: F) -> io::Result<(MeshDialer, SocketAddr)>
where
    F: Fn(Tunnel) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new("example.org");
    let identities = Arc::new(authority.store([CART, STOCK]));
    let configs = || TlsConfigs::new(identities.clone(), &provider()).map_err(io::Error::other);
    let id = |id: &str| id.parse::<SpiffeId>().map_err(io::Error::other);
    let (cart, stock) = (id(CART)?, id(STOCK)?);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let next_hop = listener.local_addr()?;
    let expected = ExpectedPeer::exact([cart.clone()]);
    let config = configs()?.server(&stock, &expected).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serve) = (TlsAcceptor::from(config.clone()), serve.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Ok(mut connection) = server::handshake(stream).await else { return };
                while let Some(Ok(incoming)) = connection.accept().await {
                    if let Ok(tunnel) = incoming.accept() {
                        tokio::spawn(serve(tunnel));
                    }
                }
            });
        }
    });
    Ok((MeshDialer { tls: configs()?, own: cart, peer: ExpectedPeer::exact([stock]) }, next_hop))
}
