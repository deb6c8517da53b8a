//! Mutual TLS between two workloads, over connections joined in memory.

mod support;

use std::{io::Cursor, sync::Arc};

use mesh_identity::{
    CertSelector, ClientConfigBuilder, ExpectedPeer, IdentitySource, IdentityStore, LeafError, PeerIdentity,
    PeerIdentityError, Role, ServerConfigBuilder, SpiffeId, TrustBundles, VerifyError,
    testing::{Authority, KeyAlgorithm, provider, rcgen::CustomExtension},
};
use rustls::{
    AlertDescription, CipherSuite, ClientConnection, Error, HandshakeKind, InvalidMessage, NamedGroup,
    PeerIncompatible, ProtocolVersion, ServerConnection,
    crypto::aws_lc_rs::{self, kx_group},
    server::{Acceptor, ServerSessionMemoryCache},
    version::{TLS12, TLS13},
};
use support::*;

fn example() -> Authority {
    Authority::new("example.org")
}

// identity#22
#[test]
fn both_ends_learn_the_id_that_was_verified() {
    let ca = example();
    let (client, server) = handshake(
        client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER)),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    )
    .established();
    assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(SERVER));
    assert_eq!(PeerIdentity::from_connection(&server).unwrap().into_id(), id(CLIENT));
    for (version, suite, alpn) in [
        (client.protocol_version(), client.negotiated_cipher_suite(), client.alpn_protocol()),
        (server.protocol_version(), server.negotiated_cipher_suite(), server.alpn_protocol()),
    ] {
        assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(suite.unwrap().suite(), CipherSuite::TLS13_AES_256_GCM_SHA384);
        assert_eq!(alpn, Some(&b"h2"[..]));
    }
}

#[test]
fn there_is_no_identity_before_the_handshake_is_done() {
    let ca = example();
    let config = server(ca.svid(SERVER), ca.bundles(), anyone());
    let connection = ServerConnection::new(config).unwrap();
    assert_eq!(PeerIdentity::from_connection(&connection).unwrap_err(), PeerIdentityError::Handshaking);
}

// hbone#3
#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = example();
    let done = handshake(
        foreign_client(None, ca.bundles(), default_provider(), &[&TLS13]),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    );
    assert_eq!(done.server_error(), &Error::NoCertificatesPresented);
    assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::CertificateRequired));
}

// identity#20, hbone#6
#[test]
fn a_client_of_another_trust_domain_is_refused_though_its_root_is_known() {
    let (ours, theirs) = (example(), Authority::new("other.example"));
    let both = || TrustBundles::new([ours.bundle(), theirs.bundle()]);
    let stranger = "spiffe://other.example/ns/shop/sa/cart";
    let done = handshake(
        client(theirs.svid(stranger), both(), exactly(SERVER)),
        server(ours.svid(SERVER), both(), anyone()),
    );
    let expected = VerifyError::Unexpected { expected: anyone(), presented: id(stranger) };
    assert_eq!(done.client_refused_because(), &expected);
}

#[test]
fn aliases_are_accepted_when_they_are_expected() {
    let (ours, alias) = (example(), Authority::new("old.example.org"));
    let both = || TrustBundles::new([ours.bundle(), alias.bundle()]);
    let expected = ExpectedPeer::trust_domains([domain("example.org"), domain("old.example.org")]);
    let done = handshake(
        client(alias.svid("spiffe://old.example.org/a"), both(), exactly(SERVER)),
        server(ours.svid(SERVER), both(), expected),
    );
    done.established();
}

// identity#21
#[test]
fn a_root_cannot_vouch_for_another_trust_domain() {
    let (ours, theirs) = (example(), Authority::new("other.example"));
    let both = || TrustBundles::new([ours.bundle(), theirs.bundle()]);
    // Signed by the root of the other trust domain, but naming ours.
    let done = handshake(
        client(theirs.svid(CLIENT), both(), exactly(SERVER)),
        server(ours.svid(SERVER), both(), anyone()),
    );
    assert!(matches!(
        done.client_refused_because(),
        VerifyError::Chain { presented, .. } if *presented == id(CLIENT)
    ));
}

