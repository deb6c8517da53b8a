//! What a full mutual TLS handshake costs with mesh identities, beside rustls with its own verifiers and the same keys.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh_identity::{
    CertSelector, ClientConfigBuilder, ExpectedPeer, PeerIdentity, ServerConfigBuilder, SpiffeId,
    testing::{self, Authority, Leaf},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, pki_types::ServerName,
    server::WebPkiClientVerifier, version::TLS13,
};

const CLIENT: &str = "spiffe://example.org/ns/shop/sa/cart";
const SERVER: &str = "spiffe://example.org/ns/shop/sa/stock";
const HOST: &str = "stock.example.org";

fn handshake(criterion: &mut Criterion) {
    let authority = Authority::new("example.org");
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    let (client, server) = plain(&authority);
    let name = ServerName::try_from(HOST).expect("a name");
    group.bench_function("rustls", |bencher| bencher.iter(|| shake_hands(&client, &server, &name)));
    let (client, server) = mesh(&authority);
    let name = mesh_identity::server_name();
    group.bench_function("mesh-identity", |bencher| {
        bencher.iter(|| {
            let (client, server) = shake_hands(&client, &server, &name);
            let seen = PeerIdentity::from_connection(&server).expect("the client's identity");
            (seen, PeerIdentity::from_connection(&client).expect("the server's identity"))
        });
    });
    group.finish();
}

fn mesh(authority: &Authority) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let [client, server]: [SpiffeId; 2] = [CLIENT, SERVER].map(|id| id.parse().expect("a SPIFFE id"));
    let store = authority.store([CLIENT, SERVER]);
    let client = ClientConfigBuilder::new(testing::provider())
        .identity(store.clone(), CertSelector::fixed(client))
        .expect_peer(ExpectedPeer::exact([server.clone()]))
        .build();
    let server = ServerConfigBuilder::new(testing::provider())
        .identity(store, CertSelector::fixed(server))
        .expect_peer(ExpectedPeer::trust_domain("example.org".parse().expect("a trust domain")))
        .build();
    (client.expect("a client configuration"), server.expect("a server configuration"))
}

fn plain(authority: &Authority) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let leaf = |id| authority.leaf(id).dns_name(HOST).issue();
    let key = |leaf: &Leaf| leaf.key().into();
    let (client, server) = (leaf(CLIENT), leaf(SERVER));
    let mut roots = RootCertStore::empty();
    roots.add(authority.root()).expect("a root");
    let roots = Arc::new(roots);
    let provider = testing::provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
    let mut server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(server.chain(), key(&server))
        .expect("a certificate");
    // As in a mesh: no tickets, so that both do the same work.
    server_config.send_tls13_tickets = 0;
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain(), key(&client))
        .expect("a certificate");
    (Arc::new(client_config), Arc::new(server_config))
}

/// One thread does the work of both sides.
fn shake_hands(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &ServerName<'static>,
) -> (ClientConnection, ServerConnection) {
    let mut client = ClientConnection::new(Arc::clone(client), name.clone()).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut flight = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory");
        }
        read_flight(&mut flight, |records| server.read_tls(records));
        server.process_new_packets().expect("what the client sent");
        while server.wants_write() {
            server.write_tls(&mut flight).expect("memory");
        }
        read_flight(&mut flight, |records| client.read_tls(records));
        client.process_new_packets().expect("what the server sent");
    }
    (client, server)
}

fn read_flight(flight: &mut Vec<u8>, mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    let mut records = flight.as_slice();
    while !records.is_empty() {
        read(&mut records).expect("memory");
    }
    flight.clear();
}

criterion_group!(benches, handshake);
criterion_main!(benches);
