//! The path from a leaf to a root of its trust domain: signatures, constraints, revocation.

use std::{
    cell::RefCell,
    time::{Duration, UNIX_EPOCH},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{ChainError, PeerVerifier, Role, VerifyError, chain::Presented, verifier::system_clock};
use crate::{
    ChainCertificate, RevocationPolicy, TrustBundle,
    crl::{Finding, Standing},
    leaf::{Leaf, may_sign_certificates, parse_certificate},
};

/// A chain under verification, whose leaf has been found in order.
pub(super) struct Path<'a> {
    pub(super) verifier: &'a PeerVerifier,
    pub(super) der: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) bundle: &'a TrustBundle,
    pub(super) role: Role,
    pub(super) now: UnixTime,
}

impl Path<'_> {
    /// Finds a valid path. Says what about its revocation was uncertain and allowed.
    pub(super) fn verify(&self, leaf: &Leaf<'_>) -> Result<Option<Standing>, VerifyError> {
        let skew = self.verifier.clock_skew.as_secs();
        let outcome = self.build_within(skew, leaf);
        let fault =
            match (outcome.refused, &outcome.error) {
                (_, None) => return Ok(outcome.uncertain),
                (Some(Refusal::Revocation(finding)), _) => return Err(self.refusal(leaf, finding)),
                (Some(Refusal::Issuer(certificate)), _) => ChainError::not_for_signing(
                    ChainCertificate::among(&certificate, self.der, self.intermediates),
                ),
                (None, Some(error)) => {
                    let chain = Presented {
                        leaf: self.der,
                        intermediates: self.intermediates,
                        bundle: self.bundle,
                        algorithms: &self.verifier.algorithms,
                    };
                    ChainError::new(error, &chain)
                }
            };
        Err(VerifyError::Chain { presented: leaf.id().clone(), source: fault })
    }

    /// webpki knows of no tolerance for clocks. So the moment is moved to where the leaf is in date, as it was found to be
    /// within the tolerance, and on to where each issuer is that webpki then names: there is such a moment if all have one
    /// in common.
    fn build_within(&self, skew: u64, leaf: &Leaf<'_>) -> Outcome {
        let now = self.now.as_secs();
        if skew == 0 {
            return self.build(now);
        }
        let [first, last] = [leaf.not_before(), leaf.not_after()]
            .map(|bound| bound.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let mut at = now.max(first).min(last);
        let mut outcome = self.build(at);
        for _ in 0..self.intermediates.len() {
            at = match &outcome.error {
                Some(webpki::Error::CertExpired { not_after, .. })
                    if not_after.as_secs() < at && now.saturating_sub(not_after.as_secs()) <= skew =>
                {
                    not_after.as_secs()
                }
                Some(webpki::Error::CertNotValidYet { not_before, .. })
                    if not_before.as_secs() > at && not_before.as_secs().saturating_sub(now) <= skew =>
                {
                    not_before.as_secs()
                }
                _ => break,
            };
            outcome = self.build(at);
        }
        outcome
    }

    fn build(&self, at: u64) -> Outcome {
        let usage = match self.role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let found = RefCell::new(Outcome::default());
        let judge = |path: &VerifiedPath<'_>| self.judge(path, &found);
        let verified = EndEntityCert::try_from(self.der).and_then(|leaf| {
            leaf.verify_for_usage(
                self.verifier.algorithms.all,
                self.bundle.anchors(),
                self.intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(at)),
                usage,
                None,
                Some(&judge),
            )
            .map(drop)
        });
        Outcome { error: verified.err(), ..found.into_inner() }
    }

    /// Asks of a path that is valid for webpki what webpki does not: whether its issuers may issue, and what revocation
    /// lists say. If it is refused, another may be found.
    fn judge(&self, path: &VerifiedPath<'_>, found: &RefCell<Outcome>) -> Result<(), webpki::Error> {
        let mut found = found.borrow_mut();
        found.uncertain = None;
        for issuer in path.intermediate_certificates() {
            let der = issuer.der();
            if !parse_certificate(&der).is_some_and(|issuer| may_sign_certificates(&issuer)) {
                found.refused.get_or_insert_with(|| Refusal::Issuer(der.into_owned()));
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
        }
        let Some(revocation) = &self.verifier.revocation else { return Ok(()) };
        let now = system_clock(self.now);
        let now = now.checked_sub(self.verifier.clock_skew).unwrap_or(UNIX_EPOCH);
        match revocation.with_lists(|lists| lists.worst_of(path, &self.verifier.algorithms, now)) {
            None => Ok(()),
            Some(finding) if refuses(revocation.policy(), &finding.standing) => {
                found.refused.get_or_insert(Refusal::Revocation(finding));
                Err(webpki::Error::CertRevoked)
            }
            Some(finding) => {
                found.uncertain = Some(finding.standing);
                Ok(())
            }
        }
    }

    fn refusal(&self, leaf: &Leaf<'_>, finding: Finding) -> VerifyError {
        let presented = leaf.id().clone();
        let certificate = ChainCertificate::among(&finding.certificate, self.der, self.intermediates);
        let certificate = Box::new(certificate);
        match finding.standing {
            Standing::Revoked { reason, at } => VerifyError::Revoked { presented, certificate, reason, at },
            Standing::Stale { since } => VerifyError::RevocationStale { presented, certificate, since },
            Standing::Good | Standing::Unknown => VerifyError::RevocationUnknown { presented, certificate },
        }
    }
}

/// What came of the search for a path.
#[derive(Default)]
struct Outcome {
    error: Option<webpki::Error>,
    /// Why the first path that was valid otherwise was refused.
    refused: Option<Refusal>,
    /// What was uncertain about the path that was taken.
    uncertain: Option<Standing>,
}

enum Refusal {
    /// A certificate of the path is not for signing others.
    Issuer(CertificateDer<'static>),
    Revocation(Finding),
}

fn refuses(policy: RevocationPolicy, standing: &Standing) -> bool {
    match standing {
        Standing::Good => false,
        Standing::Revoked { .. } => true,
        Standing::Stale { .. } => policy.refuses_stale(),
        Standing::Unknown => policy.refuses_unknown(),
    }
}
