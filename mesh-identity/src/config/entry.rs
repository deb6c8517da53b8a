//! One configuration of many.

use std::{fmt, sync::Arc};

use crate::{IdentitySource, TrustBundles, X509Svid};

/// A configuration of [`TlsConfigs`](crate::TlsConfigs), with what it was made of: for who has to know later as whom a
/// connection was made, and whether it would be made so again.
pub struct TlsEntry<C> {
    config: Arc<C>,
    svid: Arc<X509Svid>,
    bundles: Arc<TrustBundles>,
}

impl<C> TlsEntry<C> {
    pub(super) fn new(config: Arc<C>, svid: Arc<X509Svid>, bundles: Arc<TrustBundles>) -> Self {
        Self { config, svid, bundles }
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<C> {
        &self.config
    }

    /// What is presented to peers.
    pub fn svid(&self) -> &Arc<X509Svid> {
        &self.svid
    }

    /// What vouches for peers.
    pub fn bundles(&self) -> &Arc<TrustBundles> {
        &self.bundles
    }

    pub(super) fn is_made_of(&self, svid: &Arc<X509Svid>, bundles: &Arc<TrustBundles>) -> bool {
        Arc::ptr_eq(&self.svid, svid) && Arc::ptr_eq(&self.bundles, bundles)
    }

    pub(super) fn is_current(&self, identities: &dyn IdentitySource) -> bool {
        let svid = identities.try_svid(self.svid.id());
        svid.is_some_and(|svid| self.is_made_of(&svid, &identities.bundles()))
    }
}

impl<C> fmt::Debug for TlsEntry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsEntry").field("svid", &self.svid).finish_non_exhaustive()
    }
}
