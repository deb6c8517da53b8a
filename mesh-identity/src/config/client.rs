//! The connecting side.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    client::Resumption,
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
    version::TLS13,
};

use super::{
    ALPN, Complete, ConfigError, WantsIdentity, WantsPeer, credentials::Credentials, provider::narrowed,
};
use crate::{CertSelector, ExpectedPeer, IdentitySource, PeerVerifier, TrustBundles, X509Svid};

/// Builds a TLS configuration for opening mesh connections, in two decisions that cannot be left out: as whom
/// ([`identity`](Self::identity) or [`svid`](Self::svid)), and to whom ([`expect_peer`](ClientConfigBuilder::expect_peer)).
///
/// The result speaks TLS 1.3 with AES-GCM only, prefers X25519MLKEM768, presents its certificate, offers ALPN `h2`, sends no
/// server name (use [`server_name`](crate::server_name) where rustls asks for one) and never resumes a session.
#[derive(Debug)]
pub struct ClientConfigBuilder<State = WantsIdentity> {
    provider: Arc<CryptoProvider>,
    state: State,
}

impl ClientConfigBuilder {
    /// Starts a configuration that computes with `provider`.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, state: WantsIdentity(()) }
    }

    /// Presents the certificate that `source` has for the selected identity at the time of each handshake, and trusts the
    /// bundles it has then. While it has none at hand, the server is sent no certificate and refuses.
    pub fn identity(
        self,
        source: impl IdentitySource + 'static,
        selector: CertSelector,
    ) -> ClientConfigBuilder<WantsPeer> {
        self.credentials(Credentials::Live { source: Arc::new(source), selector })
    }

    /// Presents `svid` and trusts `bundles`, for as long as the configuration is used.
    pub fn svid(self, svid: Arc<X509Svid>, bundles: Arc<TrustBundles>) -> ClientConfigBuilder<WantsPeer> {
        self.credentials(Credentials::Fixed { svid, bundles })
    }

    fn credentials(self, credentials: Credentials) -> ClientConfigBuilder<WantsPeer> {
        ClientConfigBuilder { provider: self.provider, state: WantsPeer { credentials } }
    }
}

impl ClientConfigBuilder<WantsPeer> {
    /// Connects to these peers only.
    pub fn expect_peer(self, expected: ExpectedPeer) -> ClientConfigBuilder<Complete> {
        let state =
            Complete { credentials: self.state.credentials, expected, time: Arc::new(DefaultTimeProvider) };
        ClientConfigBuilder { provider: self.provider, state }
    }
}

impl ClientConfigBuilder<Complete> {
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
    pub fn build(self) -> Result<Arc<ClientConfig>, ConfigError> {
        let Complete { credentials, expected, time } = self.state;
        let provider = narrowed(&self.provider)?;
        let verifier = PeerVerifier::with_trust(&provider, credentials.trust(), expected);
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .map_err(ConfigError::Provider)?
            // rustls' word for any verifier of one's own: ours checks more than its default, except host names.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(credentials));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}
