//! Revocation lists: what they refuse, what they leave open, and how they are replaced.

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::{
    ExpectedPeer, PeerVerifier, Place, Revocation, RevocationListError, RevocationLists, RevocationPolicy,
    Role, TrustBundles, Uncertain, VerifyError,
    testing::{Authority, Leaf, provider, rcgen},
};
use rustls::pki_types::CertificateDer;
use support::*;

fn example() -> Authority {
    Authority::new("example.org")
}

struct Scene {
    revocation: Revocation,
    verifier: PeerVerifier,
}

impl Scene {
    fn new(bundles: TrustBundles, policy: RevocationPolicy) -> Self {
        let revocation = Revocation::new(policy);
        let verifier = PeerVerifier::new(&provider(), Arc::new(bundles), anyone());
        Self { verifier: verifier.revocation(revocation.clone()), revocation }
    }

    fn verify(&self, leaf: &Leaf) -> Result<(), VerifyError> {
        let chain = leaf.chain();
        let (leaf, intermediates) = chain.split_first().expect("a leaf");
        self.verifier.verify(leaf, intermediates, Role::Client, SystemTime::now()).map(drop)
    }
}

fn leaf_of(leaf: &Leaf) -> CertificateDer<'static> {
    leaf.chain().remove(0)
}

// identity#70
#[test]
fn a_revoked_leaf_is_refused_and_named() {
    let ca = example();
    let (good, bad) = (ca.leaf(CLIENT).issue(), ca.leaf(CLIENT).issue());
    for policy in [RevocationPolicy::FAIL_OPEN, RevocationPolicy::FAIL_CLOSED] {
        let scene = Scene::new(ca.bundles(), policy);
        scene.revocation.load(&ca.revocation_list().revoke(&leaf_of(&bad)).der()).unwrap();
        assert_eq!(scene.verify(&good), Ok(()));
        match scene.verify(&bad).unwrap_err() {
            VerifyError::Revoked { presented, certificate, reason, at } => {
                assert_eq!((presented, certificate.place()), (id(CLIENT), Place::Leaf));
                assert_eq!(certificate.serial(), bad.svid().unwrap().serial());
                assert!(reason.is_compromise() && at < SystemTime::now());
            }
            other => panic!("{other}"),
        }
    }
}

// identity#71
#[test]
fn a_revoked_intermediate_refuses_all_its_leaves_and_no_others() {
    let root = example();
    let (bad, good) = (root.intermediate(), root.intermediate());
    let below = bad.intermediate();
    let scene = Scene::new(root.bundles(), RevocationPolicy::FAIL_OPEN);
    scene.revocation.load(&root.revocation_list().revoke(&bad.intermediates()[0]).der()).unwrap();
    assert_eq!(scene.verify(&good.leaf(CLIENT).issue()), Ok(()));
    for (issuer, place) in [(&bad, 0), (&bad, 0), (&below, 1)] {
        match scene.verify(&issuer.leaf(CLIENT).issue()).unwrap_err() {
            VerifyError::Revoked { certificate, .. } => {
                assert_eq!(certificate.place(), Place::Intermediate(place));
                assert!(certificate.subject().contains("intermediate 1"), "{certificate}");
            }
            other => panic!("{other}"),
        }
    }
}

// identity#76
#[test]
fn what_no_list_covers_is_for_the_policy_to_decide() {
    let ca = example();
    let leaf = ca.leaf(CLIENT).issue();
    let open = Scene::new(ca.bundles(), RevocationPolicy::FAIL_OPEN);
    assert_eq!(open.verify(&leaf), Ok(()));
    let closed = Scene::new(ca.bundles(), RevocationPolicy::FAIL_CLOSED);
    for lists in [&b""[..], Authority::new("other.example").revocation_list().pem().as_bytes()] {
        // Before anything is loaded, and with lists of nobody.
        assert!(matches!(closed.verify(&leaf), Err(VerifyError::RevocationUnknown { .. })));
        closed.revocation.load(lists).unwrap();
    }
    closed.revocation.load(&ca.revocation_list().der()).unwrap();
    assert_eq!(closed.verify(&leaf), Ok(()));

    // Each certificate of the path needs a list of its issuer.
    let below = ca.intermediate();
    let leaf = below.leaf(CLIENT).issue();
    match closed.verify(&leaf).unwrap_err() {
        VerifyError::RevocationUnknown { certificate, .. } => assert_eq!(certificate.place(), Place::Leaf),
        other => panic!("{other}"),
    }
    let both = ca.revocation_list().pem() + &below.revocation_list().pem();
    closed.revocation.load(both.as_bytes()).unwrap();
    assert_eq!(closed.verify(&leaf), Ok(()));
}

