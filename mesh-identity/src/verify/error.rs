//! Why a peer's certificate was not taken.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{CertificateError, OtherError};

use super::ChainError;
use crate::{ChainCertificate, ExpectedPeer, LeafError, RevocationReason, Role, SpiffeId};

/// Why a peer's certificate was not taken: which rule it broke, and whom it claimed to be.
///
/// rustls carries it inside its own error; [`find`](Self::find) gets it back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No valid path leads from the certificate to a root of its trust domain.
    #[error("certificate of {presented} is not vouched for by its trust domain")]
    Chain {
        /// Whom the certificate names.
        presented: SpiffeId,
        /// What broke the path.
        source: ChainError,
    },
    /// The leaf certificate was valid until recently, or long ago.
    #[error("certificate of {presented} expired {} seconds ago", .ago.as_secs())]
    Expired {
        /// Whom the certificate names.
        presented: SpiffeId,
        /// For how long it has not been valid.
        ago: Duration,
    },
    /// The leaf certificate breaks a rule of the X.509-SVID standard.
    #[error("peer's certificate is no svid")]
    Leaf(#[from] LeafError),
    /// The leaf certificate will be valid later, or a clock is wrong.
    #[error("certificate of {presented} becomes valid in {} seconds", .starts_in.as_secs())]
    NotYetValid {
        /// Whom the certificate names.
        presented: SpiffeId,
        /// How long until it is valid.
        starts_in: Duration,
    },
    /// The leaf certificate is not for this side of a connection.
    #[error("certificate of {presented} is not for a {role}")]
    Purpose {
        /// Whom the certificate names.
        presented: SpiffeId,
        /// What the peer is here.
        role: Role,
    },
    /// A revocation list names a certificate of the chain.
    #[error("{certificate} of {presented} is revoked: {reason}")]
    Revoked {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Which certificate of the chain.
        certificate: Box<ChainCertificate>,
        /// Why, as its issuer says.
        reason: RevocationReason,
        /// Since when.
        at: SystemTime,
    },
    /// Nobody can say any more whether a certificate is revoked: the newest list of its issuer is too old, and the
    /// policy refuses that.
    #[error("revocation list for {certificate} of {presented} is out of date")]
    RevocationStale {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Which certificate of the chain.
        certificate: Box<ChainCertificate>,
        /// When the list should have been replaced.
        since: SystemTime,
    },
    /// Nobody can say whether a certificate is revoked: there is no list of its issuer, and the policy refuses that.
    #[error("no revocation list covers {certificate} of {presented}")]
    RevocationUnknown {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Which certificate of the chain.
        certificate: Box<ChainCertificate>,
    },
    /// The peer sent more certificates than a chain may have.
    #[error("peer sent {certificates} certificates, allowed are {}", crate::PeerVerifier::MAX_CHAIN)]
    TooManyCertificates {
        /// How many it sent.
        certificates: usize,
    },
    /// The peer proved who it is, and is somebody else.
    #[error("expected {expected}, but the peer is {presented}")]
    Unexpected {
        /// Whom the connection may be with.
        expected: ExpectedPeer,
        /// Whom the certificate names.
        presented: SpiffeId,
    },
    /// There are no roots for the trust domain the certificate names.
    #[error("trust domain of {presented} is unknown")]
    UnknownTrustDomain {
        /// Whom the certificate names.
        presented: SpiffeId,
    },
}

impl VerifyError {
    /// Finds it in the error of a handshake: in a [`rustls::Error`], in an [`io::Error`] around one as async
    /// TLS returns, or anywhere among the sources of another error.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // Neither type gives what it wraps as its source.
            next = if let Some(error) = error.downcast_ref::<io::Error>() {
                error.get_ref().map(|inner| inner as &(dyn Error + 'static))
            } else if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(inner))) =
                error.downcast_ref()
            {
                Some(inner)
            } else {
                error.source()
            };
        }
        None
    }

    /// Whether revocation is why: a list names a certificate of the chain, or the policy refuses what no list settles.
    pub fn is_revocation(&self) -> bool {
        matches!(self, Self::Revoked { .. } | Self::RevocationStale { .. } | Self::RevocationUnknown { .. })
    }

    /// Whom the certificate names, as far as it could be read. Only [`Unexpected`](Self::Unexpected) means
    /// that this was proved.
    pub fn presented(&self) -> Option<&SpiffeId> {
        match self {
            Self::Chain { presented, .. }
            | Self::Expired { presented, .. }
            | Self::NotYetValid { presented, .. }
            | Self::Purpose { presented, .. }
            | Self::RevocationStale { presented, .. }
            | Self::RevocationUnknown { presented, .. }
            | Self::Revoked { presented, .. }
            | Self::Unexpected { presented, .. }
            | Self::UnknownTrustDomain { presented } => Some(presented),
            Self::Leaf(_) | Self::TooManyCertificates { .. } => None,
        }
    }
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("handshake failed")]
    struct Outer(#[source] io::Error);

    #[test]
    fn is_found_however_deep_it_is_wrapped() {
        let error = VerifyError::from(LeafError::NoUri);
        let rustls = rustls::Error::from(error.clone());
        assert_eq!(VerifyError::find(&rustls), Some(&error));
        let outer = Outer(io::Error::new(io::ErrorKind::InvalidData, rustls));
        assert_eq!(VerifyError::find(&outer), Some(&error));
        assert_eq!(VerifyError::find(&rustls::Error::DecryptError), None);
    }

    // identity#19
    #[test]
    fn a_mismatch_names_both_sides() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let expected = ExpectedPeer::exact([id("spiffe://example.org/b"), id("spiffe://example.org/a")]);
        let text = VerifyError::Unexpected { expected, presented: id("spiffe://example.org/c") }.to_string();
        for name in ["spiffe://example.org/a", "spiffe://example.org/b", "spiffe://example.org/c"] {
            assert!(text.contains(name), "{text}");
        }
    }
}
