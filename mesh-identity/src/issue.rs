//! Issues certificates, for the authorities that live in this process.

use std::{fmt, time::SystemTime};

use rcgen::{
    Certificate, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

use zeroize::Zeroizing;

use crate::{SvidError, X509Svid};

/// An SVID as PEM text with its private key, for programs that take files. The key is overwritten when the value is
/// dropped.
#[derive(Clone)]
pub struct PemSvid {
    chain: String,
    key: Zeroizing<String>,
}

impl PemSvid {
    /// The certificates, leaf first.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The private key, PKCS#8.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for PemSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemSvid").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// A leaf with the intermediates that lead to its root, and its private key.
pub(crate) struct Issued {
    certificates: Vec<Certificate>,
    key: KeyPair,
}

impl Issued {
    pub(crate) fn sign(
        params: &CertificateParams,
        key: KeyPair,
        issuer: &Issuer<'_, KeyPair>,
        intermediates: &[Certificate],
    ) -> Result<Self, rcgen::Error> {
        let mut certificates = vec![params.signed_by(&key, issuer)?];
        certificates.extend_from_slice(intermediates);
        Ok(Self { certificates, key })
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.iter().map(|certificate| certificate.der().clone()).collect()
    }

    pub(crate) fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der())
    }

    pub(crate) fn svid(&self, provider: &CryptoProvider) -> Result<X509Svid, SvidError> {
        X509Svid::from_der(self.chain(), self.key(), provider)
    }

    pub(crate) fn pem(&self) -> PemSvid {
        PemSvid {
            chain: self.certificates.iter().map(Certificate::pem).collect(),
            key: Zeroizing::new(self.key.serialize_pem()),
        }
    }
}

/// What a mesh authority puts into every leaf: no subject, so that the alternative names are critical; no
/// authority; both purposes.
pub(crate) fn leaf_params(
    uri: &str,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    Ok(params)
}
