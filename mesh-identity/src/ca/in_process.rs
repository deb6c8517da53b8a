//! The authorities that need no network.

#[cfg(any(test, feature = "testing"))]
use std::time::SystemTime;
use std::{future::ready, time::Duration};

use super::{CertificateAuthority, IssueError, IssueFault, IssueFuture, IssuedSvid};
use crate::SpiffeId;

#[cfg(feature = "dev-ca")]
impl CertificateAuthority for crate::DevCa {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        let issued = self.sign(id, lifetime).map_err(|error| IssueError::new(IssueFault::Local, error));
        Box::pin(ready(issued.map(|svid| IssuedSvid { svid, bundle: self.bundle_of(id.trust_domain()) })))
    }
}

#[cfg(feature = "testing")]
impl CertificateAuthority for crate::testing::Authority {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        let now = SystemTime::now();
        let leaf = self.leaf(id.as_str()).valid(now, now + lifetime).issue().svid();
        let issued = leaf.map_err(|error| IssueError::new(IssueFault::Answer, error));
        Box::pin(ready(issued.map(|svid| IssuedSvid { svid, bundle: self.bundle() })))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        error::Error,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{DevCa, ExpectedPeer, PeerVerifier, Role, TrustBundles, testing};

    const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

    fn issue(authority: &dyn CertificateAuthority, lifetime: Duration) -> IssuedSvid {
        let id = ID.parse().unwrap();
        let mut issuing = authority.issue(&id, lifetime);
        let Poll::Ready(issued) = issuing.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it needs no network")
        };
        issued.unwrap()
    }

    // identity#25
    #[test]
    fn issues_what_its_own_roots_vouch_for_with_a_new_key_each_time() {
        let provider = testing::provider();
        let (dev, throwaway) = (DevCa::new(provider.clone()), testing::Authority::new("example.org"));
        for authority in [&dev as &dyn CertificateAuthority, &throwaway] {
            let lifetime = Duration::from_secs(3600);
            let [one, other] = [(); 2].map(|()| issue(authority, lifetime));
            assert_ne!(one.svid.serial(), other.svid.serial());
            let key = |issued: &IssuedSvid| issued.svid.certified_key().key.public_key().unwrap().to_vec();
            assert_ne!(key(&one), key(&other));
            let left = one.svid.not_after().duration_since(SystemTime::now()).unwrap();
            assert!(left <= lifetime && left > lifetime / 2, "{left:?}");

            let bundles = Arc::new(TrustBundles::new([one.bundle]));
            let verifier = PeerVerifier::new(&provider, bundles, ExpectedPeer::exact([ID.parse().unwrap()]));
            verifier.verify(&one.svid.chain()[0], &[], Role::Server, SystemTime::now()).unwrap();
        }
    }

    #[test]
    fn an_error_says_what_failed_and_keeps_the_cause_apart() {
        let error = IssueError::new(IssueFault::Refused, "no such account").retryable(false);
        assert_eq!((error.fault(), error.is_retryable()), (IssueFault::Refused, false));
        assert_eq!(error.source().unwrap().to_string(), "no such account");
        assert!(!error.to_string().contains("account"));
    }
}
