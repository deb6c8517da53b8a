//! What settings change about connections: TLS 1.2, the key exchange, FIPS, clocks that differ.

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::{
    ChainFault, ConfigError, IdentityStore, KeyExchange, LeafError, PeerIdentity, ServerConfigBuilder,
    TlsConfigs, TlsSettings, TrustBundles, VerifyError,
    testing::{Authority, KeyAlgorithm, Leaf, provider},
};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, Error, HandshakeKind, NamedGroup, PeerIncompatible,
    ProtocolVersion, ServerConfig,
    client::Tls12Resumption,
    crypto::aws_lc_rs::{cipher_suite, kx_group},
    pki_types::UnixTime,
    server::ServerSessionMemoryCache,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use support::*;

fn example() -> Authority {
    Authority::new("example.org")
}

fn our_server(ca: &Authority, settings: TlsSettings) -> Arc<ServerConfig> {
    server_with(ca.svid(SERVER), ca.bundles(), anyone(), settings)
}

fn our_client(ca: &Authority, settings: TlsSettings) -> Arc<ClientConfig> {
    client_with(ca.svid(CLIENT), ca.bundles(), exactly(SERVER), settings)
}

fn old_client(ca: &Authority, leaf: Option<&Leaf>) -> ClientConfig {
    foreign_client(leaf, ca.bundles(), default_provider(), &[&TLS12])
}

fn old_server(ca: &Authority, leaf: &Leaf) -> ServerConfig {
    foreign_server(leaf, ca.bundles(), default_provider(), &[&TLS12])
}

fn with_tls12() -> TlsSettings {
    TlsSettings::default().allow_tls12()
}

#[test]
fn tls_1_2_is_spoken_with_those_who_have_nothing_better() {
    let ca = example();
    for (algorithm, suite) in [
        (KeyAlgorithm::P256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (KeyAlgorithm::Rsa, CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ] {
        let svid = ca.leaf(SERVER).algorithm(algorithm).issue().svid().unwrap();
        let mut at_client = old_client(&ca, Some(&ca.leaf(CLIENT).issue()));
        at_client.alpn_protocols = vec![b"h2".to_vec()];
        let ours = server_with(svid, ca.bundles(), anyone(), with_tls12());
        let (_, server) = handshake(at_client, ours).established();
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), suite);
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(PeerIdentity::from_connection(&server).unwrap().id(), &id(CLIENT));

        let leaf = ca.leaf(SERVER).algorithm(algorithm).issue();
        let (client, _) = handshake(our_client(&ca, with_tls12()), old_server(&ca, &leaf)).established();
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        assert_eq!(client.negotiated_cipher_suite().unwrap().suite(), suite);
        assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(SERVER));
    }
}

#[test]
fn two_that_have_both_speak_tls_1_3() {
    let ca = example();
    for (at_client, at_server) in [
        (with_tls12(), with_tls12()),
        (with_tls12(), TlsSettings::default()),
        (TlsSettings::default(), with_tls12()),
    ] {
        let (client, server) =
            handshake(our_client(&ca, at_client), our_server(&ca, at_server)).established();
        for version in [client.protocol_version(), server.protocol_version()] {
            assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        }
    }
}

// hbone#3, identity#8, identity#11, identity#12, policy#105
#[test]
fn every_rule_holds_in_tls_1_2() {
    let (ca, stranger) = (example(), Authority::new("other.example"));
    let done = handshake(old_client(&ca, None), our_server(&ca, with_tls12()));
    assert_eq!(done.server_error(), &Error::NoCertificatesPresented);

    let refused = |leaf: &Leaf| {
        let done = handshake(old_client(&ca, Some(leaf)), our_server(&ca, with_tls12()));
        done.client_refused_because().clone()
    };
    let two = VerifyError::Leaf(LeafError::SeveralUris { count: 2 });
    assert_eq!(refused(&ca.leaf(CLIENT).uris([CLIENT, SERVER]).issue()), two);
    assert!(matches!(refused(&ca.leaf(CLIENT).server_only().issue()), VerifyError::Purpose { .. }));
    assert!(matches!(refused(&ca.leaf(CLIENT).expired().issue()), VerifyError::Expired { .. }));
    assert!(matches!(refused(&stranger.leaf(CLIENT).issue()), VerifyError::Chain { .. }));

    let other = ca.leaf("spiffe://example.org/ns/shop/sa/other").issue();
    let done = handshake(our_client(&ca, with_tls12()), old_server(&ca, &other));
    assert!(matches!(done.server_refused_because(), VerifyError::Unexpected { .. }));
}

