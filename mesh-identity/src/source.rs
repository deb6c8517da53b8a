//! Where identities come from.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use crate::{IdentityStatus, SpiffeId, TrustBundles, X509Svid};

/// The answer of an [`IdentitySource`], perhaps still to come.
pub type SvidFuture<'a> = Pin<Box<dyn Future<Output = Result<Arc<X509Svid>, IdentityError>> + Send + 'a>>;

/// Hands out the identities a process may use and the bundles it checks peers with.
///
/// Implementors: [`svid`](Self::svid) may wait for a certificate authority; everything else is called for
/// each connection, on threads that serve traffic, and must neither block nor do I/O. An SVID or a set of
/// bundles that did not change must be the same `Arc`, since configurations are cached by it.
pub trait IdentitySource: fmt::Debug + Send + Sync {
    /// The current SVID of `id`, waiting for the first if there is none yet.
    ///
    /// # Errors
    ///
    /// If the source does not serve `id`, or knows that it has no valid certificate for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a request it shares with others goes on.
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a>;

    /// The current SVID of `id` if it is at hand. A source that has no clock hands out what it has, expired or not:
    /// [`TlsConfigs`](crate::TlsConfigs) makes nothing of an expired one, and peers refuse it.
    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>>;

    /// The bundles that vouch for peers.
    fn bundles(&self) -> Arc<TrustBundles>;

    /// How each identity is that the source serves, ordered by id, if it knows. Called by people's tools, not for
    /// connections.
    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        None
    }

    /// A number that changes whenever the bundles or any certificate is replaced, and becomes visible only
    /// after what it announces.
    fn generation(&self) -> u64;
}

impl<T: IdentitySource + ?Sized> IdentitySource for Arc<T> {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        (**self).svid(id)
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        (**self).try_svid(id)
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        (**self).bundles()
    }

    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        (**self).statuses()
    }

    fn generation(&self) -> u64 {
        (**self).generation()
    }
}

/// Why there is no SVID for an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The last certificate is no longer valid.
    #[error("certificate of {id} has expired")]
    Expired {
        /// Whose.
        id: SpiffeId,
        /// When it expired.
        not_after: SystemTime,
    },
    /// No certificate could be obtained.
    #[error("no certificate for {id}: {reason}")]
    Unavailable {
        /// For whom.
        id: SpiffeId,
        /// What the issuer said.
        reason: Arc<str>,
    },
    /// The source does not serve this id.
    #[error("{id} is not an identity of this process")]
    Unknown {
        /// The id asked for.
        id: SpiffeId,
    },
}
