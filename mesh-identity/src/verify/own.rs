//! Whether peers would take a certificate of our own.

use std::time::Duration;
#[cfg(any(feature = "files", feature = "istio-ca", feature = "workload-api"))]
use std::{sync::Arc, time::SystemTime};

#[cfg(any(feature = "files", feature = "istio-ca", feature = "workload-api"))]
use {
    super::{PeerVerifier, Role, VerifyError},
    crate::{ExpectedPeer, TrustBundles, X509Svid},
    rustls::crypto::CryptoProvider,
};

/// By how much an issuer's clock may be ahead of ours: some date certificates by the second they are issued in, and the
/// first of them would be refused for ever.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Checks a certificate of our own as a peer with these bundles would, on either side of a connection.
///
/// # Errors
///
/// The first rule that it breaks.
#[cfg(any(feature = "files", feature = "istio-ca", feature = "workload-api"))]
pub(crate) fn check_own(
    svid: &X509Svid,
    bundles: &Arc<TrustBundles>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<(), VerifyError> {
    // Not later: whatever is over is over.
    let now = if svid.not_before() <= now + CLOCK_SKEW { now.max(svid.not_before()) } else { now };
    let expected = ExpectedPeer::exact([svid.id().clone()]);
    let verifier = PeerVerifier::new(provider, Arc::clone(bundles), expected);
    let Some((leaf, intermediates)) = svid.chain().split_first() else { return Ok(()) };
    [Role::Server, Role::Client]
        .into_iter()
        .try_for_each(|role| verifier.verify(leaf, intermediates, role, now).map(drop))
}

#[cfg(all(test, any(feature = "files", feature = "istio-ca", feature = "workload-api")))]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::testing::{Authority, LeafBuilder, provider};

    const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn an_issuer_may_be_a_minute_ahead_and_nothing_is_taken_after_its_end() {
        let authority = Authority::new("example.org");
        let bundles = Arc::new(authority.bundles());
        let check = |from, until, now| {
            let svid = authority.leaf(ID).valid(at(from), at(until)).issue().svid().unwrap();
            check_own(&svid, &bundles, &provider(), at(now))
        };
        assert_eq!(check(60, 1000, 0), Ok(()));
        assert!(matches!(check(61, 1000, 0), Err(VerifyError::NotYetValid { .. })));
        assert_eq!(check(0, 100, 100), Ok(()));
        assert!(matches!(check(0, 100, 101), Err(VerifyError::Expired { .. })));
    }

    #[test]
    fn it_is_for_both_sides_and_leads_to_the_roots() {
        let (authority, other) = (Authority::new("example.org"), Authority::new("example.org"));
        let bundles = Arc::new(authority.bundles());
        let check = |leaf: LeafBuilder<'_>| {
            check_own(&leaf.issue().svid().unwrap(), &bundles, &provider(), SystemTime::now())
        };
        assert_eq!(check(authority.intermediate().leaf(ID)), Ok(()));
        let purpose =
            |role| move |error| matches!(error, Err(VerifyError::Purpose { role: of, .. }) if of == role);
        assert!(purpose(Role::Server)(check(authority.leaf(ID).client_only())));
        assert!(purpose(Role::Client)(check(authority.leaf(ID).server_only())));
        assert!(matches!(check(other.leaf(ID)), Err(VerifyError::Chain { .. })));
    }
}
