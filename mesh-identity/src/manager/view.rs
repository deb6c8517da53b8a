//! The certificates as those see them who make connections.

use std::{
    hash::{BuildHasher, BuildHasherDefault},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::{
    SpiffeId, TrustBundles, X509Svid,
    id_map::{Hashed, IdMap},
};

/// What is handed out. Readers take no lock and allocate nothing; there is one writer at a time, who copies the part of
/// the table that changes.
#[derive(Debug)]
pub(super) struct View {
    shards: Box<[ArcSwap<Shard>]>,
    bundles: ArcSwap<TrustBundles>,
    generation: AtomicU64,
}

type Shard = IdMap<Arc<X509Svid>>;

impl View {
    pub(super) fn new(bundles: TrustBundles) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            bundles: ArcSwap::from_pointee(bundles),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.shard(id)?.load().get(id).cloned()
    }

    pub(super) fn bundles(&self) -> Arc<TrustBundles> {
        self.bundles.load_full()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A first certificate is no new generation: nobody can have kept anything that was made with another.
    pub(super) fn insert(&self, svid: Arc<X509Svid>) {
        let Some(shard) = self.shard(svid.id()) else { return };
        let mut next = Shard::clone(&shard.load());
        let replaced = next.insert(svid.id().clone(), svid).is_some();
        shard.store(Arc::new(next));
        if replaced {
            self.announce();
        }
    }

    pub(super) fn remove(&self, id: &SpiffeId) {
        let Some(shard) = self.shard(id) else { return };
        if shard.load().contains_key(id) {
            let mut next = Shard::clone(&shard.load());
            next.remove(id);
            shard.store(Arc::new(next));
            self.announce();
        }
    }

    pub(super) fn replace_bundles(&self, bundles: TrustBundles) {
        self.bundles.store(Arc::new(bundles));
        self.announce();
    }

    fn announce(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn shard(&self, id: &SpiffeId) -> Option<&ArcSwap<Shard>> {
        // The low bits choose within a shard.
        let hash = BuildHasherDefault::<Hashed>::default().hash_one(id) >> 32;
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))
    }
}

/// A renewal copies one of so many parts.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    // identity#45
    #[test]
    fn only_what_replaces_or_removes_is_a_new_generation() {
        let authority = Authority::new("example.org");
        let view = View::new(TrustBundles::default());
        let svid = Arc::new(authority.svid("spiffe://example.org/a"));
        view.insert(Arc::clone(&svid));
        assert_eq!(view.generation(), 0);
        view.insert(Arc::new(authority.svid("spiffe://example.org/b")));
        assert_eq!(view.generation(), 0);
        let held = view.get(svid.id()).unwrap();
        view.insert(Arc::new(authority.svid("spiffe://example.org/a")));
        assert_eq!(view.generation(), 1);
        assert!(Arc::ptr_eq(&held, &svid) && !Arc::ptr_eq(&held, &view.get(svid.id()).unwrap()));
        view.replace_bundles(authority.bundles());
        assert_eq!(view.generation(), 2);
        view.remove(svid.id());
        view.remove(svid.id());
        assert_eq!(view.generation(), 3);
        assert!(view.get(svid.id()).is_none());
    }
}
