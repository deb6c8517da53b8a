use std::fmt;

/// How a connection ended, as the `response_flags` label says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseFlag {
    /// A certificate of either side was revoked, or its root withdrawn, while the connection was open.
    CertRevoked,
    /// The upstream could not be reached, or an error that no other flag describes.
    Connect,
    /// A policy denied the connection, when it opened or later.
    Deny,
    /// The HTTP/2 handshake failed, or HTTP/2 under the tunnel.
    H2HandshakeFailure,
    /// No certificate was to be had for the workload.
    IdentityError,
    /// An HBONE dial timed out.
    NetworkPolicy,
    /// Nothing went wrong on our side; a reset by a peer counts as that.
    #[default]
    None,
    /// TLS could not be set up.
    TlsFailure,
}

impl ResponseFlag {
    /// Every flag.
    pub const ALL: [Self; 8] = [
        Self::CertRevoked,
        Self::Connect,
        Self::Deny,
        Self::H2HandshakeFailure,
        Self::IdentityError,
        Self::NetworkPolicy,
        Self::None,
        Self::TlsFailure,
    ];

    /// The text of the label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertRevoked => "CERT_REVOKED",
            Self::Connect => "CONNECT",
            Self::Deny => "DENY",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::None => "-",
            Self::TlsFailure => "TLS_FAILURE",
        }
    }

    /// Whether the connection counts as failed.
    pub fn is_failure(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
