//! What makes a certificate an X.509-SVID leaf.

mod quick;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    num_bigint::BigUint,
    prelude::FromDer,
    time::ASN1Time,
};

use crate::{Role, SpiffeId, SpiffeIdError, TrustDomain};

/// A certificate that obeys the leaf rules of the X.509-SVID standard, §4 and §5. Its signature is not
/// checked here.
#[derive(Debug, PartialEq)]
pub(crate) struct Leaf<'a> {
    id: SpiffeId,
    serial: &'a [u8],
    not_before: SystemTime,
    not_after: SystemTime,
    for_clients: bool,
    for_servers: bool,
}

impl<'a> Leaf<'a> {
    pub(crate) fn parse(der: &'a CertificateDer<'_>) -> Result<Self, LeafError> {
        quick::read(der).map_or_else(|| Self::parse_in_general(der), Ok)
    }

    /// Whether the quick reader takes it; what it takes, both read the same.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn is_read_quickly(der: &[u8]) -> bool {
        let Some(quick) = quick::read(der) else { return false };
        let der = CertificateDer::from(der);
        let general = Leaf::parse_in_general(&der).unwrap_or_else(|error| panic!("{error}: {der:02x?}"));
        assert_eq!(quick, general);
        true
    }

    fn parse_in_general(der: &'a CertificateDer<'_>) -> Result<Self, LeafError> {
        let certificate = parse_certificate(der).ok_or(LeafError::Malformed)?;
        check_usage(&certificate)?;
        let id = spiffe_id(&certificate)?;
        let usage = certificate.extended_key_usage().ok();
        let permits = |is_for: fn(&ExtendedKeyUsage<'_>) -> bool| {
            // One without any may be used by both.
            usage.as_ref().is_some_and(|usage| usage.as_ref().is_none_or(|usage| is_for(usage.value)))
        };
        let validity = certificate.validity();
        Ok(Self {
            id,
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
            for_clients: permits(|usage| usage.client_auth),
            for_servers: permits(|usage| usage.server_auth),
            serial: certificate.tbs_certificate.raw_serial(),
        })
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(crate) fn into_id(self) -> SpiffeId {
        self.id
    }

    pub(crate) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The serial number in decimal.
    pub(crate) fn serial(&self) -> String {
        BigUint::from_bytes_be(self.serial).to_string()
    }

    /// Whether the certificate may be used by a peer of this role.
    pub(crate) fn permits(&self, role: Role) -> bool {
        match role {
            Role::Client => self.for_clients,
            Role::Server => self.for_servers,
        }
    }
}

/// Parses a certificate; `None` if anything about it is malformed.
pub(crate) fn parse_certificate<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    // The parser keeps an extension it cannot read and then reports it as absent: that must not lift a
    // restriction.
    let readable =
        certificate.extensions().iter().all(|extension| extension.parsed_extension().error().is_none());
    (rest.is_empty() && readable).then_some(certificate)
}

/// Whether a certificate is one of an authority, and its key is for signing certificates (RFC 5280 §4.2.1.9, §4.2.1.3).
pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let constraints = certificate.basic_constraints();
    constraints.is_ok_and(|constraints| constraints.is_some_and(|it| it.value.ca))
        && may_sign_certificates(certificate)
}

/// Whether an issuer's key usage, if it has one, permits signing certificates (RFC 5280 §6.1.4 (n)).
pub(crate) fn may_sign_certificates(certificate: &X509Certificate<'_>) -> bool {
    certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    // Not `is_ca`, which takes a repeated extension for none.
    let constraints = certificate.basic_constraints().map_err(|_| LeafError::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(LeafError::CertificateAuthority);
    }
    let usage = certificate.key_usage().map_err(|_| LeafError::Malformed)?;
    let usage = usage.ok_or(LeafError::NoDigitalSignature)?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(LeafError::SigningUsage);
    }
    if usage.digital_signature() { Ok(()) } else { Err(LeafError::NoDigitalSignature) }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // Could be a second URI that a laxer reader would see.
            GeneralName::Invalid(..) => return Err(LeafError::Malformed),
            _ => {}
        }
    }
    let uri = match uris.as_slice() {
        [uri] => *uri,
        [] => return Err(LeafError::NoUri),
        several => return Err(LeafError::SeveralUris { count: several.len() }),
    };
    let id: SpiffeId = uri.parse()?;
    if id.path().is_empty() {
        return Err(LeafError::NoPath { trust_domain: id.trust_domain().clone() });
    }
    Ok(id)
}

/// Why a certificate is not an X.509-SVID leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// It may issue certificates.
    #[error("certificate is a certificate authority")]
    CertificateAuthority,
    /// Its only URI is no SPIFFE ID.
    #[error("certificate names no valid spiffe id")]
    Id(#[from] SpiffeIdError),
    /// It is not a well-formed certificate.
    #[error("certificate is malformed")]
    Malformed,
    /// Its key usage lacks digital signature.
    #[error("certificate is not for digital signatures")]
    NoDigitalSignature,
    /// It names a trust domain, not a workload.
    #[error("certificate names the trust domain {trust_domain} itself")]
    NoPath {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// It has no URI among its subject alternative names.
    #[error("certificate names no uri")]
    NoUri,
    /// It has more than one URI among its subject alternative names.
    #[error("certificate names {count} uris instead of one")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// Its key usage allows signing certificates or revocation lists.
    #[error("certificate may sign certificates or revocation lists")]
    SigningUsage,
}

/// Saturates at the epoch: no identity was issued before it.
pub(crate) fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