#[test]
fn a_trust_domain_without_a_bundle_is_refused() {
    let (ours, theirs) = (example(), Authority::new("other.example"));
    let stranger = "spiffe://other.example/a";
    let done = handshake(
        client(theirs.svid(stranger), ours.bundles(), exactly(SERVER)),
        server(ours.svid(SERVER), ours.bundles(), ExpectedPeer::trust_domain(domain("other.example"))),
    );
    let expected = VerifyError::UnknownTrustDomain { presented: id(stranger) };
    assert_eq!(done.client_refused_because(), &expected);
}

// identity#16, identity#19, hbone#7
#[test]
fn a_server_with_another_id_is_refused() {
    let ca = example();
    let other = "spiffe://example.org/ns/shop/sa/other";
    let config = || server(ca.svid(SERVER), ca.bundles(), anyone());
    for accepted in [[id(SERVER), id(other)], [id(other), id(SERVER)]] {
        let expected = ExpectedPeer::exact(accepted);
        handshake(client(ca.svid(CLIENT), ca.bundles(), expected), config()).established();
    }
    let done = handshake(client(ca.svid(CLIENT), ca.bundles(), exactly(other)), config());
    let expected = VerifyError::Unexpected { expected: exactly(other), presented: id(SERVER) };
    assert_eq!(done.server_refused_because(), &expected);
    assert_eq!(done.server_error(), &Error::AlertReceived(AlertDescription::CertificateUnknown));
}

// identity#17, hbone#8
#[test]
fn who_expects_nobody_connects_to_nobody() {
    let ca = example();
    let done = handshake(
        client(ca.svid(CLIENT), ca.bundles(), ExpectedPeer::exact([])),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    );
    assert!(matches!(done.server_refused_because(), VerifyError::Unexpected { .. }));
}

// identity#8, identity#9, identity#10, identity#11, identity#12
#[test]
fn a_client_certificate_that_breaks_a_rule_is_refused_by_that_rule() {
    let ca = example();
    let leaf = || ca.leaf(CLIENT);
    let of_leaf = |error| VerifyError::Leaf(error);
    for (leaf, expected) in [
        (leaf().uris([CLIENT, SERVER]), of_leaf(LeafError::SeveralUris { count: 2 })),
        (leaf().uris([]).dns_name("cart.example.org"), of_leaf(LeafError::NoUri)),
        (leaf().certificate_authority(), of_leaf(LeafError::CertificateAuthority)),
        (leaf().may_sign_certificates(), of_leaf(LeafError::SigningUsage)),
        (leaf().server_only(), VerifyError::Purpose { presented: id(CLIENT), role: Role::Client }),
    ] {
        let done = handshake(
            foreign_client(Some(&leaf.issue()), ca.bundles(), default_provider(), &[&TLS13]),
            server(ca.svid(SERVER), ca.bundles(), anyone()),
        );
        assert_eq!(done.client_refused_because(), &expected);
    }
    for (leaf, expired) in [(leaf().expired(), true), (leaf().not_yet_valid(), false)] {
        let done = handshake(
            foreign_client(Some(&leaf.issue()), ca.bundles(), default_provider(), &[&TLS13]),
            server(ca.svid(SERVER), ca.bundles(), anyone()),
        );
        match done.client_refused_because() {
            VerifyError::Expired { presented, .. } => assert!(expired && *presented == id(CLIENT)),
            VerifyError::NotYetValid { presented, .. } => assert!(!expired && *presented == id(CLIENT)),
            other => panic!("{other}"),
        }
    }
}

