//! Loading a chain with its private key.

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::{
    LeafError, PeerVerifier, Role, SvidError, X509Svid,
    testing::{
        Authority, KeyAlgorithm, provider,
        rcgen::{DistinguishedName, DnType},
    },
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use support::*;

fn example() -> Authority {
    Authority::new("example.org")
}

#[test]
fn tells_what_its_leaf_says() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let leaf = example().intermediate().leaf(CLIENT).valid(at(1_800_000_000), at(1_800_000_100)).issue();
    let svid = leaf.svid().unwrap();
    assert_eq!(svid.id(), &id(CLIENT));
    assert_eq!((svid.not_before(), svid.not_after()), (at(1_800_000_000), at(1_800_000_100)));
    assert_eq!(svid.chain(), leaf.chain());
    assert!(!svid.serial().is_empty() && svid.serial().bytes().all(|digit| digit.is_ascii_digit()));
}

#[test]
fn text_and_bytes_make_the_same_value() {
    let leaf = example().intermediate().leaf(CLIENT).issue();
    let pem = leaf.pem();
    let svid = X509Svid::from_pem(pem.chain().as_bytes(), pem.key().as_bytes(), &provider()).unwrap();
    assert_eq!(svid.serial(), leaf.svid().unwrap().serial());
    assert_eq!(svid.chain(), leaf.chain());
}

// identity#34
#[test]
fn a_key_of_another_leaf_is_refused() {
    let ca = example();
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa] {
        let (leaf, other) = (ca.leaf(CLIENT).issue(), ca.leaf(CLIENT).algorithm(algorithm).issue());
        let made = X509Svid::from_der(leaf.chain(), other.key(), &provider());
        assert!(matches!(made, Err(SvidError::KeyMismatch(_))), "{algorithm:?}");
    }
}

// identity#34
#[test]
fn every_unusable_input_has_its_own_error() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).issue();
    let pem = leaf.pem();
    let from_pem = |chain: &str, key: &str| X509Svid::from_pem(chain.as_bytes(), key.as_bytes(), &provider());

    assert!(matches!(from_pem("", pem.key()), Err(SvidError::NoCertificate)));
    let torn = pem.chain().replace("-----END CERTIFICATE-----", "");
    assert!(matches!(from_pem(&torn, pem.key()), Err(SvidError::ChainPem(_))));
    assert!(matches!(from_pem(pem.chain(), pem.chain()), Err(SvidError::KeyPem(_))));
    let pkcs1 = pem.key().replace("PRIVATE KEY", "RSA PRIVATE KEY");
    assert!(matches!(from_pem(pem.chain(), &pkcs1), Err(SvidError::KeyFormat)));

    let garbage = PrivatePkcs8KeyDer::from(vec![0x30, 0x00]);
    assert!(matches!(X509Svid::from_der(leaf.chain(), garbage, &provider()), Err(SvidError::Key(_))));
    let mut chain = leaf.chain();
    chain.push(CertificateDer::from(vec![0x30, 0x00]));
    let made = X509Svid::from_der(chain, leaf.key(), &provider());
    assert!(matches!(made, Err(SvidError::Intermediate { index: 0 })));

    let authority = ca.leaf(CLIENT).certificate_authority().issue().svid();
    assert!(matches!(authority, Err(SvidError::Leaf(LeafError::CertificateAuthority))));
}

// A peer that only has the old root of a pair of one name needs the certificate by which that vouches for the new one.
#[test]
fn roots_are_left_out_and_what_bears_their_name_is_not() {
    let (old, new) = (example(), example());
    let vouched = old.renew_with(&new, |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "root");
    });
    let leaf = vouched.leaf(CLIENT).issue();
    assert_eq!(leaf.chain().len(), 2);
    let chain = [leaf.chain(), vec![old.root()]].concat();
    let svid = X509Svid::from_der(chain, leaf.key(), &provider()).unwrap();
    assert_eq!(svid.chain(), leaf.chain());
    for ca in [&old, &new] {
        let verifier = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), anyone());
        let verified = verifier.verify(&svid.chain()[0], &svid.chain()[1..], Role::Client, SystemTime::now());
        assert_eq!(verified, Ok(id(CLIENT)));
    }
}

#[test]
fn a_chain_is_as_long_as_a_peer_takes_it() {
    let root = example();
    let mut issuer = root.intermediate();
    let verifier = PeerVerifier::new(&provider(), Arc::new(root.bundles()), anyone());
    for length in 1..=8 {
        let leaf = issuer.leaf(CLIENT).issue();
        let chain = leaf.chain();
        let taken = verifier.verify(&chain[0], &chain[1..], Role::Client, SystemTime::now());
        assert_eq!(taken.is_ok(), length <= X509Svid::MAX_INTERMEDIATES, "{length}");
        match leaf.svid() {
            Ok(svid) => assert_eq!(svid.chain().len(), length + 1),
            Err(SvidError::TooManyIntermediates) => assert!(length > X509Svid::MAX_INTERMEDIATES),
            Err(other) => panic!("{other}"),
        }
        issuer = issuer.intermediate();
    }
}

// identity#84
#[test]
fn the_private_key_is_not_printed() {
    let leaf = example().leaf(CLIENT).issue();
    let printed = format!("{:?}", leaf.svid().unwrap());
    let key = leaf.key();
    let bytes = format!("{:?}", key.secret_pkcs8_der());
    assert!(printed.contains(CLIENT) && !printed.contains(bytes.trim_matches(['[', ']'])), "{printed}");
}
