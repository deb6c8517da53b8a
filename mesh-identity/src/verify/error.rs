//! Why a peer's certificate was not taken.

use std::{error::Error, io, sync::Arc, time::Duration};

use rustls::{CertificateError, OtherError};

use crate::{ExpectedPeer, LeafError, Role, SpiffeId};

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

    /// Whom the certificate names, as far as it could be read. Only [`Unexpected`](Self::Unexpected) means
    /// that this was proved.
    pub fn presented(&self) -> Option<&SpiffeId> {
        match self {
            Self::Chain { presented, .. }
            | Self::Expired { presented, .. }
            | Self::NotYetValid { presented, .. }
            | Self::Purpose { presented, .. }
            | Self::Unexpected { presented, .. }
            | Self::UnknownTrustDomain { presented } => Some(presented),
            Self::Leaf(_) => None,
        }
    }
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// Why no valid path leads from a certificate to a root. Expiry, constraints and purpose are those of an
/// issuer here: the leaf's own have their own errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.description())]
pub struct ChainError(pub(crate) webpki::Error);

impl ChainError {
    /// Whether no root of the trust domain issued the chain, or an intermediate certificate is missing from
    /// it.
    pub fn is_unknown_issuer(&self) -> bool {
        self.0 == webpki::Error::UnknownIssuer
    }

    fn description(&self) -> String {
        use webpki::Error;
        match &self.0 {
            Error::UnknownIssuer => "its issuer is unknown, or an intermediate certificate is missing".into(),
            Error::CertExpired { .. } => "an issuing certificate has expired".into(),
            Error::CertNotValidYet { .. } => "an issuing certificate is not valid yet".into(),
            Error::InvalidSignatureForPublicKey => "a signature in the chain is wrong".into(),
            Error::NameConstraintViolation => "a name constraint of an issuer forbids it".into(),
            Error::EndEntityUsedAsCa => "a certificate that is no authority issued another".into(),
            Error::PathLenConstraintViolated => "the chain is longer than an issuer allows".into(),
            other => format!("{other:?}"),
        }
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
