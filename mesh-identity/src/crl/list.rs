//! Revocation lists as their issuers publish them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem, pem::PemObject},
};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::{leaf::system_time, signed::Signed};

/// The revocation lists of any number of issuers, several of one issuer included.
///
/// Reading them checks their form. Who signed a list is checked when the first certificate of its issuer is, against
/// the key that issued that certificate, and remembered: two authorities may bear the same name, as while a root is
/// replaced, and each list counts for its own signer only.
#[derive(Clone, Default)]
pub struct RevocationLists {
    lists: Vec<Arc<RevocationList>>,
    /// Indexes into `lists`.
    by_issuer: HashMap<Box<[u8]>, Vec<usize>>,
}

impl RevocationLists {
    /// The most lists in one set.
    pub const MAX_LISTS: usize = 1024;

    /// Reads lists from PEM text, in which other sections are skipped, or from one list in DER. Nothing at all, as an
    /// empty file, is an empty set.
    ///
    /// # Errors
    ///
    /// If a list cannot be read or is of an unsupported kind (see [`RevocationListError`]): the whole set is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationListError> {
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        // Only DER starts with a constructed sequence; text may start with comments.
        if bytes.first() == Some(&DER_SEQUENCE) {
            Self::from_der([CertificateRevocationListDer::from(bytes)])
        } else if blank {
            Ok(Self::default())
        } else {
            let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .map_err(RevocationListError::Pem)?;
            if lists.is_empty() && !is_pem(bytes) {
                return Err(RevocationListError::Pem(pem::Error::NoItemsFound));
            }
            Self::from_der(lists)
        }
    }

    /// Makes a set of lists in DER; the same one twice counts once.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn from_der<'a>(
        lists: impl IntoIterator<Item = CertificateRevocationListDer<'a>>,
    ) -> Result<Self, RevocationListError> {
        let mut set = Self::default();
        for (index, der) in lists.into_iter().enumerate() {
            if index >= Self::MAX_LISTS {
                return Err(RevocationListError::TooMany);
            }
            set.push(RevocationList::parse(&der, index)?);
        }
        Ok(set)
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// How many certificates the lists name.
    pub fn revoked_certificates(&self) -> usize {
        self.lists.iter().map(|list| list.revoked).sum()
    }

    /// When the first of the lists should be replaced.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.lists.iter().map(|list| list.next_update).min()
    }

    /// Whether a list could name one of these certificates: one of their issuers has published a list.
    pub(super) fn concern(&self, chain: &[CertificateDer<'_>]) -> bool {
        !self.is_empty()
            && chain.iter().any(|der| {
                webpki::EndEntityCert::try_from(der)
                    .is_ok_and(|certificate| self.by_issuer.contains_key(certificate.issuer()))
            })
    }

    /// How many lists no key has been seen to have signed yet.
    pub(super) fn unattributed(&self) -> usize {
        self.lists.iter().filter(|list| list.signer.get().is_none()).count()
    }

    /// The lists that bear the name of this issuer.
    pub(super) fn named(&self, issuer: &[u8]) -> impl Iterator<Item = &RevocationList> {
        let indexes = self.by_issuer.get(issuer).map_or(&[][..], Vec::as_slice);
        indexes.iter().filter_map(|index| self.lists.get(*index)).map(|list| &**list)
    }

    fn push(&mut self, list: RevocationList) {
        if self.lists.iter().any(|present| present.der == list.der) {
            return;
        }
        self.by_issuer.entry(list.parsed.issuer().into()).or_default().push(self.lists.len());
        self.lists.push(Arc::new(list));
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationLists")
            .field("lists", &self.len())
            .field("revoked_certificates", &self.revoked_certificates())
            .finish_non_exhaustive()
    }
}

/// One list.
pub(super) struct RevocationList {
    pub(super) parsed: CertRevocationList<'static>,
    pub(super) next_update: SystemTime,
    /// Whether it covers only some of its issuer's certificates, so that its silence proves nothing.
    pub(super) partial: bool,
    revoked: usize,
    der: Box<[u8]>,
    /// The key that made the signature, once it has been seen.
    signer: OnceLock<Box<[u8]>>,
    /// Keys that did not, so that they are not tried in every handshake until the signer's is seen.
    strangers: ArcSwap<Vec<Box<[u8]>>>,
}

impl RevocationList {
    fn parse(der: &[u8], index: usize) -> Result<Self, RevocationListError> {
        let parsed = OwnedCertRevocationList::from_der(der).map_err(|error| match error {
            webpki::Error::UnsupportedCrlVersion
            | webpki::Error::UnsupportedDeltaCrl
            | webpki::Error::UnsupportedIndirectCrl
            | webpki::Error::UnsupportedRevocationReasonsPartitioning
            | webpki::Error::UnsupportedCriticalExtension => {
                RevocationListError::Unsupported { index, feature: feature(&error) }
            }
            _ => RevocationListError::Malformed { index },
        })?;
        let parsed = CertRevocationList::from(parsed);
        let (_, facts) =
            CertificateRevocationList::from_der(der).map_err(|_| RevocationListError::Malformed { index })?;
        let next_update = facts.next_update().ok_or(RevocationListError::Malformed { index })?;
        Ok(Self {
            next_update: system_time(next_update),
            partial: parsed.issuing_distribution_point().is_some(),
            revoked: facts.iter_revoked_certificates().count(),
            der: der.into(),
            signer: OnceLock::new(),
            strangers: ArcSwap::default(),
            parsed,
        })
    }

