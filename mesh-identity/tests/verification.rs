//! The rules for a peer's certificate chain, one by one.

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::{
    ChainFault, LeafError, PeerVerifier, Place, Role, SpiffeIdError, TrustBundles, TrustDomainError,
    VerifyError,
    testing::{
        Authority, Leaf, provider,
        rcgen::{CertificateParams, CustomExtension},
    },
};
use rustls::pki_types::CertificateDer;
use support::*;

fn verify_at(ca: &Authority, leaf: &Leaf, role: Role, now: SystemTime) -> Result<(), VerifyError> {
    let verifier = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), anyone());
    let chain = leaf.chain();
    let (leaf, intermediates) = chain.split_first().expect("a leaf");
    verifier.verify(leaf, intermediates, role, now).map(drop)
}

fn verify(ca: &Authority, leaf: &Leaf, role: Role) -> Result<(), VerifyError> {
    verify_at(ca, leaf, role, SystemTime::now())
}

fn example() -> Authority {
    Authority::new("example.org")
}

// identity#8, identity#9, identity#10, policy#105
#[test]
fn a_leaf_that_is_no_svid_names_the_broken_rule() {
    let ca = example();
    let leaf = || ca.leaf(CLIENT);
    for (leaf, expected) in [
        (leaf().uris([CLIENT, SERVER]), LeafError::SeveralUris { count: 2 }),
        // The same id twice is still two names.
        (leaf().uris([CLIENT, CLIENT]), LeafError::SeveralUris { count: 2 }),
        (leaf().uris([CLIENT, "https://example.org"]), LeafError::SeveralUris { count: 2 }),
        (leaf().uris([]), LeafError::NoUri),
        (leaf().uris([]).dns_name("cart.example.org"), LeafError::NoUri),
        (leaf().uris(["https://example.org/a"]), LeafError::Id(SpiffeIdError::Scheme)),
        (
            leaf().uris(["spiffe://example.org/ns/shop\0/sa/cart"]),
            LeafError::Id(SpiffeIdError::Character { character: '\0', position: 28 }),
        ),
        (
            leaf().uris(["spiffe://Example.org/a"]),
            LeafError::Id(SpiffeIdError::TrustDomain(TrustDomainError::Character {
                character: 'E',
                position: 0,
            })),
        ),
        (
            leaf().uris(["spiffe://example.org"]),
            LeafError::NoPath { trust_domain: "example.org".parse().unwrap() },
        ),
        (leaf().certificate_authority(), LeafError::CertificateAuthority),
        (leaf().may_sign_certificates(), LeafError::SigningUsage),
        (leaf().may_sign_revocation_lists(), LeafError::SigningUsage),
        (leaf().without_digital_signature(), LeafError::NoDigitalSignature),
        (leaf().without_key_usage(), LeafError::NoDigitalSignature),
    ] {
        let leaf = leaf.issue();
        assert_eq!(verify(&ca, &leaf, Role::Client).unwrap_err(), VerifyError::Leaf(expected.clone()));
        assert_eq!(verify(&ca, &leaf, Role::Server).unwrap_err(), VerifyError::Leaf(expected));
    }
}

#[test]
fn bytes_that_are_no_certificate_are_malformed() {
    let ca = example();
    let verifier = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), anyone());
    let good = ca.leaf(CLIENT).issue().chain().remove(0);
    let longer = CertificateDer::from([good.as_ref(), &[0]].concat());
    let shorter = CertificateDer::from(good[..good.len() - 1].to_vec());
    for der in [CertificateDer::from(Vec::new()), longer, shorter] {
        let refused = verifier.verify(&der, &[], Role::Client, SystemTime::now());
        assert_eq!(refused.unwrap_err(), VerifyError::Leaf(LeafError::Malformed));
    }
}

// identity#11
#[test]
fn a_leaf_serves_the_roles_its_purposes_name() {
    let ca = example();
    for (leaf, client, server) in [
        (ca.leaf(CLIENT), true, true),
        (ca.leaf(CLIENT).without_purpose(), true, true),
        (ca.leaf(CLIENT).client_only(), true, false),
        (ca.leaf(CLIENT).server_only(), false, true),
    ] {
        let leaf = leaf.issue();
        for (role, permitted) in [(Role::Client, client), (Role::Server, server)] {
            match verify(&ca, &leaf, role) {
                Ok(()) => assert!(permitted),
                Err(error) => {
                    assert!(!permitted);
                    assert_eq!(error, VerifyError::Purpose { presented: id(CLIENT), role });
                }
            }
        }
    }
}

