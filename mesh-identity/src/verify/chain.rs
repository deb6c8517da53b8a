//! Why no valid path leads from a certificate to a root, and which certificate breaks it.

use std::iter;

use rustls::{crypto::WebPkiSupportedAlgorithms, pki_types::CertificateDer};
use webpki::EndEntityCert;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, public_key::PublicKey};

use crate::{ChainCertificate, Place, TrustBundle, leaf::parse_certificate, signed::Signed};

/// Why no valid path leads from a certificate to a root of its trust domain: what broke it, and where, if that can be
/// told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct ChainError {
    fault: ChainFault,
    certificate: Option<Box<ChainCertificate>>,
}

/// What is wrong with a certificate chain above the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainFault {
    /// A certificate has a critical extension that is not understood.
    CriticalExtension,
    /// An issuing certificate has expired.
    Expired,
    /// A certificate is malformed.
    Malformed,
    /// The path has a name constraint on something else than URIs that the leaf does not meet.
    NameConstraint,
    /// A certificate that is no authority issued another.
    NotAuthority,
    /// A certificate whose key usage does not permit that issued another.
    NotForSigning,
    /// An issuing certificate is not valid yet.
    NotYetValid,
    /// The chain is longer than one of its issuers allows.
    PathLength,
    /// A certificate was not signed by the one that bears its issuer's name.
    Signature,
    /// There are too many candidates for a path to try them all.
    TooComplex,
    /// Nobody in the chain or the bundle bears the name of the certificate's issuer: an intermediate is missing, or the
    /// root is another.
    UnknownIssuer,
    /// A certificate was signed with an algorithm, or by a kind of key, that the cryptography provider does not verify,
    /// as with SHA-1 or an RSA key of 1024 bits.
    UnsupportedAlgorithm,
    /// An issuer constrains the URIs it may issue for. Such constraints are not evaluated, so every SPIFFE ID below them
    /// is refused: leave them out, and keep trust domains apart by their bundles.
    UriNameConstraint,
}

impl ChainError {
    pub(super) fn new(error: &webpki::Error, chain: &Presented<'_>) -> Self {
        let (fault, certificate) = chain.blame(error, fault(error));
        Self { fault, certificate: certificate.map(Box::new) }
    }

    pub(super) fn not_for_signing(certificate: ChainCertificate) -> Self {
        Self { fault: ChainFault::NotForSigning, certificate: Some(Box::new(certificate)) }
    }

    /// What is wrong.
    pub fn fault(&self) -> ChainFault {
        self.fault
    }

    /// Which certificate it is about: the one that has expired, is constrained, or whose issuer is unknown or did not
    /// sign it. `None` if it cannot be told.
    pub fn certificate(&self) -> Option<&ChainCertificate> {
        self.certificate.as_deref()
    }

    fn describe(&self) -> String {
        let about = match &self.certificate {
            Some(certificate) => certificate.to_string(),
            None => "a certificate of the chain".into(),
        };
        match self.fault {
            ChainFault::CriticalExtension => {
                format!("{about} has a critical extension that is not understood")
            }
            ChainFault::Expired => format!("{about} has expired"),
            ChainFault::Malformed => format!("{about} is malformed"),
            ChainFault::NameConstraint => {
                format!("{about} has name constraints that forbid the leaf's names")
            }
            ChainFault::NotAuthority => format!("{about} is no authority and issued another"),
            ChainFault::NotForSigning => {
                format!("{about} is not for signing certificates and issued another")
            }
            ChainFault::NotYetValid => format!("{about} is not valid yet"),
            ChainFault::PathLength => format!("{about} allows fewer intermediates below it"),
            ChainFault::Signature => format!("{about} was not signed by the issuer it names"),
            ChainFault::TooComplex => "the chain has too many candidates for a path".into(),
            ChainFault::UnknownIssuer => {
                format!("issuer of {about} is unknown, or an intermediate certificate is missing")
            }
            ChainFault::UnsupportedAlgorithm => {
                format!("{about} was signed with an algorithm or a kind of key that is not supported")
            }
            ChainFault::UriNameConstraint => {
                format!("{about} has uri name constraints, which are not supported")
            }
        }
    }
}

fn fault(error: &webpki::Error) -> ChainFault {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => ChainFault::Expired,
        Error::CertNotValidYet { .. } => ChainFault::NotYetValid,
        Error::EndEntityUsedAsCa => ChainFault::NotAuthority,
        Error::InvalidSignatureForPublicKey => ChainFault::Signature,
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded => ChainFault::TooComplex,
        Error::NameConstraintViolation => ChainFault::NameConstraint,
        Error::PathLenConstraintViolated => ChainFault::PathLength,
        Error::UnknownIssuer => ChainFault::UnknownIssuer,
        Error::UnsupportedCriticalExtension => ChainFault::CriticalExtension,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => ChainFault::UnsupportedAlgorithm,
        _ => ChainFault::Malformed,
    }
}

/// A refused chain, gone through once more to name the certificate. Costs parses of the chain and, for a wrong
/// signature, one check each: paid by refused handshakes only, and bounded by the length of a chain.
pub(super) struct Presented<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) bundle: &'a TrustBundle,
    pub(super) algorithms: &'a WebPkiSupportedAlgorithms,
}