// identity#76
#[test]
fn a_stale_list_still_revokes_and_otherwise_is_for_the_policy_to_decide() {
    let ca = example();
    let (good, bad) = (ca.leaf(CLIENT).issue(), ca.leaf(CLIENT).issue());
    let stale = ca.revocation_list().revoke(&leaf_of(&bad)).stale().der();
    for (policy, refused) in [
        (RevocationPolicy::FAIL_OPEN, false),
        (RevocationPolicy::FAIL_CLOSED, true),
        (RevocationPolicy::FAIL_CLOSED.stale(Uncertain::Allow), false),
        (RevocationPolicy::FAIL_OPEN.stale(Uncertain::Refuse), true),
    ] {
        let scene = Scene::new(ca.bundles(), policy);
        scene.revocation.load(&stale).unwrap();
        assert!(matches!(scene.verify(&bad), Err(VerifyError::Revoked { .. })));
        match scene.verify(&good) {
            Ok(()) => assert!(!refused),
            Err(VerifyError::RevocationStale { since, .. }) => assert!(refused && since < SystemTime::now()),
            Err(other) => panic!("{other}"),
        }
        // The newest list of an issuer counts.
        let lists = [stale.clone(), ca.revocation_list().der()].map(Into::into);
        scene.revocation.replace(RevocationLists::from_der(lists).unwrap());
        assert_eq!(scene.verify(&good), Ok(()));
        assert!(matches!(scene.verify(&bad), Err(VerifyError::Revoked { .. })));
    }
}

#[test]
fn a_list_is_current_to_its_last_second_and_a_tolerance_beyond() {
    let ca = example();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let leaf = ca.leaf(CLIENT).valid(at(1_800_000_000), at(1_800_009_000)).issue();
    let list = ca.revocation_list().current(at(1_800_000_000), at(1_800_000_100)).der();
    let (revocation, tolerant) =
        (Revocation::new(RevocationPolicy::FAIL_CLOSED), Revocation::new(RevocationPolicy::FAIL_CLOSED));
    let verifier = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), anyone());
    for (revocation, skew, last) in [(revocation, 0, 99), (tolerant, 60, 159)] {
        revocation.load(&list).unwrap();
        let verifier = verifier.clone().revocation(revocation).clock_skew(Duration::from_secs(skew));
        let chain = leaf.chain();
        let verify =
            |seconds: u64| verifier.verify(&chain[0], &[], Role::Client, at(1_800_000_000 + seconds));
        assert!(verify(last).is_ok());
        assert!(matches!(verify(last + 1), Err(VerifyError::RevocationStale { .. })));
    }
}

#[test]
fn authorities_of_one_name_do_not_revoke_for_each_other() {
    // As while a root is replaced: another key, the same name.
    let (old, new) = (example(), example());
    let bundles = TrustBundles::new([old.bundle(), new.bundle()]);
    let (of_old, of_new) = (old.leaf(CLIENT).issue(), new.leaf(CLIENT).issue());
    // Each list names the other's certificate as well, which is none of its business.
    let lists = |ca: &Authority, own: Option<&Leaf>, other: &Leaf| {
        let list = ca.revocation_list().revoke(&leaf_of(other));
        own.into_iter().fold(list, |list, own| list.revoke(&leaf_of(own))).pem()
    };
    for policy in [RevocationPolicy::FAIL_OPEN, RevocationPolicy::FAIL_CLOSED] {
        let scene = Scene::new(bundles.clone(), policy);
        let text = lists(&old, Some(&of_old), &of_new) + &lists(&new, None, &of_old);
        scene.revocation.load(text.as_bytes()).unwrap();
        assert!(matches!(scene.verify(&of_old), Err(VerifyError::Revoked { .. })));
        assert_eq!(scene.verify(&of_new), Ok(()));
    }
    // With the old one's list alone, the new one's certificates are uncertain, not broken.
    let scene = Scene::new(bundles, RevocationPolicy::FAIL_CLOSED);
    scene.revocation.load(lists(&old, None, &of_new).as_bytes()).unwrap();
    assert!(matches!(scene.verify(&of_new), Err(VerifyError::RevocationUnknown { .. })));
}

