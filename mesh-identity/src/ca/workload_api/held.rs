//! What an agent has given so far.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{SpiffeId, TrustBundles, X509Svid};

/// Certificates and bundles, replaced together. What did not change stays the same value.
#[derive(Debug, Default)]
pub(super) struct Held {
    contents: RwLock<Contents>,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Contents {
    svids: HashMap<SpiffeId, Arc<X509Svid>>,
    bundles: Arc<TrustBundles>,
}

impl Held {
    /// Replaces everything.
    pub(super) fn replace(&self, svids: impl IntoIterator<Item = Arc<X509Svid>>, bundles: TrustBundles) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let mut replaced = HashMap::new();
        for svid in svids {
            let kept = contents.svids.get(svid.id()).filter(|held| held.chain() == svid.chain());
            let svid = kept.cloned().unwrap_or(svid);
            // The first of several for one id.
            replaced.entry(svid.id().clone()).or_insert(svid);
        }
        contents.svids = replaced;
        if !same(&contents.bundles, &bundles) {
            contents.bundles = Arc::new(bundles);
        }
        // Inside the lock: whoever sees the number sees what it announces.
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.read().svids.get(id).cloned()
    }

    pub(super) fn bundles(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.read().bundles)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A panic while the lock was held leaves the contents whole: each part is old or new.
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(one: &TrustBundles, other: &TrustBundles) -> bool {
    let roots = |bundles: &TrustBundles| {
        bundles
            .iter()
            .map(|bundle| (bundle.trust_domain().clone(), bundle.certificates().to_vec()))
            .collect::<Vec<_>>()
    };
    roots(one) == roots(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn what_did_not_change_is_the_same_value() {
        let authority = Authority::new("example.org");
        let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
        let leaf = authority.leaf(a).issue();
        let svid = || Arc::new(leaf.svid().unwrap());
        let held = Held::default();
        held.replace([svid()], authority.bundles());
        let id = a.parse().unwrap();
        let (first, bundles, generation) = (held.svid(&id).unwrap(), held.bundles(), held.generation());
        held.replace([svid(), Arc::new(authority.svid(b))], authority.bundles());
        assert!(Arc::ptr_eq(&first, &held.svid(&id).unwrap()));
        assert!(Arc::ptr_eq(&bundles, &held.bundles()));
        assert!(held.generation() > generation);
        held.replace([Arc::new(authority.svid(a))], Authority::new("example.org").bundles());
        assert!(!Arc::ptr_eq(&first, &held.svid(&id).unwrap()));
        assert!(!Arc::ptr_eq(&bundles, &held.bundles()));
        assert!(held.svid(&b.parse().unwrap()).is_none());
    }
}
