use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};

use super::*;
use crate::{ExpectedPeer, PeerVerifier, Role, testing::provider};

#[derive(Debug, Default)]
struct FakeTime(AtomicU64);

impl FakeTime {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for FakeTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(START + self.0.load(Ordering::Relaxed))))
    }
}

const START: u64 = 1_800_000_000;
const HOUR: u64 = 60 * 60;

fn dev_ca() -> (DevCa, Arc<FakeTime>) {
    let time = Arc::new(FakeTime::default());
    (DevCa::new(provider()).time_provider(time.clone()), time)
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[test]
fn vouches_for_ids_of_any_trust_domain() {
    let (ca, _) = dev_ca();
    let now = UNIX_EPOCH + Duration::from_secs(START);
    for name in ["spiffe://example.org/ns/a/sa/b", "spiffe://other.example/x"] {
        let id = id(name);
        let svid = ca.try_svid(&id).unwrap();
        let verifier = PeerVerifier::new(&provider(), ca.bundles(), ExpectedPeer::exact([id.clone()]));
        assert_eq!(verifier.verify(&svid.chain()[0], &[], Role::Client, now).unwrap(), id);
        assert_eq!(verifier.verify(&svid.chain()[0], &[], Role::Server, now).unwrap(), id);
    }
}

#[test]
fn a_leaf_lives_24_hours_and_began_2_minutes_ago() {
    let (ca, _) = dev_ca();
    let svid = ca.try_svid(&id("spiffe://example.org/a")).unwrap();
    let at = |seconds: u64| -> SystemTime { UNIX_EPOCH + Duration::from_secs(seconds) };
    assert_eq!((svid.not_before(), svid.not_after()), (at(START - 120), at(START + 24 * HOUR)));
    assert_eq!(svid.chain().len(), 1);
}

// identity#25, identity#42, identity#43
#[test]
fn past_half_of_its_life_a_leaf_is_replaced_with_a_new_key() {
    let (ca, time) = dev_ca();
    let id = id("spiffe://example.org/a");
    let first = ca.try_svid(&id).unwrap();
    let generation = ca.generation();

    time.advance(12 * HOUR - 1);
    assert_eq!(ca.generation(), generation);
    assert!(Arc::ptr_eq(&first, &ca.try_svid(&id).unwrap()));

    time.advance(1);
    assert_ne!(ca.generation(), generation);
    let second = ca.try_svid(&id).unwrap();
    assert_ne!(first.serial(), second.serial());
    let key = |svid: &X509Svid| svid.certified_key().key.public_key().unwrap().to_vec();
    assert_ne!(key(&first), key(&second));
}

#[test]
fn a_new_identity_is_no_new_generation() {
    let (ca, _) = dev_ca();
    let generation = ca.generation();
    ca.try_svid(&id("spiffe://example.org/a")).unwrap();
    assert_eq!(ca.generation(), generation);
}

#[test]
fn an_export_is_what_the_mesh_itself_uses() {
    let (ca, _) = dev_ca();
    let id = id("spiffe://example.org/a");
    let pem = ca.export(&id).unwrap();
    let svid = X509Svid::from_pem(pem.chain().as_bytes(), pem.key().as_bytes(), &provider()).unwrap();
    assert_eq!(svid.serial(), ca.try_svid(&id).unwrap().serial());
    let root = CertificateDer::from_pem_slice(DevCa::root_pem().as_bytes()).unwrap();
    assert_eq!(ca.bundles().iter().next().unwrap().certificates(), [root]);
    assert!(!format!("{pem:?}").contains("PRIVATE"));
}