#[test]
fn a_list_that_its_issuer_did_not_sign_counts_for_nothing() {
    let (ca, impostor) = (example(), example());
    let leaf = ca.leaf(CLIENT).issue();
    let scene = Scene::new(ca.bundles(), RevocationPolicy::FAIL_OPEN);
    scene.revocation.load(&impostor.revocation_list().revoke(&leaf_of(&leaf)).der()).unwrap();
    assert_eq!(scene.verify(&leaf), Ok(()));
    assert_eq!(scene.revocation.status().unattributed, 1);
    scene.revocation.load(&ca.revocation_list().der()).unwrap();
    assert_eq!(scene.verify(&leaf), Ok(()));
    assert_eq!(scene.revocation.status().unattributed, 0);
}

#[test]
fn an_authority_without_the_right_to_sign_lists_covers_nothing() {
    let root = example();
    let mute = root.intermediate_with(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
    let leaf = mute.leaf(CLIENT).issue();
    let scene = Scene::new(root.bundles(), RevocationPolicy::FAIL_CLOSED);
    // Signed by another that bears its name and may: the library that makes the lists would refuse.
    let namesake = root.intermediate();
    let text = root.revocation_list().pem() + &namesake.revocation_list().revoke(&leaf_of(&leaf)).pem();
    scene.revocation.load(text.as_bytes()).unwrap();
    assert!(matches!(scene.verify(&leaf), Err(VerifyError::RevocationUnknown { .. })));
}

#[test]
fn a_list_of_limited_scope_revokes_but_its_silence_proves_nothing() {
    let ca = example();
    let (good, bad) = (ca.leaf(CLIENT).issue(), ca.leaf(CLIENT).issue());
    let list = ca.revocation_list().revoke(&leaf_of(&bad)).customize(|params| {
        params.issuing_distribution_point = Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://example.org/a".into()] },
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        });
    });
    let scene = Scene::new(ca.bundles(), RevocationPolicy::FAIL_CLOSED);
    scene.revocation.load(&list.der()).unwrap();
    assert!(matches!(scene.verify(&bad), Err(VerifyError::Revoked { .. })));
    assert!(matches!(scene.verify(&good), Err(VerifyError::RevocationUnknown { .. })));
}

#[test]
fn another_path_around_a_revoked_intermediate_is_taken() {
    // The same intermediate key under two certificates, of which one is revoked.
    let root = example();
    let issuer = root.intermediate();
    let renewed = root.renew(&issuer);
    let leaf = issuer.leaf(CLIENT).issue();
    let scene = Scene::new(root.bundles(), RevocationPolicy::FAIL_OPEN);
    scene.revocation.load(&root.revocation_list().revoke(&issuer.intermediates()[0]).der()).unwrap();
    assert!(matches!(scene.verify(&leaf), Err(VerifyError::Revoked { .. })));
    let mut chain = leaf.chain();
    chain.extend(renewed.intermediates());
    let verified = scene.verifier.verify(&chain[0], &chain[1..], Role::Client, SystemTime::now());
    assert_eq!(verified, Ok(id(CLIENT)));
}