impl Presented<'_> {
    fn blame(&self, error: &webpki::Error, fault: ChainFault) -> (ChainFault, Option<ChainCertificate>) {
        let culprit = match (error, fault) {
            (webpki::Error::CertExpired { not_after, .. }, _) => self.issuer_where(|certificate| {
                certificate.validity().not_after.timestamp().unsigned_abs() == not_after.as_secs()
            }),
            (webpki::Error::CertNotValidYet { not_before, .. }, _) => self.issuer_where(|certificate| {
                certificate.validity().not_before.timestamp().unsigned_abs() == not_before.as_secs()
            }),
            (_, ChainFault::NameConstraint) => {
                if let Some(culprit) = self.issuer_where(constrains_uris) {
                    return (ChainFault::UriNameConstraint, Some(culprit));
                }
                self.issuer_where(|certificate| matches!(certificate.name_constraints(), Ok(Some(_))))
            }
            (_, ChainFault::NotAuthority) => self.issuer_where(|certificate| !is_authority(certificate)),
            (_, ChainFault::CriticalExtension | ChainFault::Malformed) => self.unreadable(),
            (_, ChainFault::PathLength) => self.longest_path_violation(),
            (_, ChainFault::Signature) => {
                // For a provider, a key it will not use is a signature that does not fit.
                if let Some(culprit) = self.walk(|_, issuer| self.has_short_key(issuer)) {
                    return (ChainFault::UnsupportedAlgorithm, Some(culprit));
                }
                self.walk(|child, issuer| !self.signed(child, issuer))
            }
            (_, ChainFault::UnknownIssuer) => self.walk(|_, _| false),
            (_, ChainFault::UnsupportedAlgorithm) => {
                self.walk(|child, issuer| !self.verifiable(child, issuer))
            }
            _ => None,
        };
        (fault, culprit)
    }

    /// The first certificate that webpki cannot read: it does not say which.
    fn unreadable(&self) -> Option<ChainCertificate> {
        let places = (0..self.intermediates.len()).map(Place::Intermediate);
        iter::once(Place::Leaf)
            .chain(places)
            .find(|place| self.der(*place).is_some_and(|der| EndEntityCert::try_from(der).is_err()))
            .map(|place| self.name(place))
    }

    /// The first issuer of which this holds: the intermediates in their order, then the roots.
    fn issuer_where(&self, holds: impl Fn(&X509Certificate<'_>) -> bool) -> Option<ChainCertificate> {
        let places = (0..self.intermediates.len()).map(Place::Intermediate);
        places
            .chain((0..self.bundle.certificates().len()).map(Place::Root))
            .find(|place| self.der(*place).and_then(parse_certificate).is_some_and(|it| holds(&it)))
            .map(|place| self.name(place))
    }

    /// Goes from the leaf towards a root by names. Stops at the first certificate whose issuer is not there, or for
    /// whose issuer `breaks` holds, and returns it.
    fn walk(&self, breaks: impl Fn(Place, Place) -> bool) -> Option<ChainCertificate> {
        let mut place = Place::Leaf;
        for _ in 0..=self.intermediates.len() {
            let Some(issuer) = self.issuer_of(place) else { return Some(self.name(place)) };
            if breaks(place, issuer) {
                return Some(self.name(place));
            }
            if matches!(issuer, Place::Root(_)) {
                return None;
            }
            place = issuer;
        }
        None
    }

    fn issuer_of(&self, place: Place) -> Option<Place> {
        let der = self.der(place)?;
        let child = parse_certificate(der)?;
        let bears_name = |candidate: &Place| {
            self.der(*candidate)
                .filter(|it| ***it != **der)
                .and_then(parse_certificate)
                .is_some_and(|issuer| issuer.subject().as_raw() == child.issuer().as_raw())
        };
        let roots = (0..self.bundle.certificates().len()).map(Place::Root);
        roots.chain((0..self.intermediates.len()).map(Place::Intermediate)).find(bears_name)
    }

    fn signed(&self, child: Place, issuer: Place) -> bool {
        let Some((child, issuer)) = self.der(child).zip(self.der(issuer)) else { return false };
        let Some(issuer) = parse_certificate(issuer) else { return false };
        Signed::parse(child).is_some_and(|signed| signed.is_by(issuer.public_key().raw, self.algorithms))
    }

    fn has_short_key(&self, place: Place) -> bool {
        let Some(issuer) = self.der(place).and_then(parse_certificate) else { return false };
        matches!(issuer.public_key().parsed(), Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS)
    }

    fn verifiable(&self, child: Place, issuer: Place) -> bool {
        let Some((child, issuer)) = self.der(child).zip(self.der(issuer)) else { return false };
        let Some(issuer) = parse_certificate(issuer) else { return false };
        Signed::parse(child)
            .is_some_and(|signed| signed.has_algorithm(issuer.public_key().raw, self.algorithms))
    }

    fn longest_path_violation(&self) -> Option<ChainCertificate> {
        let (mut place, mut below) = (Place::Leaf, 0);
        for _ in 0..=self.intermediates.len() {
            place = self.issuer_of(place)?;
            let certificate = self.der(place).and_then(parse_certificate)?;
            let limit = certificate.basic_constraints().ok()??.value.path_len_constraint;
            if limit.is_some_and(|limit| below > limit) {
                return Some(self.name(place));
            }
            below += 1;
        }
        None
    }

    fn der(&self, place: Place) -> Option<&CertificateDer<'_>> {
        match place {
            Place::Leaf => Some(self.leaf),
            Place::Intermediate(index) => self.intermediates.get(index),
            Place::Root(index) => self.bundle.certificates().get(index),
        }
    }

    fn name(&self, place: Place) -> ChainCertificate {
        ChainCertificate::new(place, self.der(place).unwrap_or(self.leaf))
    }
}

fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    matches!(certificate.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca)
}

fn constrains_uris(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(constraints)) = certificate.name_constraints() else { return false };
    let constraints = constraints.value;
    [&constraints.permitted_subtrees, &constraints.excluded_subtrees]
        .into_iter()
        .flatten()
        .flatten()
        .any(|subtree| matches!(subtree.base, GeneralName::URI(_)))
}

/// What every provider asks of a key of RSA at least.
const MIN_RSA_BITS: usize = 2048;
