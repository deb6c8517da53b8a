//! Throwaway authorities for tests, able to issue certificates that no real authority should. Exempt from
//! semver.
//!
//! Everything here panics instead of returning errors.

mod revocation_list;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

use crate::{
    IdentityStore, PemSvid, SvidError, TrustBundle, TrustBundles, TrustDomain, X509Svid,
    issue::{Issued, leaf_params},
};

pub use rcgen;
pub use revocation_list::RevocationListBuilder;

/// A cryptography provider for tests.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate authority with a root of its own, perhaps behind intermediates.
pub struct Authority {
    trust_domain: TrustDomain,
    root: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// The authority itself first; empty if it is the root.
    intermediates: Vec<Certificate>,
}

impl Authority {
    /// A new root of `trust_domain`.
    ///
    /// # Panics
    ///
    /// If that is not the name of a trust domain.
    pub fn new(trust_domain: &str) -> Self {
        Self::with_name("root", trust_domain)
    }

    /// A new root of `trust_domain` that bears this name; those of [`new`](Self::new) all bear the same.
    ///
    /// # Panics
    ///
    /// If that is not the name of a trust domain.
    pub fn with_name(name: &str, trust_domain: &str) -> Self {
        let trust_domain = trust_domain.parse().expect("a trust domain");
        let (params, key) = authority_params(name);
        let root = params.self_signed(&key).expect("a valid root");
        Self { trust_domain, root, issuer: Issuer::new(params, key), intermediates: Vec::new() }
    }

    /// A new authority that this one vouches for.
    pub fn intermediate(&self) -> Self {
        self.intermediate_with(|_| {})
    }

    /// A new authority that this one vouches for, changed before it is signed.
    pub fn intermediate_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = authority_params(&format!("intermediate {}", self.intermediates.len() + 1));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a valid intermediate");
        let mut intermediates = vec![certificate];
        intermediates.extend_from_slice(&self.intermediates);
        Self {
            trust_domain: self.trust_domain.clone(),
            root: self.root.clone(),
            issuer: Issuer::new(params, key),
            intermediates,
        }
    }

    /// An authority that this one vouched for, with another certificate for the same name and key.
    pub fn renew(&self, issued: &Self) -> Self {
        self.renew_with(issued, |_| {})
    }

    /// The same with a certificate that is changed before it is signed. The authority goes on issuing, whatever its
    /// certificate says that its key is for.
    pub fn renew_with(&self, issued: &Self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = || KeyPair::from_pem(&issued.issuer.key().serialize_pem()).expect("a key");
        let (mut params, _) = authority_params(&format!("intermediate {}", self.intermediates.len() + 1));
        // By default it follows from the key.
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
        params.serial_number = Some(SerialNumber::from_slice(&unique.as_nanos().to_be_bytes()));
        let usages = params.key_usages.clone();
        change(&mut params);
        let certificate = params.signed_by(&key(), &self.issuer).expect("a valid intermediate");
        params.key_usages = usages;
        let mut intermediates = vec![certificate];
        intermediates.extend_from_slice(&self.intermediates);
        Self {
            trust_domain: self.trust_domain.clone(),
            root: self.root.clone(),
            issuer: Issuer::new(params, key()),
            intermediates,
        }
    }

    /// The certificates that lead from this authority to its root: its own first, without the root.
    pub fn intermediates(&self) -> Vec<CertificateDer<'static>> {
        self.intermediates.iter().map(|certificate| certificate.der().clone()).collect()
    }

    /// The root certificate.
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// The root certificate as text.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The root as the bundle of its trust domain.
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::from_der(self.trust_domain.clone(), [self.root()]).expect("the root is one")
    }

    /// The root as the only bundle.
    pub fn bundles(&self) -> TrustBundles {
        TrustBundles::new([self.bundle()])
    }

    /// A flawless SVID for `id`, valid for a day.
    ///
    /// # Panics
    ///
    /// If `id` is not a workload's SPIFFE ID.
    pub fn svid(&self, id: &str) -> X509Svid {
        self.leaf(id).issue().svid().expect("a flawless leaf")
    }

    /// A store with flawless SVIDs for these ids, which trusts this authority.
    ///
    /// # Panics
    ///
    /// As [`svid`](Self::svid).
    pub fn store<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> IdentityStore {
        let store = IdentityStore::new(self.bundles());
        ids.into_iter().for_each(|id| store.insert(self.svid(id)));
        store
    }

    /// A flawless leaf for `uri`, to be spoilt.
    pub fn leaf(&self, uri: &str) -> LeafBuilder<'_> {
        let now = SystemTime::now();
        let params = leaf_params(uri, now - MINUTE, now + DAY).expect("a uri");
        LeafBuilder { authority: self, params, algorithm: KeyAlgorithm::P256, intermediates: true }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// A leaf certificate before it is signed.
