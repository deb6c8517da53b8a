//! The accepting side.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage, version::TLS13};

use super::{ALPN, Complete, ConfigBuilder, ConfigError, WantsIdentity, provider::narrowed};
use crate::PeerVerifier;

/// Builds a TLS configuration for accepting mesh connections.
///
/// The result speaks TLS 1.3 with AES-GCM only, prefers X25519MLKEM768, demands a client certificate, takes
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
