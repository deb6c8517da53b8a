//! A certificate authority: what it signs, and for how long.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_identity::{SpiffeId, TrustDomain};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer,
        pem::{Error as PemError, PemObject},
    },
    version::TLS13,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// The texts an authority is made of, in PEM, as in Istio's secret `cacerts`.
#[derive(Clone)]
pub(super) struct AuthorityPem {
    /// The certificate it signs with.
    pub(super) certificate: String,
    /// Its key, PKCS#8; overwritten at the end.
    pub(super) key: Zeroizing<String>,
    /// All roots that clients are to trust; empty if the certificate is the only one.
    pub(super) roots: String,
    /// The intermediates from the certificate up to a root.
    pub(super) chain: String,
}

/// Prints nothing: among it is a private key.
impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityPem").finish_non_exhaustive()
    }
}

impl Hash for AuthorityPem {
    fn hash<H: Hasher>(&self, state: &mut H) {
        [&self.certificate, &*self.key, &self.roots, &self.chain].hash(state);
    }
}

impl AuthorityPem {
    /// A new root, as long-lived as Istio's own.
    pub(super) fn generate(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, rcgen::Error> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + ROOT_LIFETIME).into();
        let certificate = params.self_signed(&*key)?.pem();
        let key = Zeroizing::new(key.serialize_pem());
        Ok(Self { certificate, key, roots: String::new(), chain: String::new() })
    }
}

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    /// What follows a leaf, in PEM, each of its own.
    intermediates: Vec<String>,
    roots: String,
}

impl Authority {
    /// Reads an authority.
    ///
    /// # Errors
    ///
    /// If a text is no good, or the key is not the certificate's.
    pub(super) fn new(pem: &AuthorityPem) -> Result<Self, AuthorityError> {
        let certificates = |name, text: &str| {
            CertificateDer::pem_slice_iter(text.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| AuthorityError::Pem { name, source })
        };
        let [certificate] = &certificates("ca-cert.pem", &pem.certificate)?[..] else {
            return Err(AuthorityError::NotOneCertificate);
        };
        let key = KeyPair::from_pem(&pem.key).map_err(AuthorityError::Key)?;
        let facts = CertificateFacts::read(certificate).ok_or(AuthorityError::Malformed)?;
        if facts.public_key != key.subject_public_key_info() {
            return Err(AuthorityError::KeyMismatch);
        }
        let mut roots = certificates("root-cert.pem", &pem.roots)?;
        if roots.is_empty() {
            roots.push(certificate.clone());
        }
        let mut chain = vec![certificate.clone()];
        chain.extend(certificates("cert-chain.pem", &pem.chain)?);
        chain.dedup();
        // Clients have the roots.
        chain.retain(|certificate| !roots.contains(certificate));
        let not_after = chain
            .iter()
            .filter_map(|certificate| CertificateFacts::read(certificate))
            .map(|facts| facts.not_after)
            .fold(facts.not_after, SystemTime::min);
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(certificate, key).map_err(AuthorityError::Issuer)?,
            not_after,
            intermediates: chain.iter().map(pem_of).collect(),
            roots: roots.iter().map(pem_of).collect(),
        })
    }

    /// All roots, in PEM.
    pub(super) fn roots(&self) -> &str {
        &self.roots
    }

    /// Signs the key of a request for `id`; nothing else of the request counts.
    ///
    /// # Errors
    ///
    /// As Istio's authority, with the same gRPC codes.
    pub(super) fn sign(
        &self,
        request: &str,
        id: &SpiffeId,
        seconds: i64,
        limits: &Limits,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let not_after = limits.not_after(seconds, self.not_after, now)?;
        let request = CertificateSigningRequestParams::from_pem(request).map_err(SignError::Request)?;
        self.sign_key(&request.public_key, id, not_after, now)
    }

    /// The answer for a leaf: itself, the intermediates, and all roots in one text.
    pub(super) fn answer(&self, leaf: String) -> Vec<String> {
        let mut answer = vec![leaf];
        answer.extend_from_slice(&self.intermediates);
        answer.push(self.roots.clone());
        answer
    }

    /// A leaf for a key that nobody has.
    pub(super) fn sign_foreign_key(
        &self,
        id: &SpiffeId,
        not_after: SystemTime,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let key = KeyPair::generate().map_err(SignError::Sign)?;
        self.sign_key(&key, id, not_after, now)
    }

    fn sign_key(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        not_after: SystemTime,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(SignError::Sign)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = not_after.into();
        Ok(params.signed_by(key, &self.issuer).map_err(SignError::Sign)?.pem())
    }

    /// How this authority's own server proves its names.
    pub(super) fn server_config(
        &self,
        names: &[String],
        provider: &Arc<CryptoProvider>,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Server)?;
        let mut params = CertificateParams::new(names).map_err(AuthorityError::Server)?;
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = self.not_after.into();
        let leaf = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Server)?;
        let mut chain = vec![leaf.der().clone()];
        for intermediate in &self.intermediates {
            chain.extend(CertificateDer::from_pem_slice(intermediate.as_bytes()));
        }
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_no_client_auth().with_single_cert(chain, key.into())
            })
            .map_err(AuthorityError::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What is not said by the library that signs.
struct CertificateFacts {
    public_key: Vec<u8>,
    not_after: SystemTime,
}

impl CertificateFacts {
    fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            public_key: certificate.public_key().raw.to_vec(),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }
}

