//! TLS over tokio with the configurations of [`mesh_identity`]: whose certificate, which peer, within which time.

mod read_ahead;

use std::{future::Future, io, sync::Arc, time::Duration};

use mesh_identity::{ExpectedPeer, PeerIdentity, SpiffeId, TlsConfigs};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use self::read_ahead::ReadAhead;
use crate::error::ConnectionError;

/// A TLS connection that we accepted.
pub(crate) type ServerStream = server::TlsStream<ReadAhead>;
/// A TLS connection that we opened.
pub(crate) type ClientStream = client::TlsStream<ReadAhead>;

/// Records on their way to the socket, per connection. It must hold a whole DATA frame: rustls' default is one frame's
/// payload without its header, which would put the last nine bytes of each into a record and a system call of their own.
const SEND_BUFFER: usize = 128 * 1024;

/// A worker's TLS configurations: made once per identity and peer, looked up per connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsContexts {
    configs: TlsConfigs,
    handshake_timeout: Duration,
}

impl TlsContexts {
    pub(crate) fn new(configs: TlsConfigs, handshake_timeout: Duration) -> Self {
        Self { configs, handshake_timeout }
    }

    /// Takes a TLS connection as `identity` from a peer that `expected` admits, and says who the peer proved to be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn accept(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        stream: TcpStream,
    ) -> Result<(ServerStream, SpiffeId), ConnectionError> {
        let config = self.configs.server(identity, expected).await.map_err(ConnectionError::identity)?;
        let mut stream = self.bounded(TlsAcceptor::from(config).accept(ReadAhead::new(stream))).await?;
        stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
        let peer = PeerIdentity::from_connection(stream.get_ref().1).map_err(ConnectionError::identity)?;
        Ok((stream, peer.into_id()))
    }

    /// The configuration for connections as `identity` to `expected` peers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn client(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<ClientConfig>, ConnectionError> {
        self.configs.client(identity, expected).await.map_err(ConnectionError::identity)
    }

    /// Opens a TLS connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn connect(
        &self,
        config: Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<ClientStream, ConnectionError> {
        let handshake =
            TlsConnector::from(config).connect(mesh_identity::server_name(), ReadAhead::new(stream));
        let mut stream = self.bounded(handshake).await?;
        stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
        Ok(stream)
    }

    async fn bounded<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(done) => done.map_err(ConnectionError::Tls),
            Err(_elapsed) => {
                Err(ConnectionError::Stalled { step: "tls handshake", limit: self.handshake_timeout })
            }
        }
    }
}

#[cfg(test)]
impl TlsContexts {
    /// Contexts for identities of a throwaway authority.
    pub(crate) fn for_tests(identities: Arc<dyn mesh_identity::IdentitySource>) -> Self {
        let configs = TlsConfigs::new(identities, &mesh_identity::testing::provider());
        Self::new(configs.expect("a complete provider"), Duration::from_secs(10))
    }
}
