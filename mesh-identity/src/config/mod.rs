//! rustls configurations that can only be built mutual, TLS 1.3 and with a named peer.

mod cache;
mod client;
mod credentials;
mod provider;
mod server;

use std::{net::Ipv4Addr, sync::Arc};

use rustls::{pki_types::ServerName, time_provider::TimeProvider};

use crate::ExpectedPeer;
use credentials::Credentials;

pub use cache::{TlsConfigError, TlsConfigs};
pub use client::ClientConfigBuilder;
pub use server::ServerConfigBuilder;

/// The server name a mesh client gives to rustls: a placeholder, which is neither sent nor checked, since a peer is known by
/// its SPIFFE ID.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// A configuration builder that does not know yet as whom it connects.
#[derive(Debug)]
pub struct WantsIdentity(());

/// A configuration builder that does not know yet with whom it connects.
#[derive(Debug)]
pub struct WantsPeer {
    credentials: Credentials,
}

/// A configuration builder that knows all it must.
#[derive(Debug)]
pub struct Complete {
    credentials: Credentials,
    expected: ExpectedPeer,
    time: Arc<dyn TimeProvider>,
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
