//! Certificates that peers might send, good and bad, and what comes of each: `tests/certificates/manifest`.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use mesh_identity::{
    ChainFault, ExpectedPeer, LeafError, PeerVerifier, Place, Role, TrustBundle, TrustBundles, VerifyError,
    testing::provider,
};
use rustls::pki_types::CertificateDer;

// identity#8, identity#9, identity#10, identity#11, identity#12, identity#13, identity#14, identity#15, identity#20,
// identity#21
#[test]
fn what_comes_of_each_certificate_is_what_the_manifest_says() {
    let verifier = verifier();
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let manifest = fs::read_to_string(file("manifest")).unwrap();
    let (mut cases, mut wrong) = (0, Vec::new());
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let [name, role, expected] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let chain = chain(name);
        let (leaf, intermediates) = chain.split_first().unwrap();
        let roles: &[Role] = match role {
            "client" => &[Role::Client],
            "server" => &[Role::Server],
            "both" => &[Role::Client, Role::Server],
            other => panic!("{other}"),
        };
        for role in roles {
            let outcome = outcome(verifier.verify(leaf, intermediates, *role, now).map(drop));
            if outcome != expected {
                wrong.push(format!("{name} as {role}: {outcome} instead of {expected}"));
            }
            cases += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 150, "only {cases} cases");
}

fn verifier() -> PeerVerifier {
    let [ours, federated, alias] =
        ["example.org", "federated.example", "alias.example"].map(|name| name.parse().unwrap());
    let bundle = |name: &str, trust_domain| TrustBundle::from_der(trust_domain, chain(name)).unwrap();
    let bundles = TrustBundles::new([
        bundle("root", Clone::clone(&ours)),
        bundle("root-federated", Clone::clone(&federated)),
    ])
    .alias(Clone::clone(&alias), &ours);
    let expected = ExpectedPeer::trust_domains([ours, federated, alias]);
    PeerVerifier::new(&provider(), Arc::new(bundles), expected)
}

fn outcome(verified: Result<(), VerifyError>) -> String {
    match verified {
        Ok(()) => "accepted".into(),
        Err(VerifyError::Chain { source, .. }) => {
            let fault = match source.fault() {
                ChainFault::CriticalExtension => "critical extension",
                ChainFault::Expired => "expired",
                ChainFault::Malformed => "malformed",
                ChainFault::NameConstraint => "name constraint",
                ChainFault::NotAuthority => "not authority",
                ChainFault::NotForSigning => "not for signing",
                ChainFault::NotYetValid => "not yet valid",
                ChainFault::PathLength => "path length",
                ChainFault::Signature => "signature",
                ChainFault::TooComplex => "too complex",
                ChainFault::UnknownIssuer => "unknown issuer",
                ChainFault::UnsupportedAlgorithm => "unsupported algorithm",
                ChainFault::UriNameConstraint => "uri name constraint",
                _ => "?",
            };
            let place = match source.certificate().map(|certificate| certificate.place()) {
                Some(Place::Leaf) => "leaf".to_owned(),
                Some(Place::Intermediate(index)) => format!("intermediate {index}"),
                Some(Place::Root(index)) => format!("root {index}"),
                None => "?".into(),
            };
            format!("chain: {fault}, {place}")
        }
        Err(VerifyError::Leaf(error)) => {
            let rule = match error {
                LeafError::CertificateAuthority => "certificate authority",
                LeafError::Id(_) => "id",
                LeafError::Malformed => "malformed",
                LeafError::NoDigitalSignature => "no digital signature",
                LeafError::NoPath { .. } => "no path",
                LeafError::NoUri => "no uri",
                LeafError::SeveralUris { .. } => "several uris",
                LeafError::SigningUsage => "signing usage",
                _ => "?",
            };
            format!("leaf: {rule}")
        }
        Err(VerifyError::Expired { .. }) => "expired".into(),
        Err(VerifyError::NotYetValid { .. }) => "not yet valid".into(),
        Err(VerifyError::Purpose { .. }) => "purpose".into(),
        Err(VerifyError::TooManyCertificates { .. }) => "too many certificates".into(),
        Err(VerifyError::Unexpected { .. }) => "unexpected".into(),
        Err(VerifyError::UnknownTrustDomain { .. }) => "unknown trust domain".into(),
        Err(other) => other.to_string(),
    }
}

/// The certificates of a file: concatenated DER, or bytes that are taken for one.
fn chain(name: &str) -> Vec<CertificateDer<'static>> {
    if let Ok(bytes) = fs::read(file(&format!("{name}.bin"))) {
        return vec![bytes.into()];
    }
    let bytes = fs::read(file(&format!("{name}.der"))).unwrap();
    let (mut chain, mut rest) = (Vec::new(), bytes.as_slice());
    while !rest.is_empty() {
        let (certificate, after) = rest.split_at(length(rest));
        chain.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    chain
}

/// How many bytes the first DER value takes.
fn length(der: &[u8]) -> usize {
    let short = usize::from(der[1]);
    if short < 0x80 {
        return 2 + short;
    }
    let bytes = &der[2..2 + (short & 0x7f)];
    2 + bytes.len() + bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}
