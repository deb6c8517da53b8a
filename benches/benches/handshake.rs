//! What a full mutual TLS handshake costs with mesh identities, beside tokio-rustls with rustls' own verifiers, a static
//! configuration and the same kind of keys; and what resuming a session would save.

use std::{sync::Arc, time::Duration};

use benches::thread_time;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh_identity::{
    CertSelector, ClientConfigBuilder, ExpectedPeer, PeerIdentity, ServerConfigBuilder, SpiffeId,
    testing::{self, Authority, Leaf},
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, client::Resumption, pki_types::ServerName,
    server::WebPkiClientVerifier, version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

const CLIENT: &str = "spiffe://example.org/ns/shop/sa/cart";
const SERVER: &str = "spiffe://example.org/ns/shop/sa/stock";
const HOST: &str = "stock.example.org";

/// Handshakes of one kind before one of the other: short, so that what else runs on the machine hits both.
const BATCH: u64 = 8;

fn handshake(criterion: &mut Criterion) {
    let authority = Authority::new("example.org");
    let (plain, mesh) = (Pair::plain(&authority, 0), Pair::mesh(&authority));
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rustls", |bencher| bencher.iter(|| plain.shake_hands()));
    group.bench_function("mesh-identity", |bencher| bencher.iter(|| mesh.shake_hands_and_ask()));

    // Each sample is a round of pairs; criterion shows what ours takes, and the ratios come after it. It is the time that
    // this thread computes, which does the work of both ends and waits for nothing: what else runs counts less.
    let mut ratios = Vec::new();
    group.bench_function("paired", |bencher| {
        bencher.iter_custom(|iterations| {
            let (mut of_plain, mut of_mesh) = (Duration::ZERO, Duration::ZERO);
            let batches = iterations.div_ceil(BATCH).next_multiple_of(2);
            for batch in 0..batches {
                // Who goes first takes turns.
                for turn in 0..2 {
                    let start = thread_time();
                    if (batch + turn) % 2 == 0 {
                        (0..BATCH).for_each(|_| drop(plain.shake_hands()));
                        of_plain += thread_time() - start;
                    } else {
                        (0..BATCH).for_each(|_| drop(mesh.shake_hands_and_ask()));
                        of_mesh += thread_time() - start;
                    }
                }
            }
            ratios.push(of_plain.as_secs_f64() / of_mesh.as_secs_f64());
            of_mesh.mul_f64(iterations as f64 / (batches * BATCH) as f64)
        });
    });
    ratios.sort_by(f64::total_cmp);
    let quantile = |part: usize| ratios.get(ratios.len() * part / 4).copied().unwrap_or(f64::NAN);
    println!(
        "handshakes of mesh-identity per handshake of rustls: median {:.3}, quartiles {:.3} and {:.3}, {} rounds",
        quantile(2),
        quantile(1),
        quantile(3),
        ratios.len()
    );

    let resuming = Pair::plain(&authority, 1);
    resuming.shake_hands();
    let (client, _) = resuming.shake_hands();
    assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    group.bench_function("rustls, resumed", |bencher| bencher.iter(|| resuming.shake_hands()));
    let (_, server) = mesh.shake_hands();
    group.bench_function("peer identity", |bencher| {
        bencher.iter(|| PeerIdentity::from_connection(server.get_ref().1).expect("the client's identity"));
    });
    group.finish();
}

/// Two ends and the thread that does the work of both.
struct Pair {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    name: ServerName<'static>,
    runtime: Runtime,
}

impl Pair {
    fn new(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: ServerName<'static>) -> Self {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        Self { connector: client.into(), acceptor: server.into(), name, runtime }
    }

    fn mesh(authority: &Authority) -> Self {
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
        let (client, server) = (client.expect("a configuration"), server.expect("a configuration"));
        Self::new(client, server, mesh_identity::server_name())
    }

    fn plain(authority: &Authority, tickets: usize) -> Self {
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
        server_config.send_tls13_tickets = tickets;
        server_config.alpn_protocols = vec![b"h2".to_vec()];
        let mut client_config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(client.chain(), key(&client))
            .expect("a certificate");
        client_config.alpn_protocols = vec![b"h2".to_vec()];
        if tickets == 0 {
            client_config.resumption = Resumption::disabled();
        }
        let name = ServerName::try_from(HOST).expect("a name");
        Self::new(Arc::new(client_config), Arc::new(server_config), name)
    }

    /// Up to the first byte that the client reads, with which it has read whatever tickets there are.
    fn shake_hands(&self) -> (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>) {
        self.runtime.block_on(async {
            let (near, far) = duplex(16 * 1024);
            let accept = async {
                let mut stream = self.acceptor.accept(far).await.expect("a client");
                stream.write_u8(1).await.expect("memory");
                stream.flush().await.expect("memory");
                stream
            };
            let connect = async {
                let mut stream = self.connector.connect(self.name.clone(), near).await.expect("a server");
                stream.read_u8().await.expect("memory");
                stream
            };
            tokio::join!(connect, accept)
        })
    }

    /// As a proxy does, which then knows who its peer is.
    fn shake_hands_and_ask(&self) -> [PeerIdentity; 2] {
        let (client, server) = self.shake_hands();
        [
            PeerIdentity::from_connection(client.get_ref().1).expect("the server's identity"),
            PeerIdentity::from_connection(server.get_ref().1).expect("the client's identity"),
        ]
    }
}

criterion_group!(benches, handshake);
criterion_main!(benches);