    /// Whether the holder of this key published the list. The signature is checked once for a key.
    pub(super) fn is_by(&self, key_info: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        if let Some(signer) = self.signer.get() {
            return **signer == *key_info;
        }
        if self.strangers.load().iter().any(|stranger| **stranger == *key_info) {
            return false;
        }
        let Some(signed) = Signed::parse(&self.der) else { return false };
        if signed.is_by(key_info, algorithms) {
            return **self.signer.get_or_init(|| key_info.into()) == *key_info;
        }
        // What this provider cannot tell another may: lists are shared.
        if !signed.has_algorithm(key_info, algorithms) {
            return false;
        }
        // Of two threads that do this at once one may win; the other key is tried once more.
        let mut strangers = Vec::clone(&self.strangers.load());
        if strangers.len() < MAX_STRANGERS {
            strangers.push(key_info.into());
            self.strangers.store(Arc::new(strangers));
        }
        false
    }
}

/// Why bytes are no revocation lists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationListError {
    /// A list is not well-formed.
    #[error("revocation list {index} is malformed")]
    Malformed {
        /// Its place, from zero.
        index: usize,
    },
    /// The bytes are neither DER nor PEM.
    #[error("revocation lists are not pem")]
    Pem(#[source] pem::Error),
    /// More than [`RevocationLists::MAX_LISTS`].
    #[error("more than {} revocation lists", RevocationLists::MAX_LISTS)]
    TooMany,
    /// A list is of a kind that is not understood: version 1 (what `openssl ca` makes unless `crl_extensions` is set),
    /// a delta, an indirect list, or one with a critical extension.
    #[error("revocation list {index} is {feature}, which is not supported")]
    Unsupported {
        /// Its place, from zero.
        index: usize,
        /// What it is.
        feature: &'static str,
    },
}

fn feature(error: &webpki::Error) -> &'static str {
    match error {
        webpki::Error::UnsupportedCrlVersion => "of version 1",
        webpki::Error::UnsupportedDeltaCrl => "a delta",
        webpki::Error::UnsupportedIndirectCrl => "indirect",
        webpki::Error::UnsupportedRevocationReasonsPartitioning => "for some reasons only",
        _ => "one with a critical extension",
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN)
}

const DER_SEQUENCE: u8 = 0x30;
/// Keys remembered of authorities that bear the name of a list's issuer: more than roots are replaced at once.
const MAX_STRANGERS: usize = 16;
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        leaf::parse_certificate,
        testing::{Authority, provider},
    };

    #[test]
    fn a_key_that_did_not_sign_is_tried_once() {
        let (signer, namesake) = (Authority::new("example.org"), Authority::new("example.org"));
        let key = |ca: &Authority| parse_certificate(&ca.root()).unwrap().public_key().raw.to_vec();
        let algorithms = provider().signature_verification_algorithms;
        let list = RevocationList::parse(&signer.revocation_list().der(), 0).unwrap();
        for _ in 0..2 {
            assert!(!list.is_by(&key(&namesake), &algorithms));
            assert_eq!(list.strangers.load().len(), 1);
        }
        assert!(list.is_by(&key(&signer), &algorithms));
        assert!(!list.is_by(&key(&namesake), &algorithms));
    }

    #[test]
    fn what_a_provider_cannot_check_is_not_remembered() {
        let signer = Authority::new("example.org");
        let key = parse_certificate(&signer.root()).unwrap().public_key().raw.to_vec();
        let whole = provider().signature_verification_algorithms;
        let poor = WebPkiSupportedAlgorithms { all: &[], mapping: &[] };
        let list = RevocationList::parse(&signer.revocation_list().der(), 0).unwrap();
        assert!(!list.is_by(&key, &poor));
        assert!(list.is_by(&key, &whole));
    }

    #[test]
    fn no_more_keys_are_remembered_than_there_is_room_for() {
        let signer = Authority::new("example.org");
        let list = RevocationList::parse(&signer.revocation_list().der(), 0).unwrap();
        let algorithms = provider().signature_verification_algorithms;
        for _ in 0..2 * MAX_STRANGERS {
            let stranger = Authority::new("example.org").root();
            let key = parse_certificate(&stranger).unwrap().public_key().raw.to_vec();
            assert!(!list.is_by(&key, &algorithms));
        }
        assert_eq!(list.strangers.load().len(), MAX_STRANGERS);
    }
}
