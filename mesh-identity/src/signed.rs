//! The signature that certificates and revocation lists carry (RFC 5280 §4.1.1, §5.1.1).

use rustls::{crypto::WebPkiSupportedAlgorithms, pki_types::SignatureVerificationAlgorithm};
use x509_parser::asn1_rs::{Any, BitString, FromDer, Tag};

/// A signed structure, taken apart and not judged.
pub(crate) struct Signed<'a> {
    content: &'a [u8],
    algorithm: &'a [u8],
    signature: BitString<'a>,
}

impl<'a> Signed<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, outer) = sequence(der)?;
        let (after_content, _) = Any::from_der(outer).ok()?;
        let content = outer.get(..outer.len() - after_content.len())?;
        let (after_algorithm, algorithm) = sequence(after_content)?;
        let (end, signature) = BitString::from_der(after_algorithm).ok()?;
        (rest.is_empty() && end.is_empty()).then_some(Self { content, algorithm, signature })
    }

    /// Whether the key of this `SubjectPublicKeyInfo` made the signature. An algorithm that the provider lacks
    /// proves nothing.
    pub(crate) fn is_by(&self, key_info: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let Some((_, key)) = public_key(key_info) else { return false };
        self.candidates(key_info, algorithms).any(|algorithm| {
            algorithm.verify_signature(key.as_ref(), self.content, self.signature.as_ref()).is_ok()
        })
    }

    /// Whether the provider can tell.
    pub(crate) fn has_algorithm(&self, key_info: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        self.candidates(key_info, algorithms).next().is_some()
    }

    /// The algorithms that are meant: for a key of this kind and with this signature's identifier.
    fn candidates<'b>(
        &'b self,
        key_info: &'b [u8],
        algorithms: &'b WebPkiSupportedAlgorithms,
    ) -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> + use<'a, 'b> {
        let kind = public_key(key_info).map(|(kind, _)| kind);
        algorithms.all.iter().copied().filter(move |algorithm| {
            Some(algorithm.public_key_alg_id().as_ref()) == kind
                && algorithm.signature_alg_id().as_ref() == self.algorithm
        })
    }
}

fn public_key(key_info: &[u8]) -> Option<(&[u8], BitString<'_>)> {
    let (_, outer) = sequence(key_info)?;
    let (rest, algorithm) = sequence(outer)?;
    let (_, key) = BitString::from_der(rest).ok()?;
    Some((algorithm, key))
}

/// What follows a sequence, and what is in it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    (any.header.tag() == Tag::Sequence).then_some((rest, any.data))
}