// identity#12
#[test]
fn the_first_and_the_last_second_are_within_the_validity() {
    let ca = example();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let leaf = ca.leaf(CLIENT).valid(at(1_800_000_000), at(1_800_000_100)).issue();
    let verify = |seconds| verify_at(&ca, &leaf, Role::Client, at(seconds));
    let (presented, second) = (id(CLIENT), Duration::from_secs(1));
    assert_eq!(
        verify(1_799_999_999).unwrap_err(),
        VerifyError::NotYetValid { presented: presented.clone(), starts_in: second }
    );
    assert_eq!(verify(1_800_000_000), Ok(()));
    assert_eq!(verify(1_800_000_100), Ok(()));
    assert_eq!(verify(1_800_000_101).unwrap_err(), VerifyError::Expired { presented, ago: second });
}

// identity#13
#[test]
fn chains_of_up_to_three_intermediates_verify_and_none_may_be_missing() {
    let root = example();
    let mut issuer = root.intermediate();
    for _ in 0..3 {
        assert_eq!(verify(&root, &issuer.leaf(CLIENT).issue(), Role::Client), Ok(()));
        let torn = issuer.leaf(CLIENT).without_intermediates().issue();
        match verify(&root, &torn, Role::Client).unwrap_err() {
            VerifyError::Chain { presented, source } => {
                assert_eq!(presented, id(CLIENT));
                assert_eq!(source.fault(), ChainFault::UnknownIssuer, "{source}");
            }
            other => panic!("{other}"),
        }
        issuer = issuer.intermediate();
    }
}

// identity#14
#[test]
fn host_names_beside_the_one_uri_are_ignored() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).dns_name("cart.example.org").dns_name("*.example.org").issue();
    assert_eq!(verify(&ca, &leaf, Role::Client), Ok(()));
}

// identity#15
#[test]
fn unrelated_certificates_in_the_chain_do_no_harm() {
    let ca = example();
    let verifier = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), anyone());
    let mut chain = ca.intermediate().leaf(CLIENT).issue().chain();
    chain.insert(1, Authority::new("other.example").root());
    chain.push(ca.leaf(SERVER).issue().chain().remove(0));
    assert_eq!(verifier.verify(&chain[0], &chain[1..], Role::Client, SystemTime::now()), Ok(id(CLIENT)));
}

#[test]
fn a_critical_extension_that_nobody_understands_is_found_wherever_it_is() {
    let ca = example();
    let strange = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    let (lower, upper) =
        (ca.intermediate().intermediate_with(strange), ca.intermediate_with(strange).intermediate());
    for (leaf, place) in [
        (ca.leaf(CLIENT).customize(strange).issue(), Place::Leaf),
        (lower.leaf(CLIENT).issue(), Place::Intermediate(0)),
        (upper.leaf(CLIENT).issue(), Place::Intermediate(1)),
    ] {
        let VerifyError::Chain { source, .. } = verify(&ca, &leaf, Role::Client).unwrap_err() else {
            panic!()
        };
        assert_eq!(source.fault(), ChainFault::CriticalExtension);
        assert_eq!(source.certificate().unwrap().place(), place);
    }
}

// identity#66
#[test]
fn old_and_new_roots_count_side_by_side() {
    let (old, new) = (example(), example());
    let both = Arc::new(TrustBundles::new([old.bundle(), new.bundle()]));
    let verifier = PeerVerifier::new(&provider(), both, anyone());
    for ca in [&old, &new] {
        let leaf = ca.leaf(CLIENT).issue().chain().remove(0);
        assert_eq!(verifier.verify(&leaf, &[], Role::Client, SystemTime::now()), Ok(id(CLIENT)));
    }
}

// identity#5
#[test]
fn ids_of_another_shape_than_a_service_account_verify() {
    let ca = example();
    let leaf = ca.leaf("spiffe://example.org/batch/Job-7").issue();
    assert_eq!(verify(&ca, &leaf, Role::Client), Ok(()));
}
