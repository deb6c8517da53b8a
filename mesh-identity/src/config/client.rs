//! The connecting side.

use std::sync::Arc;

use rustls::{ClientConfig, client::Resumption};

use super::{
    ALPN, Complete, ConfigBuilder, ConfigError, WantsIdentity,
    provider::{narrowed, versions},
};
use crate::PeerVerifier;

/// Builds a TLS configuration for opening mesh connections.
///
/// The result speaks TLS 1.3 with AES-GCM only and prefers X25519MLKEM768 unless the settings say otherwise, presents its certificate, offers ALPN
/// `h2`, sends no server name (use [`server_name`](crate::server_name) where rustls asks for one) and never
/// resumes a session.
pub type ClientConfigBuilder<State = WantsIdentity> = ConfigBuilder<ClientConfig, State>;

impl ConfigBuilder<ClientConfig, Complete> {
    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection or the settings need.
    pub fn build(self) -> Result<Arc<ClientConfig>, ConfigError> {
        let Complete { credentials, expected, time, settings } = self.state;
        let provider = narrowed(&self.provider, &settings)?;
        let verifier = PeerVerifier::with_trust(&provider, credentials.trust(), expected);
        let verifier = settings.apply(verifier);
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions(&settings))
            .map_err(ConfigError::Provider)?
            // rustls' word for any verifier of one's own: ours checks more than its default, except host
            // names.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(credentials));
        // Of consequence for TLS 1.2 only.
        config.require_ems = true;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}
