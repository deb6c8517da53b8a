//! Certificates as a configuration dump shows them.

use base64::{Engine, engine::general_purpose::STANDARD};
use mesh_identity::{IdentitySource, IdentityStatus, SpiffeId};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What is known about the certificate of one identity.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateView {
    identity: String,
    state: String,
    cert_chain: Vec<CertificateDetails>,
    root_certs: Vec<CertificateDetails>,
}

impl CertificateView {
    pub(super) fn new(id: &SpiffeId, identities: &dyn IdentitySource) -> Self {
        Self::with_status(&IdentityStatus::new(id.clone(), identities.try_svid(id)), identities)
    }

    /// What a source says of one of its identities.
    pub(super) fn with_status(status: &IdentityStatus, identities: &dyn IdentitySource) -> Self {
        let bundles = identities.bundles();
        let roots = bundles.get(status.id.trust_domain()).map(|bundle| bundle.certificates());
        let (chain, roots) = match &status.svid {
            Some(svid) => (details(svid.chain()), details(roots.unwrap_or_default())),
            None => Default::default(),
        };
        let (identity, state) = (status.id.to_string(), status.state.to_string());
        Self { identity, state, cert_chain: chain, root_certs: roots }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateDetails {
    /// PEM, once more in base64: tools expect it so.
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

fn details(chain: &[CertificateDer<'_>]) -> Vec<CertificateDetails> {
    chain.iter().filter_map(|der| CertificateDetails::new(der)).collect()
}

impl CertificateDetails {
    /// `None` for what is no certificate, which no source of identities hands out.
    fn new(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            pem: STANDARD.encode(pem(der)),
            serial_number: certificate.serial.to_string(),
            valid_from: rfc3339(validity.not_before.to_datetime())?,
            expiration_time: rfc3339(validity.not_after.to_datetime())?,
        })
    }
}

/// RFC 7468, with its lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Seconds, in UTC.
fn rfc3339(time: OffsetDateTime) -> Option<String> {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.format(FORMAT).ok()
}
