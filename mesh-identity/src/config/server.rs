//! The accepting side.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage};

use super::{
    ALPN, Complete, ConfigBuilder, ConfigError, WantsIdentity,
    provider::{narrowed, versions},
};
use crate::PeerVerifier;

/// Builds a TLS configuration for accepting mesh connections.
///
/// The result speaks TLS 1.3 with AES-GCM only and prefers X25519MLKEM768 unless the settings say otherwise, demands a client certificate, takes
/// ALPN `h2` or none, and gives out no tickets: every connection proves both identities anew.
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
pub type ServerConfigBuilder<State = WantsIdentity> = ConfigBuilder<ServerConfig, State>;

impl ConfigBuilder<ServerConfig, Complete> {
    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection or the settings need.
    pub fn build(self) -> Result<Arc<ServerConfig>, ConfigError> {
        let Complete { credentials, expected, time, settings } = self.state;
        let provider = narrowed(&self.provider, &settings)?;
        let verifier = PeerVerifier::with_trust(&provider, credentials.trust(), expected);
        let verifier = settings.apply(verifier);
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions(&settings))
            .map_err(ConfigError::Provider)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(credentials));
        // Of consequence for TLS 1.2 only.
        config.require_ems = true;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}
