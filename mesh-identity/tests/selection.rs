//! Choosing the certificate of a connection allocates nothing, whoever keeps it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::Future,
    io::Cursor,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use mesh_identity::{
    CertSelector, IdentityManager, IdentitySource, ServerConfigBuilder, SpiffeId, TlsConfigs, X509Svid,
    testing::{Authority, provider},
};
use rustls::{
    ClientConnection, ServerConfig,
    pki_types::ServerName,
    server::{Accepted, Acceptor},
    version::TLS13,
};
use support::*;

const NAMES: [&str; 3] = [CLIENT, SERVER, "spiffe://example.org/ns/shop/sa/other"];

/// How many allocations this takes, once everything is warm.
fn allocations<T>(mut select: impl FnMut() -> T) -> u64 {
    drop(select());
    allocation_counter::measure(|| (0..100).for_each(|_| drop(select()))).count_total
}

/// What a client has said, up to where the server chooses a certificate.
fn accepted(ca: &Authority, server_name: ServerName<'static>) -> Accepted {
    let client = foreign_client(None, ca.bundles(), default_provider(), &[&TLS13]);
    let mut client = ClientConnection::new(Arc::new(client), server_name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(hello)).unwrap();
    acceptor.accept().unwrap().expect("a whole client hello")
}

fn choosing(source: impl IdentitySource + 'static, selector: CertSelector) -> Arc<ServerConfig> {
    ServerConfigBuilder::new(provider()).identity(source, selector).expect_peer(anyone()).build().unwrap()
}

#[test]
fn of_one_identity_or_by_the_name_that_a_client_sends() {
    let ca = Authority::new("example.org");
    let store = ca.store(NAMES);
    let names = [("cart.example.org", id(CLIENT)), ("Stock.example.org", id(SERVER))];
    let by_name = choosing(store.clone(), CertSelector::by_server_name(names, None));
    let fixed = choosing(store.clone(), CertSelector::fixed(id(CLIENT)));
    for (config, name, expected) in [
        (&fixed, "stock.example.org", CLIENT),
        (&by_name, "cart.example.org", CLIENT),
        (&by_name, "stock.example.org", SERVER),
    ] {
        let accepted = accepted(&ca, name.try_into().unwrap());
        let chosen = config.cert_resolver.resolve(accepted.client_hello()).unwrap();
        assert_eq!(chosen.cert, store.try_svid(&id(expected)).unwrap().chain());
        assert_eq!(allocations(|| config.cert_resolver.resolve(accepted.client_hello())), 0, "{name}");
    }
}

#[test]
fn by_the_workload_that_a_connection_is_for() {
    let ca = Authority::new("example.org");
    let store = Arc::new(ca.store(NAMES));
    let configs = TlsConfigs::new(store.clone(), &provider()).unwrap();
    let (expected, ids) = (anyone(), NAMES.map(id));
    for id in &ids {
        assert_eq!(allocations(|| now(configs.server(id, &expected)).unwrap()), 0);
        assert_eq!(allocations(|| now(configs.client(id, &expected)).unwrap()), 0);
    }
    // A rotation of one costs the others nothing but a second look.
    store.insert(ca.svid(CLIENT));
    let looked = allocation_counter::measure(|| drop(now(configs.server(&ids[1], &expected)).unwrap()));
    assert_eq!(looked.count_total, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn of_those_that_a_manager_renews() {
    let ca = Authority::new("example.org");
    let manager = IdentityManager::builder(ca).spawn();
    let ids = NAMES.map(id);
    for id in &ids {
        manager.permit(id).unwrap();
        manager.svid(id).await.unwrap();
    }
    let select = |id: &SpiffeId| -> Arc<X509Svid> { manager.try_svid(id).unwrap() };
    for id in &ids {
        assert_eq!(allocations(|| select(id)), 0);
        assert_eq!(allocations(|| manager.bundles()), 0);
    }
}

/// The value of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing to wait for"),
    }
}