#[must_use]
#[derive(Debug)]
pub struct LeafBuilder<'a> {
    authority: &'a Authority,
    params: CertificateParams,
    algorithm: KeyAlgorithm,
    intermediates: bool,
}

impl LeafBuilder<'_> {
    /// Names these URIs instead.
    ///
    /// # Panics
    ///
    /// If one is not ASCII.
    pub fn uris<'a>(mut self, uris: impl IntoIterator<Item = &'a str>) -> Self {
        self.params.subject_alt_names =
            uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("ascii"))).collect();
        self
    }

    /// Names a host as well.
    ///
    /// # Panics
    ///
    /// If it is not ASCII.
    pub fn dns_name(mut self, name: &str) -> Self {
        self.params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("ascii")));
        self
    }

    /// Claims to be an authority.
    pub fn certificate_authority(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// May sign certificates as well.
    pub fn may_sign_certificates(mut self) -> Self {
        self.params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        self
    }

    /// May sign revocation lists as well.
    pub fn may_sign_revocation_lists(mut self) -> Self {
        self.params.key_usages.push(KeyUsagePurpose::CrlSign);
        self
    }

    /// May encipher keys and nothing else.
    pub fn without_digital_signature(mut self) -> Self {
        self.params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        self
    }

    /// Says nothing about what its key is for.
    pub fn without_key_usage(mut self) -> Self {
        self.params.key_usages.clear();
        self
    }

    /// Is for clients only.
    pub fn client_only(mut self) -> Self {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// Is for servers only.
    pub fn server_only(mut self) -> Self {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// Says nothing about which side of a connection it is for.
    pub fn without_purpose(mut self) -> Self {
        self.params.extended_key_usages.clear();
        self
    }

    /// Is valid between these times.
    pub fn valid(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        self.params.not_before = not_before.into();
        self.params.not_after = not_after.into();
        self
    }

    /// Expired a minute ago.
    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        self.valid(now - DAY, now - MINUTE)
    }

    /// Becomes valid in an hour.
    pub fn not_yet_valid(self) -> Self {
        let now = SystemTime::now();
        self.valid(now + 60 * MINUTE, now + DAY)
    }

    /// Has a key of this kind.
    pub fn algorithm(mut self, algorithm: KeyAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Comes without the intermediates that lead to its root.
    pub fn without_intermediates(mut self) -> Self {
        self.intermediates = false;
        self
    }

    /// Changes anything else.
    pub fn customize(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// Signs it.
    ///
    /// # Panics
    ///
    /// If the certificate cannot be expressed.
    pub fn issue(self) -> Leaf {
        let algorithm = match self.algorithm {
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let intermediates = if self.intermediates { self.authority.intermediates.as_slice() } else { &[] };
        let issued = Issued::sign(&self.params, key, &self.authority.issuer, intermediates);
        Leaf(issued.expect("a certificate"))
    }
}

/// The kind of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256, as a mesh has.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with 2048 bits.
    Rsa,
}

/// A signed leaf, flawless or not.
pub struct Leaf(Issued);

impl Leaf {
    /// The leaf and its intermediates.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain()
    }

    /// The private key.
    pub fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.0.key()
    }

    /// Both as text.
    pub fn pem(&self) -> PemSvid {
        self.0.pem()
    }

    /// Both as an SVID.
    ///
    /// # Errors
    ///
    /// If the leaf breaks a rule for SVIDs.
    pub fn svid(&self) -> Result<X509Svid, SvidError> {
        self.0.svid(&provider())
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaf").finish_non_exhaustive()
    }
}

fn authority_params(name: &str) -> (CertificateParams, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, key)
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