#[test]
fn tls_1_2_without_aes_gcm_is_refused() {
    let ca = example();
    let mut chacha = default_provider();
    chacha.cipher_suites = vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
    let leaf = ca.leaf(CLIENT).issue();
    let theirs = foreign_client(Some(&leaf), ca.bundles(), chacha, &[&TLS12]);
    let done = handshake(theirs, our_server(&ca, with_tls12()));
    let why = PeerIncompatible::NoCipherSuitesInCommon;
    assert_eq!(done.server_error(), &Error::PeerIncompatible(why));
    assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::HandshakeFailure));
}

// hbone#10
#[test]
fn no_session_of_tls_1_2_is_resumed() {
    let ca = example();
    let mut theirs = old_client(&ca, Some(&ca.leaf(CLIENT).issue()));
    theirs.resumption = theirs.resumption.tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    let (theirs, ours) = (Arc::new(theirs), our_server(&ca, with_tls12()));
    for _ in 0..3 {
        let (client, _) = handshake(theirs.clone(), ours.clone()).established();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
    let mut theirs = old_server(&ca, &ca.leaf(SERVER).issue());
    theirs.session_storage = ServerSessionMemoryCache::new(8);
    let (theirs, ours) = (Arc::new(theirs), our_client(&ca, with_tls12()));
    for _ in 0..3 {
        let (_, server) = handshake(ours.clone(), theirs.clone()).established();
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

fn hybrid_required() -> TlsSettings {
    TlsSettings::default().key_exchange(KeyExchange::RequireHybrid)
}

// hbone#9
#[test]
fn a_peer_without_the_hybrid_group_is_refused_where_it_is_required() {
    let ca = example();
    let mut classical = default_provider();
    classical.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    let leaf = ca.leaf(CLIENT).issue();
    let theirs = foreign_client(Some(&leaf), ca.bundles(), classical.clone(), &[&TLS13]);
    let done = handshake(theirs, our_server(&ca, hybrid_required()));
    let why = PeerIncompatible::NoKxGroupsInCommon;
    assert_eq!(done.server_error(), &Error::PeerIncompatible(why.clone()));
    assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::HandshakeFailure));

    let theirs = foreign_server(&ca.leaf(SERVER).issue(), ca.bundles(), classical, &[&TLS13]);
    let done = handshake(our_client(&ca, hybrid_required()), theirs);
    assert_eq!(done.server_error(), &Error::PeerIncompatible(why));
    assert_eq!(done.client_error(), &Error::AlertReceived(AlertDescription::HandshakeFailure));
}

#[test]
fn who_requires_the_hybrid_group_connects_with_who_prefers_it() {
    let ca = example();
    for (at_client, at_server) in [
        (hybrid_required(), hybrid_required()),
        (hybrid_required(), TlsSettings::default()),
        (TlsSettings::default(), hybrid_required()),
    ] {
        let (client, _) = handshake(our_client(&ca, at_client), our_server(&ca, at_server)).established();
        assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

// hbone#89
#[test]
fn a_client_that_bets_on_p256_is_asked_for_the_hybrid_share_where_that_is_required() {
    let ca = example();
    let mut p256_first = default_provider();
    p256_first.kx_groups = vec![kx_group::SECP256R1, kx_group::X25519MLKEM768];
    let leaf = ca.leaf(CLIENT).issue();
    // A new one each time: rustls' client remembers what a server asked it for.
    let theirs = || foreign_client(Some(&leaf), ca.bundles(), p256_first.clone(), &[&TLS13]);
    for (settings, group, kind) in [
        (hybrid_required(), NamedGroup::X25519MLKEM768, HandshakeKind::FullWithHelloRetryRequest),
        // rustls' servers take the first group of the client that they have.
        (TlsSettings::default(), NamedGroup::secp256r1, HandshakeKind::Full),
    ] {
        let (client, server) = handshake(theirs(), our_server(&ca, settings)).established();
        for (agreed, how) in [
            (client.negotiated_key_exchange_group(), client.handshake_kind()),
            (server.negotiated_key_exchange_group(), server.handshake_kind()),
        ] {
            assert_eq!(agreed.unwrap().name(), group);
            assert_eq!(how, Some(kind));
        }
    }
}

#[test]
fn fips_where_it_is_required_is_asked_of_the_callers_provider() {
    let ca = example();
    let settings = || TlsSettings::default().require_fips();
    let store = IdentityStore::new(ca.bundles());
    let built = ServerConfigBuilder::new(provider())
        .svid(Arc::new(ca.svid(SERVER)), Arc::new(ca.bundles()))
        .expect_peer(anyone())
        .settings(settings())
        .build();
    let kept = TlsConfigs::with_settings(Arc::new(store), &provider(), settings());
    if provider().fips() {
        assert!(built.unwrap().fips());
        assert!(kept.is_ok());
    } else {
        assert_eq!(built.unwrap_err(), ConfigError::NotFips);
        assert_eq!(kept.unwrap_err(), ConfigError::NotFips);
    }
}

#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

const NOON: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

// identity#12
#[test]
fn a_tolerance_for_clocks_is_exact_to_the_second_in_handshakes() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).valid(at(NOON), at(NOON + 100)).issue();
    let theirs = Arc::new(foreign_client(Some(&leaf), ca.bundles(), default_provider(), &[&TLS13]));
    let done = |skew, now| {
        let ours = ServerConfigBuilder::new(provider())
            .svid(Arc::new(ca.svid(SERVER)), Arc::new(ca.bundles()))
            .expect_peer(anyone())
            .settings(TlsSettings::default().clock_skew(Duration::from_secs(skew)))
            .time_provider(Arc::new(At(now)))
            .build()
            .unwrap();
        handshake(theirs.clone(), ours)
    };
    for (skew, first, last) in [(0, NOON, NOON + 100), (30, NOON - 30, NOON + 130)] {
        done(skew, first).established();
        done(skew, last).established();
        let starts_in = Duration::from_secs(skew + 1);
        let early = VerifyError::NotYetValid { presented: id(CLIENT), starts_in };
        assert_eq!(done(skew, first - 1).client_refused_because(), &early);
        let late = VerifyError::Expired { presented: id(CLIENT), ago: Duration::from_secs(skew + 1) };
        assert_eq!(done(skew, last + 1).client_refused_because(), &late);
    }
}

// identity#12
#[test]
fn a_tolerance_for_clocks_covers_issuers_as_well() {
    let ca = example();
    let issuer = |ca: &Authority, from: u64, to: u64| {
        ca.intermediate_with(|params| {
            params.not_before = at(from).into();
            params.not_after = at(to).into();
        })
    };
    // Each certificate of the chain is valid for another time: together from 40 to 60.
    let upper = issuer(&ca, NOON + 20, NOON + 60);
    let lower = issuer(&upper, NOON + 40, NOON + 80);
    let leaf = lower.leaf(CLIENT).valid(at(NOON), at(NOON + 100)).issue();
    let verify = |skew, now| verify(&ca, &leaf, skew, now);
    for (skew, first, last) in [(0, 40, 60), (10, 30, 70), (30, 10, 90), (45, 0, 105)] {
        assert_eq!(verify(skew, NOON + first), Ok(()), "{skew}");
        assert_eq!(verify(skew, NOON + last), Ok(()), "{skew}");
    }
    for (skew, first, last) in [(0, 40, 60), (10, 30, 70), (30, 10, 90)] {
        let fault = |now| match verify(skew, now).unwrap_err() {
            VerifyError::Chain { source, .. } => source.fault(),
            other => panic!("{other}"),
        };
        assert_eq!(fault(NOON + first - 1), ChainFault::NotYetValid, "{skew}");
        assert_eq!(fault(NOON + last + 1), ChainFault::Expired, "{skew}");
    }
    // Clocks may differ, but there is no time at which this chain was valid.
    let never = issuer(&ca, NOON, NOON + 10).leaf(CLIENT).valid(at(NOON + 20), at(NOON + 100)).issue();
    assert!(matches!(self::verify(&ca, &never, 60, NOON + 15), Err(VerifyError::Chain { .. })));
}

fn verify(ca: &Authority, leaf: &Leaf, skew: u64, now: u64) -> Result<(), VerifyError> {
    use mesh_identity::{PeerVerifier, Role};
    let bundles: Arc<TrustBundles> = Arc::new(ca.bundles());
    let verifier = PeerVerifier::new(&provider(), bundles, anyone()).clock_skew(Duration::from_secs(skew));
    let chain = leaf.chain();
    let (leaf, intermediates) = chain.split_first().expect("a leaf");
    verifier.verify(leaf, intermediates, Role::Client, at(now)).map(drop)
}
