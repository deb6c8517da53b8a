//! What peers, certificate authorities and agents send, for fuzzing and for the replay of what it found.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, UNIX_EPOCH},
};

use prost::Message;
use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;

use crate::{
    ca::{accept_istio, read_agent},
    leaf::Leaf,
    proto::{istio::IstioCertificateResponse, spiffe::X509svidResponse},
    testing::provider,
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(provider);
/// Whose key it is not.
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| KeyPair::generate().expect("a key").serialize_der());

/// An answer of Istio's authority: as nobody signed our key, it is refused with an error that says something.
pub fn istio_answer(bytes: &[u8]) {
    let Ok(answer) = IstioCertificateResponse::decode(bytes) else { return };
    let id = "spiffe://example.org/ns/shop/sa/cart".parse().expect("an id");
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let error =
        accept_istio(&answer.cert_chain, KEY.clone().into(), &id, now, &PROVIDER).expect_err("not ours");
    assert!(!error.to_string().is_empty());
}

/// A certificate of a peer, and the bytes as each part of one that is in order otherwise, whose lengths no fuzzer guesses:
/// what the quick reader takes, the general one reads the same.
pub fn leaf_certificate(bytes: &[u8]) {
    Leaf::is_read_quickly(bytes);
    for part in Part::ALL {
        Leaf::is_read_quickly(&certificate(part, bytes));
    }
}

/// A message of an agent: of each SVID either an identity is taken or is told why not, and what else is told is about a
/// bundle or the revocation lists.
pub fn agent_message(bytes: &[u8]) {
    let Ok(message) = X509svidResponse::decode(bytes) else { return };
    let svids = message.svids.len();
    let most = 2 * svids + message.federated_bundles.len() + 1;
    let (ids, flaws) = read_agent(message, &PROVIDER);
    assert!(ids.iter().all(|id| !id.path().is_empty()) && flaws.iter().all(|flaw| !flaw.is_empty()));
    assert!((svids..=most).contains(&(ids.len() + flaws.len())), "{svids} svids: {ids:?}, {flaws:?}");
}

/// What can be replaced in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Version,
    Serial,
    Algorithm,
    Issuer,
    Validity,
    Key,
    /// After the key.
    Rest,
    Extensions,
    AlternativeNames,
    KeyUsage,
    ExtendedKeyUsage,
    BasicConstraints,
    AuthorityKey,
}

impl Part {
    const ALL: [Self; 13] = [
        Self::Version,
        Self::Serial,
        Self::Algorithm,
        Self::Issuer,
        Self::Validity,
        Self::Key,
        Self::Rest,
        Self::Extensions,
        Self::AlternativeNames,
        Self::KeyUsage,
        Self::ExtendedKeyUsage,
        Self::BasicConstraints,
        Self::AuthorityKey,
    ];
}

/// A leaf as meshes issue them, of which one part is `bytes`.
fn certificate(replaced: Part, bytes: &[u8]) -> Vec<u8> {
    let part = |part, usual: &[u8]| if part == replaced { bytes.to_vec() } else { usual.to_vec() };
    let extension = |number, value: &[u8]| {
        der(SEQUENCE, &[&[0x06, 3, 0x55, 0x1d, number], &*der(OCTET_STRING, value)].concat())
    };
    let name = der(0x86, b"spiffe://example.org/ns/shop/sa/cart");
    let extensions = [
        extension(15, &part(Part::KeyUsage, &[0x03, 2, 7, 0x80])),
        extension(17, &der(SEQUENCE, &part(Part::AlternativeNames, &name))),
        extension(19, &part(Part::BasicConstraints, &[SEQUENCE, 0])),
        extension(35, &part(Part::AuthorityKey, &[SEQUENCE, 3, 0x80, 1, 7])),
        extension(37, &der(SEQUENCE, &part(Part::ExtendedKeyUsage, SERVER_AUTH))),
    ];
    let algorithm = der(SEQUENCE, &part(Part::Algorithm, ECDSA_WITH_SHA256));
    let rest = der(0xa3, &der(SEQUENCE, &part(Part::Extensions, &extensions.concat())));
    let signed = [
        der(0xa0, &part(Part::Version, &[0x02, 1, 2])),
        der(0x02, &part(Part::Serial, &[0x51])),
        algorithm.clone(),
        der(SEQUENCE, &part(Part::Issuer, ISSUER)),
        der(SEQUENCE, &part(Part::Validity, b"\x17\x0d260101000000Z\x18\x0f20510101000000Z")),
        der(SEQUENCE, &[]),
        der(SEQUENCE, &part(Part::Key, &[&der(SEQUENCE, ECDSA_WITH_SHA256), &*der(0x03, &[0, 4])].concat())),
        part(Part::Rest, &rest),
    ];
    der(SEQUENCE, &[der(SEQUENCE, &signed.concat()), algorithm, der(0x03, &[0, 1, 2, 3])].concat())
}

/// A value with its length in as few bytes as possible (X.690 §10.1).
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [.., third, second, first] = contents.len().to_be_bytes();
    let length = match (third, second) {
        (0, 0) if first < 0x80 => vec![first],
        (0, 0) => vec![0x81, first],
        (0, _) => vec![0x82, second, first],
        _ => vec![0x83, third, second, first],
    };
    [&[tag], &*length, contents].concat()
}

const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// 1.2.840.10045.4.3.2, 1.3.6.1.5.5.7.3.1, and 2.5.4.10 of a name.
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const SERVER_AUTH: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
const ISSUER: &[u8] = b"\x31\x0a\x30\x08\x06\x03\x55\x04\x0a\x0c\x01m";

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn replay(target: &str, check: fn(&[u8])) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        if !fuzz.exists() {
            // A published crate comes without it.
            return;
        }
        let inputs: Vec<_> = fs::read_dir(fuzz.join("corpus").join(target)).unwrap().collect();
        assert!(!inputs.is_empty(), "{target}");
        for input in inputs {
            check(&fs::read(input.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn stored_answers_pass() {
        replay("istio_answer", istio_answer);
    }

    #[test]
    fn stored_certificates_pass() {
        replay("leaf_certificate", leaf_certificate);
    }

    #[test]
    fn parts_are_of_a_certificate_that_is_in_order() {
        assert!(!Leaf::is_read_quickly(&certificate(Part::Rest, &[])));
        for (part, usual) in [
            (Part::Version, [0x02, 1, 2].as_slice()),
            (Part::Issuer, ISSUER),
            (Part::ExtendedKeyUsage, SERVER_AUTH),
            (Part::BasicConstraints, &[SEQUENCE, 0]),
        ] {
            assert!(Leaf::is_read_quickly(&certificate(part, usual)), "{part:?}");
            assert!(!Leaf::is_read_quickly(&certificate(part, b"?")), "{part:?}");
        }
    }

    #[test]
    fn stored_messages_pass() {
        replay("agent_message", agent_message);
    }
}