// identity#8, identity#11, identity#12
#[test]
fn a_server_certificate_that_breaks_a_rule_is_refused_by_that_rule() {
    let ca = example();
    let refused = |leaf: &mesh_identity::testing::Leaf| {
        let done = handshake(
            client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER)),
            foreign_server(leaf, ca.bundles(), default_provider(), &[&TLS13]),
        );
        done.server_refused_because().clone()
    };
    assert_eq!(
        refused(&ca.leaf(SERVER).uris([SERVER, CLIENT]).issue()),
        VerifyError::Leaf(LeafError::SeveralUris { count: 2 })
    );
    assert_eq!(
        refused(&ca.leaf(SERVER).client_only().issue()),
        VerifyError::Purpose { presented: id(SERVER), role: Role::Server }
    );
    assert!(matches!(refused(&ca.leaf(SERVER).expired().issue()), VerifyError::Expired { .. }));
}

// identity#13, hbone#13
#[test]
fn the_chain_is_sent_with_its_intermediates_and_without_its_root() {
    let root = example();
    let issuer = root.intermediate().intermediate();
    let leaf = issuer.leaf(SERVER).issue();
    let mut chain = leaf.chain();
    chain.push(root.root());
    let svid = mesh_identity::X509Svid::from_der(chain, leaf.key(), &provider()).unwrap();
    let (client, _server) = handshake(
        client(root.svid(CLIENT), root.bundles(), exactly(SERVER)),
        server(svid, root.bundles(), anyone()),
    )
    .established();
    let sent = client.peer_certificates().unwrap();
    assert_eq!(sent, leaf.chain());
    assert_eq!(sent.len(), 3);
    assert!(!sent.contains(&root.root()));
}

#[test]
fn every_usual_kind_of_key_connects_on_either_side() {
    let ca = example();
    let kinds = [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa];
    for (at_client, at_server) in
        kinds.iter().flat_map(|client| kinds.iter().map(move |server| (*client, *server)))
    {
        let svid = |id, algorithm| ca.leaf(id).algorithm(algorithm).issue().svid().unwrap();
        let (client, server) = handshake(
            client(svid(CLIENT, at_client), ca.bundles(), exactly(SERVER)),
            server(svid(SERVER, at_server), ca.bundles(), anyone()),
        )
        .established();
        assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(SERVER), "{at_server:?}");
        assert_eq!(PeerIdentity::from_connection(&server).unwrap().id(), &id(CLIENT), "{at_client:?}");
    }
}

// identity#5, identity#23
#[test]
fn an_own_id_of_another_shape_than_a_service_account_lets_nobody_else_in() {
    let (ours, theirs) = (example(), Authority::new("other.example"));
    let both = || TrustBundles::new([ours.bundle(), theirs.bundle()]);
    let (batch, stranger) = ("spiffe://example.org/batch/Job-7", "spiffe://other.example/ns/shop/sa/cart");
    let accepts = || server(ours.svid(batch), both(), anyone());
    handshake(client(ours.svid(CLIENT), both(), exactly(batch)), accepts()).established();

    let done = handshake(client(theirs.svid(stranger), both(), exactly(batch)), accepts());
    let expected = VerifyError::Unexpected { expected: anyone(), presented: id(stranger) };
    assert_eq!(done.client_refused_because(), &expected);
    let anonymous = foreign_client(None, both(), default_provider(), &[&TLS13]);
    assert_eq!(handshake(anonymous, accepts()).server_error(), &Error::NoCertificatesPresented);

    let connects = client(ours.svid(batch), both(), exactly(SERVER));
    let done = handshake(connects, server(theirs.svid(stranger), both(), anyone()));
    let expected = VerifyError::Unexpected { expected: exactly(SERVER), presented: id(stranger) };
    assert_eq!(done.server_refused_because(), &expected);
}

