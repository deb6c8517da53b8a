//! The identity a peer proved.

use std::time::SystemTime;

use rustls::CommonState;

use crate::{LeafError, SpiffeId, leaf::Leaf};

/// Who the peer of a TLS connection proved to be.
///
/// Meaningful for connections made with the configurations of this crate, or a
/// [`PeerVerifier`](crate::PeerVerifier): it reads the certificate they verified, by the same rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    id: SpiffeId,
    not_after: SystemTime,
}

impl PeerIdentity {
    /// Reads the identity from a connection after its handshake; a `ServerConnection` or `ClientConnection`
    /// coerces.
    ///
    /// Costs one parse of the peer's certificate.
    ///
    /// # Errors
    ///
    /// If the handshake is not done, or the connection was made without authenticating the peer.
    pub fn from_connection(connection: &CommonState) -> Result<Self, PeerIdentityError> {
        if connection.is_handshaking() {
            return Err(PeerIdentityError::Handshaking);
        }
        let chain = connection.peer_certificates().unwrap_or_default();
        let leaf = Leaf::parse(chain.first().ok_or(PeerIdentityError::Anonymous)?)?;
        Ok(Self { not_after: leaf.not_after(), id: leaf.into_id() })
    }

    /// The id that was verified.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The last moment at which the peer's certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The id alone.
    pub fn into_id(self) -> SpiffeId {
        self.id
    }
}

/// Why a connection has no peer identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdentityError {
    /// The peer sent no certificate.
    #[error("peer is anonymous")]
    Anonymous,
    /// The handshake is not done.
    #[error("handshake is not done")]
    Handshaking,
    /// The certificate is no SVID: another verifier took it.
    #[error("peer's certificate is no svid")]
    Leaf(#[from] LeafError),
}
