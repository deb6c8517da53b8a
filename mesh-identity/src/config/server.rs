//! The accepting side.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    time_provider::{DefaultTimeProvider, TimeProvider},
    version::TLS13,
};

use super::{
    ALPN, Complete, ConfigError, WantsIdentity, WantsPeer, credentials::Credentials, provider::narrowed,
};
use crate::{CertSelector, ExpectedPeer, IdentitySource, PeerVerifier, TrustBundles, X509Svid};

/// Builds a TLS configuration for accepting mesh connections, in two decisions that cannot be left out: as whom
/// ([`identity`](Self::identity) or [`svid`](Self::svid)), and from whom ([`expect_peer`](ServerConfigBuilder::expect_peer)).
///
/// The result speaks TLS 1.3 with AES-GCM only, prefers X25519MLKEM768, demands a client certificate, takes ALPN `h2` or none,
/// and gives out no tickets: every connection proves both identities anew.
///
/// ```
/// # use std::sync::Arc;
/// use mesh_identity::{CertSelector, ExpectedPeer, IdentityStore, ServerConfigBuilder, SpiffeId, TrustBundles};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
/// let cart: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
/// let store = IdentityStore::new(TrustBundles::default());
/// let config = ServerConfigBuilder::new(provider)
///     .identity(store.clone(), CertSelector::fixed(cart))
///     .expect_peer(ExpectedPeer::trust_domain("example.org".parse()?))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ServerConfigBuilder<State = WantsIdentity> {
    provider: Arc<CryptoProvider>,
    state: State,
}

impl ServerConfigBuilder {
    /// Starts a configuration that computes with `provider`.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, state: WantsIdentity(()) }
    }

    /// Presents the certificate that `source` has for the selected identity at the time of each handshake, and trusts the
    /// bundles it has then. While it has none at hand, handshakes fail.
    pub fn identity(
        self,
        source: impl IdentitySource + 'static,
        selector: CertSelector,
    ) -> ServerConfigBuilder<WantsPeer> {
        self.credentials(Credentials::Live { source: Arc::new(source), selector })
    }

    /// Presents `svid` and trusts `bundles`, for as long as the configuration is used.
    pub fn svid(self, svid: Arc<X509Svid>, bundles: Arc<TrustBundles>) -> ServerConfigBuilder<WantsPeer> {
        self.credentials(Credentials::Fixed { svid, bundles })
    }

    fn credentials(self, credentials: Credentials) -> ServerConfigBuilder<WantsPeer> {
        ServerConfigBuilder { provider: self.provider, state: WantsPeer { credentials } }
    }
}

impl ServerConfigBuilder<WantsPeer> {
    /// Takes connections from these peers only.
    pub fn expect_peer(self, expected: ExpectedPeer) -> ServerConfigBuilder<Complete> {
        let state =
            Complete { credentials: self.state.credentials, expected, time: Arc::new(DefaultTimeProvider) };
        ServerConfigBuilder { provider: self.provider, state }
    }
}

impl ServerConfigBuilder<Complete> {
    /// Reads the time, for the validity of certificates, from here instead of the system's clock.
    pub fn time_provider(mut self, time: Arc<dyn TimeProvider>) -> Self {
        self.state.time = time;
        self
    }

    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection needs.
    pub fn build(self) -> Result<Arc<ServerConfig>, ConfigError> {
        let Complete { credentials, expected, time } = self.state;
        let provider = narrowed(&self.provider)?;
        let verifier = PeerVerifier::with_trust(&provider, credentials.trust(), expected);
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .map_err(ConfigError::Provider)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(credentials));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}
