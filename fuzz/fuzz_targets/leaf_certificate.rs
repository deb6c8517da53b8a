//! A certificate from a peer: whatever it says, the authority did not issue it, so nobody is accepted by it; and the reader
//! of usual certificates takes nothing that the general one refuses or reads differently.
#![no_main]

use std::{
    slice,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libfuzzer_sys::fuzz_target;
use mesh_identity::{
    ExpectedPeer, PeerVerifier, Role,
    testing::{Authority, provider},
};
use rustls::pki_types::CertificateDer;

/// Its authority is of this process, and its key gone.
static VERIFIER: LazyLock<PeerVerifier> = LazyLock::new(|| {
    let anyone = ExpectedPeer::trust_domain("example.org".parse().expect("a trust domain"));
    PeerVerifier::new(&provider(), Arc::new(Authority::new("example.org").bundles()), anyone)
});

/// In the validity of the stored certificates, so that time is not what they fail by.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[cfg(fuzzing)]
use mesh_identity::fuzzing::leaf_certificate as fuzz_leaf_certificate;

/// Without a fuzzer the crate does not show its readers.
#[cfg(not(fuzzing))]
fn fuzz_leaf_certificate(_: &[u8]) {}

fuzz_target!(|der: &[u8]| {
    fuzz_leaf_certificate(der);
    let leaf = CertificateDer::from(der);
    for role in [Role::Client, Role::Server] {
        for intermediates in [&[], slice::from_ref(&leaf)] {
            let error = VERIFIER.verify(&leaf, intermediates, role, now()).expect_err("nobody issued it");
            assert!(!error.to_string().is_empty());
        }
    }
});
