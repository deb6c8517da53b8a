//! rustls configurations that can only be built mutual, TLS 1.3 and with a named peer.

mod builder;
mod cache;
mod client;
mod credentials;
mod provider;
mod server;

use std::net::Ipv4Addr;

use rustls::pki_types::ServerName;

pub use builder::{Complete, ConfigBuilder, WantsIdentity, WantsPeer};
pub use cache::{TlsConfigError, TlsConfigs};
pub use client::ClientConfigBuilder;
#[cfg(feature = "istio-ca")]
pub(crate) use provider::narrowed;
pub use server::ServerConfigBuilder;

/// The server name a mesh client gives to rustls: a placeholder, which is neither sent nor checked, since a
/// peer is known by its SPIFFE ID.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// Why a TLS configuration cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The cryptography provider has neither of the suites a mesh uses.
    #[error("provider has no aes-gcm suite of tls 1.3")]
    NoCipherSuite,
    /// rustls refuses the provider.
    #[error("provider is unusable")]
    Provider(#[source] rustls::Error),
}

/// The one application protocol of HBONE (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";