// RFC 8446 §4.4.2 would allow 16 MiB.
#[test]
fn certificates_of_more_than_64_kib_are_refused_unread() {
    let ca = example();
    let large = |issuer: &Authority| {
        issuer.intermediate_with(|params| {
            let filling = vec![0x04; 20 * 1024];
            let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], filling);
            params.custom_extensions.push(extension);
        })
    };
    let (three, four) = (large(&large(&large(&ca))), large(&large(&large(&large(&ca)))));
    let connect = |issuer: &Authority| {
        let leaf = issuer.leaf(CLIENT).issue();
        handshake(
            foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS13]),
            server(ca.svid(SERVER), ca.bundles(), anyone()),
        )
    };
    connect(&three).established();
    let why = InvalidMessage::HandshakePayloadTooLarge;
    assert_eq!(connect(&four).server_error(), &Error::InvalidMessage(why));
}

// hbone#1
#[test]
fn tls_1_2_is_refused_unless_it_is_asked_for() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).issue();
    let done = handshake(
        foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS12]),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    );
    let refused = |done: &Handshake| {
        let why = PeerIncompatible::Tls12NotOfferedOrEnabled;
        assert_eq!(done.server_error(), &Error::PeerIncompatible(why));
        assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::ProtocolVersion));
    };
    refused(&done);

    let done = handshake(
        client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER)),
        foreign_server(&ca.leaf(SERVER).issue(), ca.bundles(), default_provider(), &[&TLS12]),
    );
    refused(&done);
}

// hbone#2
#[test]
fn a_peer_without_aes_gcm_is_refused() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).issue();
    let mut chacha = default_provider();
    chacha.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let done = handshake(
        foreign_client(Some(&leaf), ca.bundles(), chacha, &[&TLS13]),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    );
    assert!(matches!(done.server_error(), Error::PeerIncompatible(_)), "{:?}", done.server_error());
}

// hbone#5
#[test]
fn a_client_may_offer_h2_or_nothing_but_not_something_else() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).issue();
    let offering = |protocols: &[&str]| {
        let mut client = foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS13]);
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        handshake(client, server(ca.svid(SERVER), ca.bundles(), anyone()))
    };
    assert_eq!(offering(&[]).established().1.alpn_protocol(), None);
    assert_eq!(offering(&["http/1.1", "h2"]).established().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(offering(&["http/1.1"]).server_error(), &Error::NoApplicationProtocol);
}

// hbone#4, hbone#5
#[test]
fn the_client_names_no_server_and_offers_h2() {
    let ca = example();
    let config = client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER));
    let mut connection = ClientConnection::new(config, mesh_identity::server_name()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(hello)).unwrap();
    let accepted = acceptor.accept().unwrap().expect("a whole client hello");
    let hello = accepted.client_hello();
    assert_eq!(hello.server_name(), None);
    assert_eq!(hello.alpn().unwrap().collect::<Vec<_>>(), [b"h2"]);
}

// hbone#10
#[test]
fn a_client_that_would_resume_makes_a_full_handshake() {
    let ca = example();
    let config = server(ca.svid(SERVER), ca.bundles(), anyone());
    let leaf = ca.leaf(CLIENT).issue();
    // rustls' default: sessions are kept and tried.
    let client = Arc::new(foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS13]));
    for _ in 0..3 {
        let (client, server) = handshake(client.clone(), config.clone()).established();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

// hbone#10
#[test]
fn our_client_never_resumes_though_the_server_would() {
    let ca = example();
    let mut server = foreign_server(&ca.leaf(SERVER).issue(), ca.bundles(), default_provider(), &[&TLS13]);
    server.session_storage = ServerSessionMemoryCache::new(8);
    let server = Arc::new(server);
    let client = client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER));
    for _ in 0..3 {
        let (client, server) = handshake(client.clone(), server.clone()).established();
        assert!(client.tls13_tickets_received() > 0);
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn the_hybrid_post_quantum_group_is_preferred() {
    let ca = example();
    let (client, server) = handshake(
        client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER)),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    )
    .established();
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
}