// identity#73
#[test]
fn text_with_several_lists_one_der_and_nothing_are_read() {
    let (a, b) = (example(), Authority::new("other.example"));
    let several =
        format!("# comment\n{}\n{}{}", a.revocation_list().pem(), b.root_pem(), b.revocation_list().pem());
    for (bytes, lists) in [
        (several.as_bytes(), 2),
        (&a.revocation_list().der(), 1),
        (b"", 0),
        (b" \n\n", 0),
        (b.root_pem().as_bytes(), 0),
    ] {
        assert_eq!(RevocationLists::parse(bytes).unwrap().len(), lists);
    }
    let list = a.revocation_list().pem();
    assert_eq!(RevocationLists::parse((list.clone() + &list).as_bytes()).unwrap().len(), 1);
}

// identity#74, identity#90
#[test]
fn what_cannot_be_read_keeps_the_lists_before_and_is_counted() {
    let ca = example();
    let bad = ca.leaf(CLIENT).issue();
    let scene = Scene::new(ca.bundles(), RevocationPolicy::FAIL_OPEN);
    let der = ca.revocation_list().revoke(&leaf_of(&bad)).der();
    let pem = ca.revocation_list().revoke(&leaf_of(&bad)).pem();
    let longer = [&der[..], &[0]].concat();
    let torn = pem.replace("-----END", "-----EN");
    let broken: [(&[u8], &str); 5] = [
        (b"nonsense", "Pem"),
        (b"\x30\x00", "Malformed"),
        (&der[..der.len() - 1], "Malformed"),
        (&longer, "Malformed"),
        (torn.as_bytes(), "Pem"),
    ];
    for (round, loaded) in [(0, 0), (1, 1)] {
        for (bytes, variant) in broken {
            let error = scene.revocation.load(bytes).unwrap_err();
            let fits = match error {
                RevocationListError::Malformed { index: 0 } => variant == "Malformed",
                RevocationListError::Pem(_) => variant == "Pem",
                _ => false,
            };
            assert!(fits, "{error:?}");
        }
        let status = scene.revocation.status();
        assert_eq!((status.lists, status.loads), (loaded, loaded as u64));
        assert_eq!(status.failed_loads, (round + 1) * broken.len() as u64);
        assert!(status.last_error.is_some());
        assert_eq!(scene.verify(&bad).is_err(), round == 1);
        // The malformed file at the start keeps no later one out.
        scene.revocation.load(&der).unwrap();
        assert_eq!(scene.revocation.status().last_error, None);
        assert!(scene.verify(&bad).is_err());
    }
}

#[test]
fn handshakes_see_a_reload_and_are_counted_by_side() {
    let ca = example();
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let (at_client, at_server) = (revocation.clone(), Revocation::new(RevocationPolicy::FAIL_OPEN));
    let (client_svid, server_svid) = (ca.svid(CLIENT), ca.svid(SERVER));
    let (client_leaf, server_leaf) = (client_svid.chain()[0].clone(), server_svid.chain()[0].clone());
    let client = revoking_client(client_svid, ca.bundles(), exactly(SERVER), at_client.clone());
    let server = revoking_server(server_svid, ca.bundles(), anyone(), at_server.clone());
    handshake(client.clone(), server.clone()).established();
    assert_eq!(at_server.counts().unknown_allowed, 1);

    at_server.load(&ca.revocation_list().revoke(&client_leaf).der()).unwrap();
    let done = handshake(client.clone(), server.clone());
    assert!(done.client_refused_because().is_revocation());
    assert_eq!((at_server.counts().refused_clients, at_server.counts().refused_servers), (1, 0));

    at_client.load(&ca.revocation_list().revoke(&server_leaf).der()).unwrap();
    at_server.load(&ca.revocation_list().stale().der()).unwrap();
    let done = handshake(client.clone(), server.clone());
    assert!(done.server_refused_because().is_revocation());
    assert_eq!((at_client.counts().refused_clients, at_client.counts().refused_servers), (0, 1));

    at_client.load(b"").unwrap();
    handshake(client, server).established();
    assert_eq!(at_server.counts().stale_allowed, 1);
}

