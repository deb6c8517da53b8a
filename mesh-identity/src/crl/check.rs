//! Whether the certificates of a verified path are revoked.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{crypto::WebPkiSupportedAlgorithms, pki_types::CertificateDer};
use webpki::VerifiedPath;

use super::RevocationLists;
use crate::leaf::parse_certificate;

/// What the lists say about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked {
        reason: RevocationReason,
        at: SystemTime,
    },
    /// Not named, but the newest list should have been replaced at this time.
    Stale {
        since: SystemTime,
    },
    /// No list covers it.
    Unknown,
}

/// The first certificate of a path that is revoked, or else the first whose standing is uncertain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) standing: Standing,
}

impl RevocationLists {
    /// Looks at every certificate of a path but its root, which no list can revoke: a root is withdrawn by taking it
    /// out of its bundle. Says what is worst: `None` if all are good.
    pub(crate) fn worst_of(
        &self,
        path: &VerifiedPath<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
        now: SystemTime,
    ) -> Option<Finding> {
        let mut uncertain: Option<Finding> = None;
        let mut issuers = path.intermediate_certificates();
        let mut subject: &webpki::Cert<'_> = path.end_entity();
        loop {
            let issuer = issuers.next();
            let standing = self.standing(
                subject,
                || match issuer {
                    Some(issuer) => {
                        may_sign_lists(&issuer.der()).then(|| issuer.subject_public_key_info().to_vec())
                    }
                    None => Some(webpki::spki_for_anchor(path.anchor()).to_vec()),
                },
                algorithms,
                now,
            );
            let finding = |standing| Finding { certificate: subject.der().into_owned(), standing };
            match standing {
                Standing::Good => {}
                revoked @ Standing::Revoked { .. } => return Some(finding(revoked)),
                other => uncertain = uncertain.or_else(|| Some(finding(other))),
            }
            match issuer {
                Some(issuer) => subject = issuer,
                None => return uncertain,
            }
        }
    }

    /// `issuer_key` is the issuer's `SubjectPublicKeyInfo`, if it may sign lists.
    fn standing(
        &self,
        certificate: &webpki::Cert<'_>,
        issuer_key: impl FnOnce() -> Option<Vec<u8>>,
        algorithms: &WebPkiSupportedAlgorithms,
        now: SystemTime,
    ) -> Standing {
        let mut named = self.named(certificate.issuer()).peekable();
        if named.peek().is_none() {
            return Standing::Unknown;
        }
        let Some(issuer_key) = issuer_key() else { return Standing::Unknown };
        let mut newest = None;
        for list in named.filter(|list| list.is_by(&issuer_key, algorithms)) {
            // Cannot fail: the entries were read with the list.
            if let Ok(Some(entry)) = list.parsed.find_serial(certificate.serial()) {
                return Standing::Revoked {
                    reason: RevocationReason(entry.reason_code),
                    at: UNIX_EPOCH + Duration::from_secs(entry.revocation_date.as_secs()),
                };
            }
            if !list.partial {
                newest = newest.max(Some(list.next_update));
            }
        }
        match newest {
            None => Standing::Unknown,
            Some(next_update) if next_update <= now => Standing::Stale { since: next_update },
            Some(_) => Standing::Good,
        }
    }
}

/// Whether an issuer's key usage, if it has one, permits signing revocation lists (RFC 5280 §6.3.3 (f)).
fn may_sign_lists(issuer: &CertificateDer<'_>) -> bool {
    parse_certificate(issuer).is_some_and(|issuer| {
        issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    })
}

/// Why a certificate was revoked, as its issuer says (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationReason(Option<webpki::RevocationReason>);

impl RevocationReason {
    /// Whether somebody else may have the private key of the certificate or of its issuer.
    pub fn is_compromise(&self) -> bool {
        use webpki::RevocationReason::{AaCompromise, CaCompromise, KeyCompromise};
        matches!(self.0, Some(AaCompromise | CaCompromise | KeyCompromise))
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use webpki::RevocationReason::{
            AaCompromise, AffiliationChanged, CaCompromise, CertificateHold, CessationOfOperation,
            KeyCompromise, PrivilegeWithdrawn, RemoveFromCrl, Superseded, Unspecified,
        };
        f.write_str(match self.0 {
            Some(AaCompromise) => "attribute authority compromise",
            Some(AffiliationChanged) => "affiliation changed",
            Some(CaCompromise) => "authority compromise",
            Some(CertificateHold) => "certificate hold",
            Some(CessationOfOperation) => "cessation of operation",
            Some(KeyCompromise) => "key compromise",
            Some(PrivilegeWithdrawn) => "privilege withdrawn",
            Some(RemoveFromCrl) => "removed from the list",
            Some(Superseded) => "superseded",
            Some(Unspecified) | None => "no reason given",
        })
    }
}
