//! Why files make no identity.

use std::{io, path::PathBuf, time::SystemTime};

use crate::{SvidError, TrustBundleError, VerifyError};

/// Why files make no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Files were replaced while they were read. They are read again.
    #[error("files changed while they were read")]
    Changing,
    /// The certificate is no longer valid.
    #[error("certificate in {} has expired", .path.display())]
    Expired {
        /// The certificate chain's file.
        path: PathBuf,
        /// The last moment at which it was valid.
        not_after: SystemTime,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of roots makes no bundle.
    #[error("{} has no trust bundle", .path.display())]
    Roots {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TrustBundleError,
    },
    /// The chain and the key make no SVID: one is broken, or they do not belong together.
    #[error("{} and {} make no svid", .chain.display(), .key.display())]
    Svid {
        /// The certificate chain's file.
        chain: PathBuf,
        /// The private key's file.
        key: PathBuf,
        /// Why.
        source: SvidError,
    },
    /// No peer would take the certificate: it is not valid yet, not for both sides of a connection, or does not lead to
    /// the roots beside it.
    #[error("certificate in {} would not be accepted by a peer", .path.display())]
    Unacceptable {
        /// The certificate chain's file.
        path: PathBuf,
        /// Which rule it breaks.
        source: VerifyError,
    },
    /// A file is larger than its kind may be.
    #[error("{} has more than {limit} bytes", .path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

impl FileError {
    /// Whether the same files may do at another time.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Changing | Self::Expired { .. } => true,
            // One that appears has changed.
            Self::Read { source, .. } => source.kind() != io::ErrorKind::NotFound,
            Self::Unacceptable { source, .. } => matches!(source, VerifyError::NotYetValid { .. }),
            Self::Roots { .. } | Self::Svid { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// The error and its causes in one line.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
