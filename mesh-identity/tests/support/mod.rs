//! Two rustls connections joined in memory, and peers that break the rules of a mesh.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed helper fails its test")]

use std::{io::Cursor, sync::Arc};

use mesh_identity::{
    ClientConfigBuilder, ExpectedPeer, PeerVerifier, Revocation, ServerConfigBuilder, SpiffeId, TlsSettings,
    TrustBundles, TrustDomain, VerifyError, X509Svid,
    testing::{Leaf, provider},
};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::CryptoProvider, pki_types::ServerName,
};

pub(crate) const CLIENT: &str = "spiffe://example.org/ns/shop/sa/cart";
pub(crate) const SERVER: &str = "spiffe://example.org/ns/shop/sa/stock";

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

/// Any id of the trust domain that the tests live in.
pub(crate) fn anyone() -> ExpectedPeer {
    ExpectedPeer::trust_domain(domain("example.org"))
}

pub(crate) fn exactly(text: &str) -> ExpectedPeer {
    ExpectedPeer::exact([id(text)])
}

pub(crate) fn server(svid: X509Svid, bundles: TrustBundles, expected: ExpectedPeer) -> Arc<ServerConfig> {
    let builder = ServerConfigBuilder::new(provider()).svid(Arc::new(svid), Arc::new(bundles));
    builder.expect_peer(expected).build().unwrap()
}

pub(crate) fn client(svid: X509Svid, bundles: TrustBundles, expected: ExpectedPeer) -> Arc<ClientConfig> {
    let builder = ClientConfigBuilder::new(provider()).svid(Arc::new(svid), Arc::new(bundles));
    builder.expect_peer(expected).build().unwrap()
}

pub(crate) fn server_with(
    svid: X509Svid,
    bundles: TrustBundles,
    expected: ExpectedPeer,
    settings: TlsSettings,
) -> Arc<ServerConfig> {
    let builder = ServerConfigBuilder::new(provider()).svid(Arc::new(svid), Arc::new(bundles));
    builder.expect_peer(expected).settings(settings).build().unwrap()
}

pub(crate) fn client_with(
    svid: X509Svid,
    bundles: TrustBundles,
    expected: ExpectedPeer,
    settings: TlsSettings,
) -> Arc<ClientConfig> {
    let builder = ClientConfigBuilder::new(provider()).svid(Arc::new(svid), Arc::new(bundles));
    builder.expect_peer(expected).settings(settings).build().unwrap()
}

pub(crate) fn revoking_server(
    svid: X509Svid,
    bundles: TrustBundles,
    expected: ExpectedPeer,
    revocation: Revocation,
) -> Arc<ServerConfig> {
    server_with(svid, bundles, expected, TlsSettings::default().revocation(revocation))
}

pub(crate) fn revoking_client(
    svid: X509Svid,
    bundles: TrustBundles,
    expected: ExpectedPeer,
    revocation: Revocation,
) -> Arc<ClientConfig> {
    client_with(svid, bundles, expected, TlsSettings::default().revocation(revocation))
}

/// A client that is not ours: what it presents and speaks is free, whom it trusts is not the question.
pub(crate) fn foreign_client(
    leaf: Option<&Leaf>,
    bundles: TrustBundles,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let verifier = PeerVerifier::new(&provider, Arc::new(bundles), anyone());
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match leaf {
        Some(leaf) => builder.with_client_auth_cert(leaf.chain(), leaf.key().into()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// A server that is not ours.
pub(crate) fn foreign_server(
    leaf: &Leaf,
    bundles: TrustBundles,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let verifier = PeerVerifier::new(&provider, Arc::new(bundles), anyone());
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(leaf.chain(), leaf.key().into())
        .unwrap()
}

pub(crate) fn default_provider() -> CryptoProvider {
    CryptoProvider::clone(&provider())
}

/// Both ends after a handshake, each with its own error if it failed.
pub(crate) struct Handshake {
    pub(crate) client: Result<ClientConnection, rustls::Error>,
    pub(crate) server: Result<ServerConnection, rustls::Error>,
}

impl Handshake {
    pub(crate) fn established(self) -> (ClientConnection, ServerConnection) {
        (self.client.unwrap(), self.server.unwrap())
    }

    pub(crate) fn server_error(&self) -> &rustls::Error {
        self.server.as_ref().unwrap_err()
    }

    pub(crate) fn client_error(&self) -> &rustls::Error {
        self.client.as_ref().unwrap_err()
    }

    /// Which rule the client's certificate broke.
    pub(crate) fn client_refused_because(&self) -> &VerifyError {
        VerifyError::find(self.server_error()).expect("a refused certificate")
    }

    /// Which rule the server's certificate broke.
    pub(crate) fn server_refused_because(&self) -> &VerifyError {
        VerifyError::find(self.client_error()).expect("a refused certificate")
    }
}

/// Carries bytes both ways until neither end has more to say.
pub(crate) fn handshake(
    client: impl Into<Arc<ClientConfig>>,
    server: impl Into<Arc<ServerConfig>>,
) -> Handshake {
    handshake_with(mesh_identity::server_name(), client, server)
}

/// The same with a server that the client names.
pub(crate) fn handshake_with(
    server_name: ServerName<'static>,
    client: impl Into<Arc<ClientConfig>>,
    server: impl Into<Arc<ServerConfig>>,
) -> Handshake {
    let mut client = ClientConnection::new(client.into(), server_name).unwrap();
    let mut server = ServerConnection::new(server.into()).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = Cursor::new(bytes);
        while server_error.is_none() && server.read_tls(&mut bytes).unwrap() > 0 {
            server_error = server.process_new_packets().err();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = Cursor::new(bytes);
        while client_error.is_none() && client.read_tls(&mut bytes).unwrap() > 0 {
            client_error = client.process_new_packets().err();
        }
    }
    Handshake { client: client_error.map_or(Ok(client), Err), server: server_error.map_or(Ok(server), Err) }
}
