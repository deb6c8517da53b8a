//! The verifier rustls calls during a handshake.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{VerifyError, path::Path};
use crate::{ExpectedPeer, IdentitySource, Revocation, SpiffeId, TrustBundles, crl::Standing, leaf::Leaf};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// Checks the certificate chain of a peer, for clients and servers that use rustls directly.
///
/// In this order: the leaf is an X.509-SVID, its trust domain has a bundle, it is in date, it may be used by
/// a peer of this role, a path leads to a root *of its own trust domain* whose issuers may all issue, no certificate of that
/// path is revoked, and its id is expected. Names and addresses of hosts play no part, nor does the validity of a root.
/// Client certificates are mandatory.
///
/// A certificate with URI name constraints above the leaf is refused, and the error names it: webpki does not evaluate
/// them.
#[derive(Clone, Debug)]
pub struct PeerVerifier {
    trust: Trust,
    expected: ExpectedPeer,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) clock_skew: Duration,
    pub(super) revocation: Option<Revocation>,
}

impl PeerVerifier {
    /// The most certificates a peer may send. A path has at most six intermediates; some more may come beside it.
    pub const MAX_CHAIN: usize = 16;

    /// Takes `expected` peers that `bundles` vouch for.
    pub fn new(provider: &CryptoProvider, bundles: Arc<TrustBundles>, expected: ExpectedPeer) -> Self {
        Self::with_trust(provider, Trust::Fixed(bundles), expected)
    }

    /// Takes `expected` peers that the bundles of `source` vouch for, at the time of each handshake.
    pub fn live(
        provider: &CryptoProvider,
        source: impl IdentitySource + 'static,
        expected: ExpectedPeer,
    ) -> Self {
        Self::with_trust(provider, Trust::Live(Arc::new(source)), expected)
    }

    pub(crate) fn with_trust(provider: &CryptoProvider, trust: Trust, expected: ExpectedPeer) -> Self {
        Self {
            trust,
            expected,
            algorithms: provider.signature_verification_algorithms,
            clock_skew: Duration::ZERO,
            revocation: None,
        }
    }

    /// Takes certificates that became valid, or expired, so much later or earlier than now: what clocks may differ by.
    /// None by default.
    #[must_use]
    pub fn clock_skew(self, clock_skew: Duration) -> Self {
        Self { clock_skew, ..self }
    }

    /// Asks these revocation lists, as they are at the time of each handshake. None are asked by default.
    #[must_use]
    pub fn revocation(self, revocation: Revocation) -> Self {
        Self { revocation: Some(revocation), ..self }
    }

    /// Checks a chain that a peer in `role` presented, and says who the peer is. That the peer holds the
    /// private key is proved by the handshake, not here.
    ///
    /// For a connection that stands, `now` is the time of its handshake: what has merely expired since then does not count,
    /// what has been revoked or whose root has been withdrawn does.
    ///
    /// # Errors
    ///
    /// The first rule that the chain breaks.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: SystemTime,
    ) -> Result<SpiffeId, VerifyError> {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since_epoch);
        self.check(leaf, intermediates, role, now).map(|(id, _)| id)
    }

    /// The same for a handshake, whose outcome is counted.
    fn check_handshake(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        let checked = self.check(leaf, intermediates, role, now);
        if let Some(revocation) = &self.revocation {
            match &checked {
                Ok((_, Some(Standing::Stale { .. }))) => revocation.count_stale(),
                Ok((_, Some(Standing::Unknown))) => revocation.count_unknown(),
                Err(error) if error.is_revocation() => revocation.count_refused(role),
                _ => {}
            }
        }
        checked.map(drop)
    }

    /// Says who the peer is, and what about the revocation of its chain was uncertain and allowed.
    fn check(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(SpiffeId, Option<Standing>), VerifyError> {
        let certificates = intermediates.len() + 1;
        if certificates > Self::MAX_CHAIN {
            return Err(VerifyError::TooManyCertificates { certificates });
        }
        let leaf = Leaf::parse(der)?;
        let presented = || leaf.id().clone();
        let bundles = self.trust.bundles();
        let Some(bundle) = bundles.get(leaf.id().trust_domain()) else {
            return Err(VerifyError::UnknownTrustDomain { presented: presented() });
        };
        // Before the path, whose errors do not say which certificate they mean.
        self.check_in_date(&leaf, now)?;
        if !leaf.permits(role) {
            return Err(VerifyError::Purpose { presented: presented(), role });
        }
        let path = Path { verifier: self, der, intermediates, bundle, role, now };
        let uncertain = path.verify(&leaf)?;
        let id = leaf.into_id();
        if self.expected.matches(&id) {
            Ok((id, uncertain))
        } else {
            Err(VerifyError::Unexpected { expected: self.expected.clone(), presented: id })
        }
    }

    fn check_in_date(&self, leaf: &Leaf<'_>, now: UnixTime) -> Result<(), VerifyError> {
        let now = system_clock(now);
        if let Ok(starts_in) = leaf.not_before().duration_since(now)
            && starts_in > self.clock_skew
        {
            return Err(VerifyError::NotYetValid { presented: leaf.id().clone(), starts_in });
        }
        if let Ok(ago) = now.duration_since(leaf.not_after())
            && ago > self.clock_skew
        {
            return Err(VerifyError::Expired { presented: leaf.id().clone(), ago });
        }
        Ok(())
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check_handshake(end_entity, intermediates, Role::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// None: a mesh client has one certificate for a connection and needs no hint.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check_handshake(end_entity, intermediates, Role::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Which side of a connection a peer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It connected.
    Client,
    /// It was connected to.
    Server,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Where the bundles come from.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    Fixed(Arc<TrustBundles>),
    /// Asked in each handshake.
    Live(Arc<dyn IdentitySource>),
}

impl Trust {
    fn bundles(&self) -> Arc<TrustBundles> {
        match self {
            Self::Fixed(bundles) => Arc::clone(bundles),
            Self::Live(source) => source.bundles(),
        }
    }
}

pub(super) fn system_clock(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.as_secs())
}
