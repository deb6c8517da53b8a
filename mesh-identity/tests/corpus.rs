//! What fuzzing has found worth keeping still passes: the properties of `fuzz/fuzz_targets/`, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    path::Path,
    slice,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use mesh_identity::{
    ExpectedPeer, PeerVerifier, Role, SpiffeId,
    testing::{Authority, provider},
};
use rustls::pki_types::CertificateDer;

/// Calls `check` with each stored input of a target.
fn replay(target: &str, check: impl Fn(&[u8])) {
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
fn leaf_certificate() {
    let anyone = ExpectedPeer::trust_domain("example.org".parse().unwrap());
    let verifier = PeerVerifier::new(&provider(), Arc::new(Authority::new("example.org").bundles()), anyone);
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    replay("leaf_certificate", |der| {
        let leaf = CertificateDer::from(der);
        for role in [Role::Client, Role::Server] {
            for intermediates in [&[], slice::from_ref(&leaf)] {
                let error = verifier.verify(&leaf, intermediates, role, now).unwrap_err();
                assert!(!error.to_string().is_empty());
            }
        }
    });
}

#[test]
fn spiffe_id() {
    replay("spiffe_id", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    });
}
