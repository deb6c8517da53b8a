//! The verifier rustls calls during a handshake.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{ChainError, VerifyError};
use crate::{ExpectedPeer, IdentitySource, SpiffeId, TrustBundles, leaf::Leaf};

/// Checks the certificate chain of a peer, for clients and servers that use rustls directly.
///
/// In this order: the leaf is an X.509-SVID, its trust domain has a bundle, it is in date, it may be used by
/// a peer of this role, a path leads to a root *of its own trust domain*, and its id is expected. Names and
/// addresses of hosts play no part. Client certificates are mandatory.
#[derive(Clone, Debug)]
pub struct PeerVerifier {
    trust: Trust,
    expected: ExpectedPeer,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// Takes `expected` peers that `bundles` vouch for.
    pub fn new(provider: &CryptoProvider, bundles: Arc<TrustBundles>, expected: ExpectedPeer) -> Self {
        Self::with_trust(provider, Trust::Fixed(bundles), expected)
    }

    pub(crate) fn with_trust(provider: &CryptoProvider, trust: Trust, expected: ExpectedPeer) -> Self {
        Self { trust, expected, algorithms: provider.signature_verification_algorithms }
    }

    /// Checks a chain that a peer in `role` presented, and says who the peer is. That the peer holds the
    /// private key is proved by the handshake, not here.
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
        self.check(leaf, intermediates, role, UnixTime::since_unix_epoch(since_epoch))
    }

    fn check(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<SpiffeId, VerifyError> {
        let leaf = Leaf::parse(der)?;
        let presented = || leaf.id().clone();
        let bundles = self.trust.bundles();
        let Some(bundle) = bundles.get(leaf.id().trust_domain()) else {
            return Err(VerifyError::UnknownTrustDomain { presented: presented() });
        };
        // Before the path, whose errors do not say which certificate they mean.
        let clock = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if let Ok(starts_in) = leaf.not_before().duration_since(clock)
            && !starts_in.is_zero()
        {
            return Err(VerifyError::NotYetValid { presented: presented(), starts_in });
        }
        if let Ok(ago) = clock.duration_since(leaf.not_after())
            && !ago.is_zero()
        {
            return Err(VerifyError::Expired { presented: presented(), ago });
        }
        if !leaf.permits(role) {
            return Err(VerifyError::Purpose { presented: presented(), role });
        }
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        EndEntityCert::try_from(der)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    self.algorithms.all,
                    bundle.anchors(),
                    intermediates,
                    now,
                    usage,
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(|source| VerifyError::Chain { presented: presented(), source: ChainError(source) })?;
        let id = leaf.into_id();
        if self.expected.matches(&id) {
            Ok(id)
        } else {
            Err(VerifyError::Unexpected { expected: self.expected.clone(), presented: id })
        }
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
        self.check(end_entity, intermediates, Role::Server, now)?;
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
        self.check(end_entity, intermediates, Role::Client, now)?;
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
