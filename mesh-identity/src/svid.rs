//! A certificate chain with its private key.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    ChainCertificate, LeafError, Place, SpiffeId,
    leaf::{Leaf, parse_certificate},
    signed::Signed,
};

/// An X.509-SVID: what a workload proves its identity with.
///
/// A value obeys the leaf rules of the X.509-SVID standard, its private key belongs to its leaf
/// certificate, and each certificate of its chain was issued by the next. Whether it is in date, and who trusts its issuer,
/// is for the peer to say. The private key has no way out and is not printed; it lives in the memory of the cryptography
/// provider, which overwrites it at the end.
pub struct X509Svid {
    id: SpiffeId,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    key: Arc<CertifiedKey>,
}

impl X509Svid {
    /// The most intermediates a chain may have: no peer that verifies with webpki takes more.
    pub const MAX_INTERMEDIATES: usize = 6;

    /// Makes an SVID of a chain, leaf first, and a private key. Self-signed certificates after the leaf are
    /// left out: a peer knows its roots.
    ///
    /// Costs two parses of the leaf and one of the key; done once per rotation.
    ///
    /// # Errors
    ///
    /// If the leaf is not one, an intermediate cannot be read or did not issue the certificate before it, there are more
    /// than [`MAX_INTERMEDIATES`](Self::MAX_INTERMEDIATES), `provider` cannot use the key, or the key is not the leaf's.
    pub fn from_der(
        chain: impl IntoIterator<Item = CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, SvidError> {
        // Overwritten on every way out, as is the copy that the provider takes.
        let key = Zeroizing::new(key);
        let mut chain = chain.into_iter();
        let leaf = chain.next().ok_or(SvidError::NoCertificate)?;
        let facts = Leaf::parse(&leaf)?;
        let mut sent = vec![leaf.clone()];
        for (index, certificate) in chain.enumerate() {
            let parsed = parse_certificate(&certificate).ok_or(SvidError::Intermediate { index })?;
            let algorithms = &provider.signature_verification_algorithms;
            let own_key = |signed: Signed<'_>| signed.is_by(parsed.public_key().raw, algorithms);
            // A root, unlike the certificate by which an old root vouches for a new one of the same name (RFC 4210 §4.4).
            if parsed.subject().as_raw() == parsed.issuer().as_raw()
                && Signed::parse(&certificate).is_some_and(own_key)
            {
                continue;
            }
            if sent.len() > Self::MAX_INTERMEDIATES {
                return Err(SvidError::TooManyIntermediates);
            }
            let signed = sent.last().and_then(|previous| Signed::parse(previous));
            if !signed.is_some_and(|signed| signed.is_by(parsed.public_key().raw, algorithms)) {
                let certificate = Box::new(ChainCertificate::new(Place::Intermediate(index), &certificate));
                return Err(SvidError::Order { certificate });
            }
            sent.push(certificate);
        }
        let key = provider.key_provider.load_private_key(key.clone_key().into()).map_err(SvidError::Key)?;
        let key = CertifiedKey::new(sent, key);
        key.keys_match().map_err(SvidError::KeyMismatch)?;
        Ok(Self {
            serial: facts.serial(),
            not_before: facts.not_before(),
            not_after: facts.not_after(),
            id: facts.into_id(),
            key: Arc::new(key),
        })
    }

    /// Makes an SVID of PEM texts: the chain, leaf first, and a key in a `PRIVATE KEY` (PKCS#8) section.
    ///
    /// # Errors
    ///
    /// As [`from_der`](Self::from_der), and if a text is not PEM or the key is in another format.
    pub fn from_pem(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, SvidError> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(SvidError::ChainPem)?;
        match PrivateKeyDer::from_pem_slice(key).map_err(SvidError::KeyPem)? {
            PrivateKeyDer::Pkcs8(key) => Self::from_der(chain, key, provider),
            mut other => {
                other.zeroize();
                Err(SvidError::KeyFormat)
            }
        }
    }

    /// Whom it proves.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The leaf's serial number in decimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The first moment the leaf is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last moment the leaf is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificates a peer is sent: the leaf, then intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why a chain and a key make no SVID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// The chain is not PEM.
    #[error("certificate chain is not pem")]
    ChainPem(#[source] pem::Error),
    /// A certificate after the leaf cannot be read.
    #[error("intermediate certificate {index} is malformed")]
    Intermediate {
        /// Its place after the leaf, from zero.
        index: usize,
    },
    /// The cryptography provider cannot use the private key.
    #[error("private key is unusable")]
    Key(#[source] rustls::Error),
    /// The private key is in a section other than `PRIVATE KEY`.
    #[error("private key is not in pkcs#8 format")]
    KeyFormat,
    /// The private key is not the leaf's, or the provider cannot tell.
    #[error("private key does not belong to the leaf certificate")]
    KeyMismatch(#[source] rustls::Error),
    /// The private key is not PEM.
    #[error("private key is not pem")]
    KeyPem(#[source] pem::Error),
    /// The leaf breaks a rule of the X.509-SVID standard.
    #[error("leaf certificate is no svid")]
    Leaf(#[from] LeafError),
    /// The chain is empty.
    #[error("certificate chain is empty")]
    NoCertificate,
    /// A certificate after the leaf did not issue the one before it: the chain is out of order, has a gap, or has a
    /// certificate that does not belong to it.
    #[error("{certificate} did not issue the certificate before it")]
    Order {
        /// Which.
        certificate: Box<ChainCertificate>,
    },
    /// There are more intermediates than [`X509Svid::MAX_INTERMEDIATES`].
    #[error("certificate chain has more than {} intermediates", X509Svid::MAX_INTERMEDIATES)]
    TooManyIntermediates,
}
