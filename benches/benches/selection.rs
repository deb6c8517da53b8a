//! What it costs to choose the certificate of a connection, beside a table behind a lock for readers and writers.

use std::{
    collections::HashMap,
    future::Future,
    hint::black_box,
    io::Cursor,
    pin::pin,
    sync::{Arc, RwLock},
    task::{Context, Poll, Waker},
};

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_identity::{
    CertSelector, ExpectedPeer, IdentityManager, IdentitySource, IdentityStore, ServerConfigBuilder,
    SpiffeId, TlsConfigs,
    testing::{self, Authority},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    pki_types::ServerName,
    server::{Accepted, Acceptor},
    version::TLS13,
};

/// Identities of a process: as a node has workloads.
const IDENTITIES: usize = 100;

fn selection(criterion: &mut Criterion) {
    let authority = Authority::new("example.org");
    let ids: Vec<SpiffeId> = (0..IDENTITIES)
        .map(|number| format!("spiffe://example.org/ns/shop/sa/cart-{number}").parse().expect("a SPIFFE id"))
        .collect();
    let store = IdentityStore::new(authority.bundles());
    let svids: Vec<_> = ids.iter().map(|id| Arc::new(authority.svid(id.as_str()))).collect();
    svids.iter().for_each(|svid| store.insert(Arc::clone(svid)));
    let wanted = ids.get(IDENTITIES / 2).expect("one of them");
    let anyone = ExpectedPeer::trust_domain("example.org".parse().expect("a trust domain"));

    let mut group = criterion.benchmark_group("selection");
    let locked = RwLock::new(ids.iter().cloned().zip(svids).collect::<HashMap<_, _>>());
    group.bench_function("behind a lock", |bencher| {
        bencher.iter(|| locked.read().expect("no writer").get(black_box(wanted)).cloned());
    });
    group.bench_function("store", |bencher| bencher.iter(|| store.try_svid(black_box(wanted))));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let manager = runtime.block_on(async {
        let manager = IdentityManager::builder(authority).spawn();
        for id in &ids {
            manager.permit(id).expect("room");
            manager.svid(id).await.expect("a certificate");
        }
        manager
    });
    group.bench_function("manager", |bencher| bencher.iter(|| manager.try_svid(black_box(wanted))));

    let accepted = accepted("cart-50.example.org");
    let config = |selector| -> Arc<ServerConfig> {
        let builder = ServerConfigBuilder::new(testing::provider()).identity(store.clone(), selector);
        builder.expect_peer(anyone.clone()).build().expect("a configuration")
    };
    let fixed = config(CertSelector::fixed(wanted.clone()));
    group.bench_function("fixed", |bencher| {
        bencher.iter(|| fixed.cert_resolver.resolve(accepted.client_hello()));
    });
    let names: Vec<_> = (0..IDENTITIES).map(|number| format!("cart-{number}.example.org")).collect();
    let names = names.iter().map(String::as_str).zip(ids.iter().cloned());
    let named = config(CertSelector::by_server_name(names, None));
    group.bench_function("server name", |bencher| {
        bencher.iter(|| named.cert_resolver.resolve(accepted.client_hello()));
    });

    let configs = TlsConfigs::new(Arc::new(store.clone()), &testing::provider()).expect("configurations");
    group.bench_function("destination workload", |bencher| {
        bencher.iter(|| now(configs.server(black_box(wanted), &anyone)).expect("a configuration"));
    });
    group.finish();
}

/// What a client has said that names this server.
fn accepted(name: &'static str) -> Accepted {
    let config = ClientConfig::builder_with_provider(testing::provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory");
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(hello)).expect("memory");
    acceptor.accept().ok().flatten().expect("a whole client hello")
}

/// The value of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("all is at hand"),
    }
}

criterion_group!(benches, selection);
criterion_main!(benches);
