//! What the rotation of certificates asks of an authority.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{SpiffeId, TrustBundle, X509Svid};

/// The answer of a [`CertificateAuthority`], still to come.
pub type IssueFuture<'a> = Pin<Box<dyn Future<Output = Result<IssuedSvid, IssueError>> + Send + 'a>>;

/// Issues certificates: the one thing that a rotation of identities asks of the outside.
///
/// Implementors:
///
/// - Each call makes a new private key, which does not leave the process and is used for this request only.
/// - [`issue`](Self::issue) itself returns at once; its future may wait for the network. It runs on the caller's
///   runtime and must not block a thread for longer than a key generation takes.
/// - It is called for several ids at the same time, up to the caller's limit, never for one id twice at once.
/// - The caller drops the future at a deadline of its own. An implementation that knows a step which took too long
///   sets a shorter deadline and returns [`IssueFault::Deadline`], which says more.
/// - It makes one attempt. Repetition, pacing and caching are the caller's, who sees all identities.
/// - The answer is for `id`, is in date, and leads to one of the roots that come with it. The caller checks the first
///   two again, since a certificate of somebody else must not be kept under this id.
pub trait CertificateAuthority: fmt::Debug + Send + Sync {
    /// Obtains a certificate for `id` that is valid for `lifetime` from now, if the authority's policy allows so much;
    /// it may give less, or more.
    ///
    /// # Errors
    ///
    /// See [`IssueFault`]. The text of an error goes to logs and to an operator's screen: it holds no token, key or
    /// signing request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request and leaves the authority usable; a certificate that was being issued
    /// is lost.
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a>;
}

impl<T: CertificateAuthority + ?Sized> CertificateAuthority for Arc<T> {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        (**self).issue(id, lifetime)
    }
}

/// What an authority answers with.
#[derive(Debug)]
pub struct IssuedSvid {
    /// The certificate with its chain and its key.
    pub svid: X509Svid,
    /// The roots that the authority names for the trust domain of the id: one, or more while they are being replaced.
    pub bundle: TrustBundle,
}

/// Why an authority issued no certificate.
#[derive(Clone, Debug)]
pub struct IssueError {
    fault: IssueFault,
    retryable: bool,
    cause: Arc<dyn Error + Send + Sync>,
}

impl IssueError {
    /// An error that a later attempt may not meet, which is so for most. The cause may be an error or a text.
    pub fn new(fault: IssueFault, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { fault, retryable: true, cause: Arc::from(cause.into()) }
    }

    /// Says whether the same request may succeed later without anybody changing a configuration.
    #[must_use]
    pub fn retryable(self, retryable: bool) -> Self {
        Self { retryable, ..self }
    }

    /// What failed.
    pub fn fault(&self) -> IssueFault {
        self.fault
    }

    /// Whether a repetition may help. One that cannot is repeated all the same, at the longest interval: the
    /// configuration that has to change may be the authority's.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            IssueFault::Answer => "answer of the certificate authority is unusable",
            IssueFault::Deadline => "certificate authority did not answer in time",
            IssueFault::Local => "certificate cannot be requested",
            IssueFault::Refused => "certificate authority refused",
            IssueFault::Unreachable => "certificate authority is unreachable",
        })
    }
}

impl Error for IssueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// Whose doing it is that there is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IssueFault {
    /// The authority's: what it answered cannot be used.
    Answer,
    /// The authority's or the network's: no answer in time.
    Deadline,
    /// Ours: no token to call with, no key, a setting that cannot be.
    Local,
    /// The authority's, or that of who set it up: it understood and said no.
    Refused,
    /// The network's, or the authority is not running.
    Unreachable,
}
