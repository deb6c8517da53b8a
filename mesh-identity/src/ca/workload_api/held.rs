//! What an agent has given so far.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::{SpiffeId, TrustBundles, X509Svid, id_map::IdMap};

/// Certificates and bundles, replaced together. What did not change stays the same value. Readers take no lock and allocate
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Held {
    contents: ArcSwap<Contents>,
    writing: Mutex<()>,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Contents {
    svids: IdMap<Arc<X509Svid>>,
    bundles: Arc<TrustBundles>,
}

impl Held {
    /// Replaces everything. Agents repeat themselves: what changes nothing is no new generation.
    pub(super) fn replace(
        &self,
        svids: impl IntoIterator<Item = Arc<X509Svid>>,
        bundles: impl Into<Arc<TrustBundles>>,
    ) {
        let bundles = bundles.into();
        // Guards no data: a writer that panicked has stored nothing.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.contents.load();
        let mut replaced = IdMap::default();
        for svid in svids {
            let kept = present.svids.get(svid.id()).filter(|held| held.chain() == svid.chain());
            let svid = kept.cloned().unwrap_or(svid);
            // The first of several for one id.
            replaced.entry(svid.id().clone()).or_insert(svid);
        }
        let same_bundles = same(&present.bundles, &bundles);
        let held = |(id, svid)| present.svids.get(id).is_some_and(|held| Arc::ptr_eq(held, svid));
        if same_bundles && replaced.len() == present.svids.len() && replaced.iter().all(held) {
            return;
        }
        let bundles = if same_bundles { Arc::clone(&present.bundles) } else { bundles };
        self.contents.store(Arc::new(Contents { svids: replaced, bundles }));
        // Last: whoever sees the number sees what it announces.
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.contents.load().svids.get(id).cloned()
    }

    pub(super) fn bundles(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.contents.load().bundles)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
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
        held.replace([svid()], authority.bundles());
        assert_eq!(held.generation(), generation);
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
