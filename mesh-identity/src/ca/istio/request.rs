//! What is sent: a signing request for a new key, and for whom.

use std::time::Duration;

use prost_types::{Struct, Value, value::Kind};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::{SpiffeId, proto::istio::IstioCertificateRequest};

/// A signing request, and the key it is for.
pub(super) struct SigningRequest {
    pub(super) pem: String,
    /// Overwritten at the end of the request, however that ends.
    pub(super) key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
}

impl SigningRequest {
    /// Makes a P-256 key and a request that names `id` and nothing else: no subject, so that the alternative
    /// name is critical.
    pub(super) fn new(id: &SpiffeId) -> Result<Self, rcgen::Error> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        let pem = params.serialize_request(&*key)?.pem()?;
        Ok(Self { pem, key: Zeroizing::new(key.serialize_der().into()) })
    }
}

/// The message. A caller who asks for itself sends no metadata at all.
pub(super) fn message(
    csr: String,
    lifetime: Duration,
    impersonated: Option<&SpiffeId>,
) -> IstioCertificateRequest {
    IstioCertificateRequest {
        csr,
        validity_duration: i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
        metadata: impersonated.map(|id| {
            let id = Value { kind: Some(Kind::StringValue(id.to_string())) };
            Struct { fields: [(IMPERSONATED.to_owned(), id)].into() }
        }),
    }
}

const IMPERSONATED: &str = "ImpersonatedIdentity";

#[cfg(test)]
mod tests {
    use prost::Message;
    use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
    use x509_parser::{
        certification_request::X509CertificationRequest,
        extensions::{GeneralName, ParsedExtension},
        prelude::FromDer,
    };

    use super::*;

    const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

    fn id() -> SpiffeId {
        ID.parse().unwrap()
    }

    // identity#24
    #[test]
    fn request_names_the_id_in_one_critical_extension_and_has_no_subject() {
        let request = SigningRequest::new(&id()).unwrap();
        assert!(request.pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        let der = CertificateSigningRequestDer::from_pem_slice(request.pem.as_bytes()).unwrap();
        let (rest, csr) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        csr.verify_signature().unwrap();
        let info = &csr.certification_request_info;
        // ecdsa-with-SHA256 over a key on P-256.
        assert_eq!(csr.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
        let curve = info.subject_pki.algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
        assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7");
        assert_eq!(info.subject.iter().count(), 0);
        assert_eq!(info.iter_attributes().count(), 1);
        let extensions: Vec<_> = csr.requested_extensions().unwrap().collect();
        let [ParsedExtension::SubjectAlternativeName(names)] = extensions.as_slice() else {
            panic!("{extensions:?}")
        };
        assert_eq!(names.general_names, [GeneralName::URI(ID)]);
        // The parser above drops what is critical: SubjectAlternativeName, TRUE, then its octets.
        let critical = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
        assert!(der.windows(critical.len()).any(|window| window == critical));
    }

    // identity#25
    #[test]
    fn every_request_has_its_own_key() {
        let [one, other] = [0, 1].map(|_| SigningRequest::new(&id()).unwrap());
        assert_ne!(one.key.secret_pkcs8_der(), other.key.secret_pkcs8_der());
    }

    // identity#26, identity#27, identity#28, identity#87
    #[test]
    fn bytes_are_those_of_the_field_table() {
        // 1: csr, 3: seconds.
        let own = b"\x0a\x03CSR\x18\x90\x1c";
        assert_eq!(message("CSR".into(), Duration::from_secs(3600), None).encode_to_vec(), own);

        // 4: Struct { 1: entry { 1: key, 2: Value { 3: string } } }
        let value = [&[0x1a, u8::try_from(ID.len()).unwrap()], ID.as_bytes()].concat();
        let entry =
            [&[0x0a, 20], &b"ImpersonatedIdentity"[..], &[0x12, u8::try_from(value.len()).unwrap()], &value]
                .concat();
        let fields = [&[0x0a, u8::try_from(entry.len()).unwrap()], &entry[..]].concat();
        let metadata = [&[0x22, u8::try_from(fields.len()).unwrap()], &fields[..]].concat();
        let golden = [&own[..], &metadata].concat();
        assert_eq!(message("CSR".into(), Duration::from_secs(3600), Some(&id())).encode_to_vec(), golden);
    }
}
