//! Whether the certificate that the proxy shows is revoked.

use std::sync::Arc;

use mesh_identity::{VerifyError, X509Svid};

use crate::{context::WorkerContext, telemetry::Event};

/// Tells once of each certificate of the local workload that a revocation list names: peers that have the list refuse it.
#[derive(Debug, Default)]
pub(super) struct OwnCertificate {
    /// The last one looked at, and the lists it was looked up in.
    judged: Option<(Arc<X509Svid>, u64)>,
    revoked: Option<Arc<X509Svid>>,
}

impl OwnCertificate {
    /// Looks at the certificate of the moment if it, or the lists, are others than before.
    pub(super) fn check(&mut self, context: &WorkerContext) {
        let tls = &context.tls;
        let snapshot = context.state.load();
        let workload = snapshot.local_workload(&context.local);
        let svid = workload.and_then(|workload| tls.configs.identities().try_svid(workload.identity()));
        let Some(svid) = svid else { return };
        let found = self.judge(&svid, tls.peers.lists(), |svid| tls.peers.revokes_own(svid));
        if let Some(error) = found {
            context.observer.event(&Event::OwnCertificateRevoked { identity: svid.id(), error: &error });
        }
    }

    /// Why the certificate is revoked, if that is news.
    fn judge(
        &mut self,
        svid: &Arc<X509Svid>,
        lists: u64,
        look_up: impl FnOnce(&X509Svid) -> Option<VerifyError>,
    ) -> Option<VerifyError> {
        let is_known = |(known, at): &(Arc<X509Svid>, u64)| Arc::ptr_eq(known, svid) && *at == lists;
        if self.judged.as_ref().is_some_and(is_known) {
            return None;
        }
        self.judged = Some((Arc::clone(svid), lists));
        let was_revoked = self.revoked.take().is_some_and(|revoked| Arc::ptr_eq(&revoked, svid));
        let error = look_up(svid)?;
        self.revoked = Some(Arc::clone(svid));
        (!was_revoked).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mesh_identity::{Revocation, RevocationPolicy, testing};

    use super::*;

    #[test]
    fn a_revoked_certificate_is_told_of_once_and_its_successor_anew() {
        let authority = testing::Authority::new("example.org");
        let bundles = Arc::new(authority.bundles());
        let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
        let svid = || Arc::new(authority.svid("spiffe://example.org/ns/shop/sa/cart"));
        let mut own = OwnCertificate::default();
        let mut check = |svid: &Arc<X509Svid>| {
            own.judge(svid, revocation.generation(), |svid| {
                revocation.revokes(svid, &bundles, &testing::provider(), SystemTime::now())
            })
            .is_some()
        };
        let publish = |svid: &X509Svid| {
            let list = authority.revocation_list().revoke(&svid.chain()[0]).pem();
            revocation.load(list.as_bytes()).unwrap();
        };
        let first = svid();
        assert!(!check(&first));
        publish(&first);
        assert!(check(&first));
        assert!(!check(&first));
        // The list is published again.
        publish(&first);
        assert!(!check(&first));
        let second = svid();
        assert!(!check(&second));
        publish(&second);
        assert!(check(&second));
    }
}