// identity#71, identity#72
#[test]
fn a_connection_that_stands_is_judged_by_the_time_of_its_handshake() {
    let ca = example();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let leaf = ca.leaf(CLIENT).valid(at(1_800_000_000), at(1_800_000_100)).issue();
    let other = Authority::with_name("elsewhere", "example.org");
    let scene = Scene::new(ca.bundles(), RevocationPolicy::FAIL_OPEN);
    let chain = leaf.chain();
    let verify = || scene.verifier.verify(&chain[0], &[], Role::Client, at(1_800_000_050));
    assert!(!scene.revocation.concerns(&chain));
    scene.revocation.load(&other.revocation_list().der()).unwrap();
    assert!(!scene.revocation.concerns(&chain));
    let before = scene.revocation.generation();
    scene.revocation.load(&ca.revocation_list().revoke(&chain[0]).der()).unwrap();
    assert_ne!(scene.revocation.generation(), before);
    assert!(scene.revocation.concerns(&chain));
    assert!(verify().unwrap_err().is_revocation());
    assert_eq!(scene.revocation.counts().refused_clients, 0);
    scene.revocation.load(b"").unwrap();
    assert_eq!(verify(), Ok(id(CLIENT)));
}

#[test]
fn an_id_that_is_not_expected_is_told_apart_from_a_revoked_one() {
    let ca = example();
    let revocation = Revocation::new(RevocationPolicy::FAIL_CLOSED);
    revocation.load(&ca.revocation_list().der()).unwrap();
    let nobody = PeerVerifier::new(&provider(), Arc::new(ca.bundles()), ExpectedPeer::exact([]));
    let leaf = ca.leaf(CLIENT).issue().chain();
    let refused = nobody.revocation(revocation).verify(&leaf[0], &[], Role::Client, SystemTime::now());
    assert!(matches!(refused, Err(VerifyError::Unexpected { .. })));
}

// identity §8: what the reference does not detect.
#[test]
fn an_own_certificate_that_a_list_names_is_noticed_and_counts_as_nobodys() {
    let ca = example();
    let issuing = ca.intermediate();
    let bundles = Arc::new(ca.bundles());
    for policy in [RevocationPolicy::FAIL_OPEN, RevocationPolicy::FAIL_CLOSED] {
        let revocation = Revocation::new(policy);
        let own = issuing.svid(CLIENT);
        let revoked = || revocation.revokes(&own, &bundles, &provider(), SystemTime::now());
        // That nobody knows is no revocation, whatever is done about peers.
        assert_eq!(revoked(), None);
        revocation
            .load(&issuing.revocation_list().revoke(&leaf_of(&issuing.leaf(SERVER).issue())).der())
            .unwrap();
        assert_eq!(revoked(), None);
        revocation.load(&issuing.revocation_list().revoke(&own.chain()[0]).der()).unwrap();
        assert!(
            matches!(revoked(), Some(VerifyError::Revoked { certificate, .. }) if certificate.place() == Place::Leaf)
        );
        revocation.load(&ca.revocation_list().revoke(&own.chain()[1]).der()).unwrap();
        assert!(
            matches!(revoked(), Some(VerifyError::Revoked { certificate, .. }) if certificate.place() == Place::Intermediate(0))
        );
        let counts = revocation.counts();
        assert_eq!((counts.refused_clients, counts.refused_servers), (0, 0));
    }
}

// identity#72
#[test]
fn lists_concern_whose_issuer_published_one_and_everybody_where_a_missing_one_refuses() {
    let (ca, other) = (example(), Authority::with_name("elsewhere", "example.org"));
    let chain = ca.leaf(CLIENT).issue().chain();
    for (policy, unnamed) in [(RevocationPolicy::FAIL_OPEN, false), (RevocationPolicy::FAIL_CLOSED, true)] {
        let revocation = Revocation::new(policy);
        assert_eq!(revocation.concerns(&chain), unnamed);
        revocation.load(&other.revocation_list().der()).unwrap();
        assert_eq!(revocation.concerns(&chain), unnamed);
        revocation.load(&ca.revocation_list().der()).unwrap();
        assert!(revocation.concerns(&chain));
    }
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    revocation.count_ended(Role::Client);
    revocation.count_ended(Role::Server);
    let counts = revocation.counts();
    assert_eq!((counts.refused_clients, counts.refused_servers), (1, 1));
}
