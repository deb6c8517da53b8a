//! Loading a chain with its private key.

mod support;

use std::time::{Duration, UNIX_EPOCH};

use mesh_identity::{
    LeafError, SvidError, X509Svid,
    testing::{Authority, KeyAlgorithm, provider},
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

// identity#84
#[test]
fn the_private_key_is_not_printed() {
    let leaf = example().leaf(CLIENT).issue();
    let printed = format!("{:?}", leaf.svid().unwrap());
    let key = leaf.key();
    let bytes = format!("{:?}", key.secret_pkcs8_der());
    assert!(printed.contains(CLIENT) && !printed.contains(bytes.trim_matches(['[', ']'])), "{printed}");
}
