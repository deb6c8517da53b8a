//! rustls configurations that can only be built mutual and with a named peer.

mod builder;
mod cache;
mod client;
mod credentials;
mod entry;
mod lookup;
mod provider;
mod server;
mod settings;

use std::net::Ipv4Addr;

use rustls::pki_types::ServerName;

pub use builder::{Complete, ConfigBuilder, WantsIdentity, WantsPeer};
pub use cache::{TlsConfigError, TlsConfigs};
pub use client::ClientConfigBuilder;
pub use entry::TlsEntry;
#[cfg(feature = "istio-ca")]
pub(crate) use provider::{narrowed, versions};
pub use server::ServerConfigBuilder;
pub use settings::{KeyExchange, TlsSettings};

/// The server name a mesh client gives to rustls: a placeholder, which is neither sent nor checked, since a
/// peer is known by its SPIFFE ID.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// Why a TLS configuration cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The hybrid key exchange is required, which TLS 1.2 does not have, and TLS 1.2 is allowed.
    #[error("tls 1.2 has no hybrid key exchange")]
    HybridWithTls12,
    /// The cryptography provider has neither of the suites a mesh uses.
    #[error("provider has no aes-gcm suite of tls 1.3")]
    NoCipherSuite,
    /// The cryptography provider has no key exchange group that the settings allow.
    #[error("provider has no key exchange group that is allowed")]
    NoKeyExchange,
    /// FIPS is required and the provider is not validated.
    #[error("provider is not fips-validated")]
    NotFips,
    /// rustls refuses the provider.
    #[error("provider is unusable")]
    Provider(#[source] rustls::Error),
}

/// The one application protocol of HBONE (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";
