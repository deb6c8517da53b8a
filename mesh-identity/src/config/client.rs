//! The connecting side.

use std::sync::Arc;

use rustls::{ClientConfig, client::Resumption, version::TLS13};

use super::{ALPN, Complete, ConfigBuilder, ConfigError, WantsIdentity, provider::narrowed};
use crate::PeerVerifier;

/// Builds a TLS configuration for opening mesh connections.
///
/// The result speaks TLS 1.3 with AES-GCM only, prefers X25519MLKEM768, presents its certificate, offers ALPN
/// `h2`, sends no server name (use [`server_name`](crate::server_name) where rustls asks for one) and never
/// resumes a session.
pub type ClientConfigBuilder<State = WantsIdentity> = ConfigBuilder<ClientConfig, State>;

impl ConfigBuilder<ClientConfig, Complete> {
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
            // rustls' word for any verifier of one's own: ours checks more than its default, except host
            // names.
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
