//! Certificates that OpenSSL makes are accepted and refused as the rules say.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_identity::{
    ChainFault, LeafError, PeerVerifier, Place, Role, SpiffeIdError, SvidError, VerifyError,
    testing::provider,
};

use crate::{
    CART, STOCK, anyone,
    command::{Key, OpenSsl, workload_extensions},
    id,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn verify(
    openssl: &OpenSsl,
    root: &str,
    names: &[&str],
    role: Role,
    now: SystemTime,
) -> Result<(), VerifyError> {
    let verifier = PeerVerifier::new(&provider(), Arc::new(openssl.bundles(root)), anyone());
    let chain = openssl.chain(names);
    verifier.verify(&chain[0], &chain[1..], role, now).map(drop)
}

fn both(openssl: &OpenSsl, names: &[&str]) -> Result<(), VerifyError> {
    let [client, server] =
        [Role::Client, Role::Server].map(|role| verify(openssl, "root", names, role, SystemTime::now()));
    assert_eq!(client, server);
    client
}

#[track_caller]
fn assert_fault(verified: Result<(), VerifyError>, fault: ChainFault, place: Place) {
    let Err(VerifyError::Chain { source, presented }) = verified else { panic!("{verified:?}") };
    assert_eq!(presented, id(CART));
    assert_eq!((source.fault(), source.certificate().map(|it| it.place())), (fault, Some(place)), "{source}");
}

// identity#5, identity#14
#[test]
fn every_usual_kind_of_key_is_accepted() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::Rsa(2048));
    for (name, kind) in
        [("p256", Key::P256), ("p384", Key::P384), ("rsa", Key::Rsa(2048)), ("ed25519", Key::Ed25519)]
    {
        openssl.key(name, kind);
        let names = workload_extensions(CART).replace("URI:", "DNS:cart.example.org,IP:192.0.2.7,URI:");
        openssl.certificate(name, "root", "/CN=cart", &names, "");
        assert_eq!(both(&openssl, &[name]), Ok(()), "{name}");
        let svid = openssl.svid(&[name]).unwrap();
        assert_eq!(svid.id(), &id(CART));
        assert_eq!(svid.not_after(), svid.not_before() + DAY);
    }
    for (root, kind) in [("root-p256", Key::P256), ("root-p384", Key::P384), ("root-ed25519", Key::Ed25519)] {
        openssl.root(root, kind);
        openssl.workload("leaf", root, CART);
        assert_eq!(verify(&openssl, root, &["leaf"], Role::Client, SystemTime::now()), Ok(()), "{root}");
        assert_fault(both(&openssl, &["leaf"]), ChainFault::UnknownIssuer, Place::Leaf);
    }
}

// identity#2, identity#8, identity#9, identity#10
#[test]
fn a_leaf_that_breaks_a_rule_is_refused_by_that_rule() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::P256);
    openssl.key("leaf", Key::P256);
    let good = workload_extensions(CART);
    let two = format!("URI:{CART},URI:{STOCK}");
    let character = SpiffeIdError::Character { character: '%', position: 31 };
    for (extensions, expected) in [
        (good.replace(&format!("URI:{CART}"), &two), LeafError::SeveralUris { count: 2 }),
        (good.replace(&format!("URI:{CART}"), "DNS:cart.example.org"), LeafError::NoUri),
        (good.replace("CA:FALSE", "CA:TRUE"), LeafError::CertificateAuthority),
        (good.replace("digitalSignature", "digitalSignature,keyCertSign"), LeafError::SigningUsage),
        (good.replace("digitalSignature", "digitalSignature,cRLSign"), LeafError::SigningUsage),
        (good.replace("digitalSignature", "keyEncipherment"), LeafError::NoDigitalSignature),
        (good.replace("keyUsage=critical,digitalSignature\n", ""), LeafError::NoDigitalSignature),
        (good.replace("spiffe://", "https://"), LeafError::Id(SpiffeIdError::Scheme)),
        (good.replace("shop/sa/cart", "shop/sa%2fcart"), LeafError::Id(character)),
    ] {
        openssl.certificate("leaf", "root", "/", &extensions, "");
        assert_eq!(both(&openssl, &["leaf"]), Err(VerifyError::Leaf(expected.clone())), "{extensions}");
        match openssl.svid(&["leaf"]) {
            Err(SvidError::Leaf(error)) => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }
}