// hbone#89
#[test]
fn a_peer_limited_to_p256_connects_both_ways() {
    let ca = example();
    let mut p256 = default_provider();
    p256.kx_groups = vec![kx_group::SECP256R1];
    let leaf = ca.leaf(CLIENT).issue();
    let (_, at_server) = handshake(
        foreign_client(Some(&leaf), ca.bundles(), p256.clone(), &[&TLS13]),
        server(ca.svid(SERVER), ca.bundles(), anyone()),
    )
    .established();
    assert_eq!(at_server.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);

    let (at_client, _) = handshake(
        client(ca.svid(CLIENT), ca.bundles(), exactly(SERVER)),
        foreign_server(&ca.leaf(SERVER).issue(), ca.bundles(), p256, &[&TLS13]),
    )
    .established();
    assert_eq!(at_client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);
    assert_eq!(at_client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
}

fn live(store: &IdentityStore) -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
    let client = ClientConfigBuilder::new(provider())
        .identity(store.clone(), CertSelector::fixed(id(CLIENT)))
        .expect_peer(exactly(SERVER))
        .build()
        .expect("a complete provider");
    let server = ServerConfigBuilder::new(provider())
        .identity(store.clone(), CertSelector::fixed(id(SERVER)))
        .expect_peer(anyone())
        .build()
        .expect("a complete provider");
    (client, server)
}

// hbone#11, identity#65, identity#67
#[test]
fn a_replaced_store_gives_new_handshakes_the_new_certificates_and_roots() {
    let (old, new) = (example(), example());
    let store = old.store([CLIENT, SERVER]);
    let (client, server) = live(&store);
    let (first, _) = handshake(client.clone(), server.clone()).established();

    store.replace([new.svid(CLIENT), new.svid(SERVER)], new.bundles());
    let (second, _) = handshake(client.clone(), server.clone()).established();
    assert_ne!(first.peer_certificates(), second.peer_certificates());
    let served = store.try_svid(&id(SERVER)).unwrap();
    assert_eq!(second.peer_certificates().unwrap(), served.chain());

    // Under the new roots, the old certificate is worth nothing.
    store.replace([old.svid(CLIENT), new.svid(SERVER)], new.bundles());
    let done = handshake(client, server);
    assert!(matches!(done.client_refused_because(), VerifyError::Chain { .. }));
}

#[test]
fn the_server_name_that_a_client_sends_chooses_the_certificate() {
    let ca = example();
    let (other, rest) = ("spiffe://example.org/ns/shop/sa/other", "spiffe://example.org/ns/shop/sa/rest");
    let store = ca.store([SERVER, other, rest]);
    let names = || [("stock.example.org", id(SERVER)), ("other.example.org", id(other))];
    let choosing = |otherwise: Option<SpiffeId>| {
        ServerConfigBuilder::new(provider())
            .identity(store.clone(), CertSelector::by_server_name(names(), otherwise))
            .expect_peer(anyone())
            .build()
            .unwrap()
    };
    let leaf = ca.leaf(CLIENT).issue();
    let connect = |name: &'static str, server| {
        let client = foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS13]);
        handshake_with(name.try_into().unwrap(), client, server)
    };
    for (name, chosen) in [
        ("stock.example.org", SERVER),
        ("OTHER.example.org", other),
        ("unheard-of.example.org", rest),
        // An address is no server name, and is not sent.
        ("192.0.2.7", rest),
    ] {
        let (client, _) = connect(name, choosing(Some(id(rest)))).established();
        assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(chosen), "{name}");
    }
    for name in ["unheard-of.example.org", "192.0.2.7"] {
        let done = connect(name, choosing(None));
        assert_eq!(done.server_error(), &Error::General("no server certificate chain resolved".into()));
        assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::AccessDenied));
    }
}

#[test]
fn without_a_certificate_at_hand_a_handshake_fails() {
    let ca = example();
    let store = ca.store([CLIENT]);
    let (client, server) = live(&store);
    assert!(handshake(client.clone(), server.clone()).server.is_err());
    store.replace([ca.svid(SERVER)], ca.bundles());
    assert_eq!(handshake(client, server).server_error(), &Error::NoCertificatesPresented);
}
