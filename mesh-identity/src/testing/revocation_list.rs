//! Revocation lists of throwaway authorities.

use std::time::SystemTime;

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use super::{Authority, DAY, MINUTE};
use crate::leaf::parse_certificate;

/// A revocation list before it is signed.
#[must_use]
#[derive(Debug)]
pub struct RevocationListBuilder<'a> {
    authority: &'a Authority,
    params: CertificateRevocationListParams,
}

impl Authority {
    /// A list that revokes nothing yet, published a minute ago and to be replaced in a day.
    pub fn revocation_list(&self) -> RevocationListBuilder<'_> {
        let now = SystemTime::now();
        let params = CertificateRevocationListParams {
            this_update: (now - MINUTE).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        RevocationListBuilder { authority: self, params }
    }
}

impl RevocationListBuilder<'_> {
    /// Revokes a certificate, because of a compromised key.
    ///
    /// # Panics
    ///
    /// If it is no certificate.
    pub fn revoke(mut self, certificate: &CertificateDer<'_>) -> Self {
        let serial = parse_certificate(certificate).expect("a certificate").raw_serial().to_vec();
        self.params.revoked_certs.push(RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: (SystemTime::now() - MINUTE).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        self
    }

    /// Was published and should have been replaced at these times.
    pub fn current(mut self, this_update: SystemTime, next_update: SystemTime) -> Self {
        self.params.this_update = this_update.into();
        self.params.next_update = next_update.into();
        self
    }

    /// Should have been replaced a minute ago.
    pub fn stale(self) -> Self {
        let now = SystemTime::now();
        self.current(now - DAY, now - MINUTE)
    }

    /// Changes anything.
    pub fn customize(mut self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// Signs it: DER.
    ///
    /// # Panics
    ///
    /// If the list cannot be expressed.
    pub fn der(&self) -> Vec<u8> {
        self.params.signed_by(&self.authority.issuer).expect("a revocation list").der().to_vec()
    }

    /// Signs it: PEM.
    ///
    /// # Panics
    ///
    /// As [`der`](Self::der).
    pub fn pem(&self) -> String {
        let list = self.params.signed_by(&self.authority.issuer).expect("a revocation list");
        list.pem().expect("a revocation list")
    }
}
