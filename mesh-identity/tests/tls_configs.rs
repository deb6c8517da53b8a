//! Configurations are made once, and again when what they are made of changes.

mod support;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use mesh_identity::{
    IdentityError, IdentitySource, IdentityStore, PeerIdentity, TlsConfigError, TlsConfigs, TrustBundles,
    testing::{Authority, provider},
};
use support::*;

fn configs(store: &IdentityStore) -> TlsConfigs {
    TlsConfigs::new(Arc::new(store.clone()), &provider()).expect("a complete provider")
}

/// The value of a future that a store in memory completes at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

// identity#85
#[test]
fn the_same_identity_and_peer_share_a_configuration() {
    let ca = Authority::new("example.org");
    let configs = configs(&ca.store([CLIENT, SERVER]));
    let client = |expected| now(configs.client(&id(CLIENT), &expected)).unwrap();
    assert!(Arc::ptr_eq(&client(exactly(SERVER)), &client(exactly(SERVER))));
    assert!(!Arc::ptr_eq(&client(exactly(SERVER)), &client(anyone())));
    let server = || now(configs.server(&id(SERVER), &anyone())).unwrap();
    assert!(Arc::ptr_eq(&server(), &server()));
    let (at_client, at_server) = handshake(client(exactly(SERVER)), server()).established();
    assert_eq!(PeerIdentity::from_connection(&at_client).unwrap().id(), &id(SERVER));
    assert_eq!(PeerIdentity::from_connection(&at_server).unwrap().id(), &id(CLIENT));
}

// identity#45, identity#85
#[test]
fn a_rotation_replaces_the_configurations_it_concerns_and_no_other() {
    let ca = Authority::new("example.org");
    let store = ca.store([CLIENT, SERVER]);
    let configs = configs(&store);
    let both = || {
        let server = |name| now(configs.server(&id(name), &anyone())).unwrap();
        (server(CLIENT), server(SERVER))
    };
    let before = both();
    store.insert(ca.svid(CLIENT));
    let after = both();
    assert!(!Arc::ptr_eq(&before.0, &after.0));
    assert!(Arc::ptr_eq(&before.1, &after.1));
}

// identity#45
#[test]
fn the_workload_that_a_connection_is_for_chooses_the_certificate_in_use_then() {
    let ca = Authority::new("example.org");
    let store = ca.store([CLIENT, SERVER]);
    let configs = configs(&store);
    let client = client(ca.svid(CLIENT), ca.bundles(), anyone());
    let presented = |destination: &str| {
        let server = now(configs.server(&id(destination), &anyone())).unwrap();
        let (client, _) = handshake(client.clone(), server).established();
        client.peer_certificates().unwrap().to_vec()
    };
    for destination in [CLIENT, SERVER, CLIENT] {
        assert_eq!(presented(destination), store.try_svid(&id(destination)).unwrap().chain());
    }
    let before = presented(SERVER);
    store.insert(ca.svid(SERVER));
    assert_ne!(presented(SERVER), before);
    assert_eq!(presented(SERVER), store.try_svid(&id(SERVER)).unwrap().chain());
}

// identity#67
#[test]
fn replaced_bundles_replace_every_configuration() {
    let ca = Authority::new("example.org");
    let store = ca.store([SERVER]);
    let configs = configs(&store);
    let server = || now(configs.server(&id(SERVER), &anyone())).unwrap();
    let client = client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER));
    handshake(client.clone(), server()).established();
    store.replace([ca.svid(SERVER)], TrustBundles::default());
    assert!(handshake(client, server()).server.is_err());
}

// identity#68, hbone#74
#[test]
fn a_configuration_is_current_until_what_it_was_made_of_is_replaced() {
    let ca = Authority::new("example.org");
    let store = ca.store([CLIENT, SERVER]);
    let configs = configs(&store);
    let server = || now(configs.server_entry(&id(SERVER), &anyone())).unwrap();
    let first = server();
    assert!(Arc::ptr_eq(first.svid(), &store.try_svid(&id(SERVER)).unwrap()));
    assert!(Arc::ptr_eq(first.bundles(), &store.bundles()));
    assert!(Arc::ptr_eq(first.config(), &now(configs.server(&id(SERVER), &anyone())).unwrap()));
    store.insert(ca.svid(CLIENT));
    assert!(configs.is_current(&first));
    store.insert(ca.svid(SERVER));
    assert!(!configs.is_current(&first));

    let second = server();
    assert!(configs.is_current(&second));
    store.replace([ca.svid(SERVER)], ca.bundles());
    assert!(!configs.is_current(&second));
    let client = now(configs.client_entry(&id(SERVER), &anyone())).unwrap();
    assert!(configs.is_current(&client));
    store.replace([], ca.bundles());
    assert!(!configs.is_current(&client));
}

#[test]
fn an_identity_that_is_gone_has_no_configuration_any_more() {
    let ca = Authority::new("example.org");
    let store = ca.store([SERVER]);
    let configs = configs(&store);
    now(configs.server(&id(SERVER), &anyone())).unwrap();
    store.replace([], ca.bundles());
    let gone = IdentityError::Unknown { id: id(SERVER) };
    assert_eq!(now(configs.server(&id(SERVER), &anyone())).unwrap_err(), TlsConfigError::Identity(gone));
}

// identity#54
#[test]
fn nothing_keeps_the_key_of_an_identity_that_is_gone() {
    let ca = Authority::new("example.org");
    let store = ca.store([CLIENT, SERVER]);
    let configs = configs(&store);
    let destinations = [SERVER, "spiffe://example.org/a", "spiffe://example.org/b"];
    let configs_of_client = destinations.map(|destination| {
        let client = now(configs.client(&id(CLIENT), &exactly(destination))).unwrap();
        Arc::downgrade(&client)
    });
    let server = Arc::downgrade(&now(configs.server(&id(CLIENT), &anyone())).unwrap());
    let other = Arc::downgrade(&now(configs.client(&id(SERVER), &anyone())).unwrap());
    store.remove(&id(CLIENT));
    now(configs.client(&id(CLIENT), &exactly(SERVER))).unwrap_err();
    assert!(configs_of_client.iter().all(|config| config.upgrade().is_none()));
    assert!(server.upgrade().is_none());
    assert!(other.upgrade().is_some());
}

// identity#53
#[test]
fn an_expired_certificate_is_not_used() {
    let ca = Authority::new("example.org");
    let store = ca.store([]);
    let svid = ca.leaf(SERVER).expired().issue().svid().unwrap();
    let expired = IdentityError::Expired { id: id(SERVER), not_after: svid.not_after() };
    store.insert(svid);
    let refused = now(configs(&store).server(&id(SERVER), &anyone()));
    assert_eq!(refused.unwrap_err(), TlsConfigError::Identity(expired));
}

#[test]
fn past_the_capacity_the_configuration_unused_for_longest_is_forgotten() {
    let ca = Authority::new("example.org");
    let names = ["spiffe://example.org/a", "spiffe://example.org/b", "spiffe://example.org/c"];
    let configs = configs(&ca.store(names)).capacity(2);
    let server = |name: &str| now(configs.server(&id(name), &anyone())).unwrap();
    let [a, b, c] = names;
    let (first_a, first_b) = (server(a), server(b));
    server(a);
    server(c);
    assert!(Arc::ptr_eq(&first_a, &server(a)));
    assert!(!Arc::ptr_eq(&first_b, &server(b)));
}