// identity#11, identity#12
#[test]
fn a_leaf_is_good_for_its_roles_and_its_time() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::P256);
    openssl.key("leaf", Key::P256);
    for (usages, client, server) in [
        ("serverAuth,clientAuth", true, true),
        ("clientAuth", true, false),
        ("serverAuth", false, true),
        ("codeSigning", false, false),
    ] {
        let extensions = workload_extensions(CART).replace("serverAuth,clientAuth", usages);
        openssl.certificate("leaf", "root", "/", &extensions, "");
        for (role, permitted) in [(Role::Client, client), (Role::Server, server)] {
            let refused = VerifyError::Purpose { presented: id(CART), role };
            let expected = if permitted { Ok(()) } else { Err(refused) };
            assert_eq!(verify(&openssl, "root", &["leaf"], role, SystemTime::now()), expected, "{usages}");
        }
    }
    openssl.workload("leaf", "root", CART);
    let now = SystemTime::now();
    let at = |now| verify(&openssl, "root", &["leaf"], Role::Client, now);
    assert_eq!(at(now), Ok(()));
    assert!(
        matches!(at(now + 2 * DAY), Err(VerifyError::Expired { presented, .. }) if presented == id(CART))
    );
    assert!(
        matches!(at(now - DAY), Err(VerifyError::NotYetValid { presented, .. }) if presented == id(CART))
    );
}

const ISSUER: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";

// identity#13
#[test]
fn intermediates_lead_to_the_root_if_they_may() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::P256);
    openssl.key("issuer", Key::P384);
    let cases = [
        (ISSUER.to_owned(), None),
        (ISSUER.replace("CA:TRUE", "CA:TRUE,pathlen:0"), None),
        (format!("{ISSUER}nameConstraints=critical,permitted;DNS:example.org\n"), None),
        (
            format!("{ISSUER}nameConstraints=critical,permitted;URI:example.org\n"),
            Some(ChainFault::UriNameConstraint),
        ),
        (
            format!("{ISSUER}nameConstraints=critical,excluded;URI:other.example\n"),
            Some(ChainFault::UriNameConstraint),
        ),
        (ISSUER.replace("CA:TRUE", "CA:FALSE"), Some(ChainFault::NotAuthority)),
        (ISSUER.replace("keyCertSign,cRLSign", "cRLSign"), Some(ChainFault::NotForSigning)),
        (format!("{ISSUER}1.3.6.1.4.1.99999.1=critical,DER:0500\n"), Some(ChainFault::CriticalExtension)),
    ];
    for (extensions, fault) in cases {
        openssl.certificate("issuer", "root", "/O=example.org/CN=issuer", &extensions, "");
        openssl.workload("leaf", "issuer", CART);
        let verified = both(&openssl, &["leaf", "issuer"]);
        match fault {
            None => {
                assert_eq!(verified, Ok(()), "{extensions}");
                assert_eq!(openssl.svid(&["leaf", "issuer", "root"]).unwrap().chain().len(), 2);
                assert_fault(both(&openssl, &["leaf"]), ChainFault::UnknownIssuer, Place::Leaf);
            }
            Some(fault) => assert_fault(verified, fault, Place::Intermediate(0)),
        }
    }
}

#[test]
fn weak_signatures_are_refused_by_name() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::Rsa(2048));
    openssl.key("leaf", Key::P256);
    openssl.certificate("leaf", "root", "/", &workload_extensions(CART), " -sha1");
    assert_fault(both(&openssl, &["leaf"]), ChainFault::UnsupportedAlgorithm, Place::Leaf);
    openssl.root("short", Key::Rsa(1024));
    openssl.workload("leaf", "short", CART);
    let verified = verify(&openssl, "short", &["leaf"], Role::Client, SystemTime::now());
    assert_fault(verified, ChainFault::UnsupportedAlgorithm, Place::Leaf);
}

// identity#34
#[test]
fn keys_in_other_formats_or_on_other_curves_are_refused() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.root("root", Key::P256);
    openssl.workload("leaf", "root", CART);
    openssl.run("pkey -in leaf.key -traditional -out traditional.key");
    fs::rename(openssl.path("traditional.key"), openssl.path("leaf.key")).unwrap();
    assert!(matches!(openssl.svid(&["leaf"]), Err(SvidError::KeyFormat)));
    openssl.key("leaf", Key::Secp256k1);
    openssl.certificate("leaf", "root", "/", &workload_extensions(CART), "");
    assert!(matches!(openssl.svid(&["leaf"]), Err(SvidError::Key(_))));
    openssl.key("leaf", Key::P256);
    assert!(matches!(openssl.svid(&["leaf"]), Err(SvidError::KeyMismatch(_))));
}
