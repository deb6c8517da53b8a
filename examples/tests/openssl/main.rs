//! OpenSSL as the other side of identities: its command line makes certificates, its client and server shake hands with
//! configurations of mesh-identity, each without the rest of a mesh.
//!
//! Skipped with a banner where `openssl` is missing; `MESH_REQUIRE=peers` makes that a failure. Envoy with SVIDs, and
//! OpenSSL with whole proxies, are in the system tests (`tests/system/peers`).

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod certificates;
mod client;
mod command;
mod server;

use std::{net::TcpStream, sync::Arc, time::Duration};

use mesh_identity::{
    CertSelector, ClientConfigBuilder, ExpectedPeer, IdentityStore, ServerConfigBuilder, SpiffeId,
    TlsSettings, testing::provider,
};
use rustls::{ClientConfig, ServerConfig};

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
const STOCK: &str = "spiffe://example.org/ns/shop/sa/stock";

/// Bound on each read and write: nobody here has a reason to wait for long.
const PATIENCE: Duration = Duration::from_secs(20);

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn anyone() -> ExpectedPeer {
    ExpectedPeer::trust_domain("example.org".parse().unwrap())
}

fn server_config(store: &IdentityStore, own: &str, settings: TlsSettings) -> Arc<ServerConfig> {
    ServerConfigBuilder::new(provider())
        .identity(store.clone(), CertSelector::fixed(id(own)))
        .expect_peer(anyone())
        .settings(settings)
        .build()
        .unwrap()
}

fn client_config(store: &IdentityStore, own: &str, peer: &str, settings: TlsSettings) -> Arc<ClientConfig> {
    ClientConfigBuilder::new(provider())
        .identity(store.clone(), CertSelector::fixed(id(own)))
        .expect_peer(ExpectedPeer::exact([id(peer)]))
        .settings(settings)
        .build()
        .unwrap()
}

fn bounded(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}