fn pem_of(certificate: &CertificateDer<'static>) -> String {
    let format = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", certificate.as_ref()), format)
}

/// How long certificates may be valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) default: Duration,
    pub(super) most: Duration,
}

impl Limits {
    /// The end of a certificate: what was asked for or the default, but never past the end of its issuers.
    fn not_after(&self, seconds: i64, issuers: SystemTime, now: SystemTime) -> Result<SystemTime, SignError> {
        if issuers <= now {
            return Err(SignError::SignerExpired);
        }
        let lifetime = match u64::try_from(seconds) {
            Ok(0) | Err(_) => self.default,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        if lifetime > self.most {
            return Err(SignError::Lifetime { asked: lifetime, most: self.most });
        }
        Ok((now + lifetime).min(issuers))
    }
}

/// Why an authority cannot work with what it was given.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The certificate cannot sign.
    #[error("ca-cert.pem cannot be used")]
    Issuer(#[source] rcgen::Error),
    /// The key cannot be read.
    #[error("ca-key.pem cannot be used")]
    Key(#[source] rcgen::Error),
    /// The key belongs to another certificate.
    #[error("ca-key.pem is not the key of ca-cert.pem")]
    KeyMismatch,
    /// The certificate cannot be read.
    #[error("ca-cert.pem is malformed")]
    Malformed,
    /// There is no certificate, or more than one.
    #[error("ca-cert.pem does not contain exactly one certificate")]
    NotOneCertificate,
    /// A file is not PEM.
    #[error("{name} is not PEM")]
    Pem {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        source: PemError,
    },
    /// The server's own certificate cannot be made.
    #[error("the certificate of this server cannot be made")]
    Server(#[source] rcgen::Error),
    /// The server's own certificate cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why a request is not signed.
#[derive(Debug, Error)]
pub(super) enum SignError {
    #[error("a lifetime of {asked:?} is more than {most:?}")]
    Lifetime { asked: Duration, most: Duration },
    #[error("the signing request cannot be used")]
    Request(#[source] rcgen::Error),
    #[error("the certificate cannot be made")]
    Sign(#[source] rcgen::Error),
    #[error("the certificate that signs has expired")]
    SignerExpired,
}

/// How far a client's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(120);
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LIMITS: Limits = Limits { default: DAY, most: Duration::from_secs(90 * 24 * 60 * 60) };

    // identity §2.1
    #[test]
    fn lifetimes_are_defaulted_refused_and_clamped() {
        let now = SystemTime::now();
        let far = now + DAY * 3650;
        let end = |seconds, issuers| LIMITS.not_after(seconds, issuers, now);
        assert_eq!(end(3600, far).unwrap(), now + Duration::from_secs(3600));
        for unset in [0, -1, i64::MIN] {
            assert_eq!(end(unset, far).unwrap(), now + DAY);
        }
        let soon = now + Duration::from_secs(60);
        assert_eq!(end(0, soon).unwrap(), soon);
        assert_eq!(end(3600, soon).unwrap(), soon);
        assert!(end(90 * 24 * 3600, far).is_ok());
        assert!(matches!(end(90 * 24 * 3600 + 1, far), Err(SignError::Lifetime { .. })));
        assert!(matches!(end(i64::MAX, far), Err(SignError::Lifetime { .. })));
        assert!(matches!(end(60, now), Err(SignError::SignerExpired)));
    }

    fn generated() -> AuthorityPem {
        AuthorityPem::generate(&"example.org".parse().unwrap(), SystemTime::now()).unwrap()
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (good, other) = (generated(), generated());
        assert!(Authority::new(&good).is_ok());
        let with = |change: fn(&mut AuthorityPem, AuthorityPem)| {
            let mut pem = good.clone();
            change(&mut pem, other.clone());
            Authority::new(&pem).map(drop).unwrap_err()
        };
        assert!(matches!(with(|pem, other| pem.key = other.key), AuthorityError::KeyMismatch));
        assert!(matches!(with(|pem, _| pem.key.clear()), AuthorityError::Key(_)));
        assert!(matches!(with(|pem, _| pem.certificate.clear()), AuthorityError::NotOneCertificate));
        assert!(matches!(
            with(|pem, other| pem.certificate += &other.certificate),
            AuthorityError::NotOneCertificate
        ));
        let torn = with(|pem, other| pem.roots = other.certificate.replace("-----END", "----"));
        assert!(matches!(torn, AuthorityError::Pem { name: "root-cert.pem", .. }));
    }

    #[test]
    fn an_intermediate_is_sent_and_a_root_is_not() {
        let root = generated();
        let answer = Authority::new(&root).unwrap().answer("leaf".into());
        assert_eq!(answer.len(), 2);

        let (key, root_key) = (KeyPair::generate().unwrap(), KeyPair::from_pem(&root.key).unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = (SystemTime::now() + DAY).into();
        let issuer = Issuer::from_ca_cert_pem(&root.certificate, root_key).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let pem = AuthorityPem {
            // As Istio's tools write it: up to the root.
            chain: format!("{certificate}{}", root.certificate),
            certificate,
            key: Zeroizing::new(key.serialize_pem()),
            roots: format!("{}{}", root.certificate, generated().certificate),
        };
        let authority = Authority::new(&pem).unwrap();
        let answer = authority.answer("leaf".into());
        assert_eq!(answer.len(), 3);
        assert_eq!(answer[2].matches("BEGIN CERTIFICATE").count(), 2);
        assert!(authority.not_after <= SystemTime::now() + DAY);
    }
}
