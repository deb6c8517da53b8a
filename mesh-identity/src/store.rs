//! Identities held in memory.

use std::{
    future::ready,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;

use crate::{
    IdentityError, IdentitySource, IdentityStatus, SpiffeId, SvidFuture, TrustBundles, X509Svid,
    id_map::IdMap,
};

/// Identities and bundles in memory, replaced atomically by whoever obtains them.
///
/// Clones share the contents. A reader takes no lock and allocates nothing, whatever a writer does meanwhile; a writer
/// copies the table of identities, so that many are better replaced together. It does not look at the clock: expired
/// certificates are replaced by its owner, and refused by [`TlsConfigs`](crate::TlsConfigs).
///
/// ```
/// use mesh_identity::{IdentitySource, IdentityStore, TrustBundles};
///
/// let store = IdentityStore::new(TrustBundles::default());
/// let before = store.generation();
/// store.replace([], TrustBundles::default());
/// assert_ne!(store.generation(), before);
/// ```
#[derive(Clone, Debug)]
pub struct IdentityStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    contents: ArcSwap<Contents>,
    writing: Mutex<()>,
    generation: AtomicU64,
}

#[derive(Clone, Debug)]
struct Contents {
    svids: IdMap<Arc<X509Svid>>,
    bundles: Arc<TrustBundles>,
}

impl IdentityStore {
    /// A store without any identity.
    pub fn new(bundles: TrustBundles) -> Self {
        let contents = Contents { svids: IdMap::default(), bundles: Arc::new(bundles) };
        Self(Arc::new(Shared {
            contents: ArcSwap::from_pointee(contents),
            writing: Mutex::default(),
            generation: AtomicU64::new(0),
        }))
    }

    /// Replaces everything at once: who sees the new certificates and then asks for bundles gets the new ones.
    /// Identities not named are gone.
    pub fn replace(&self, svids: impl IntoIterator<Item = X509Svid>, bundles: TrustBundles) {
        let svids = svids.into_iter().map(|svid| (svid.id().clone(), Arc::new(svid))).collect();
        let bundles = Arc::new(bundles);
        self.change(|_| Contents { svids, bundles });
    }

    /// Replaces the bundles, and leaves the identities as they are.
    pub fn replace_bundles(&self, bundles: TrustBundles) {
        let bundles = Arc::new(bundles);
        self.change(|present| Contents { svids: present.svids.clone(), bundles });
    }

    /// Adds an identity, or replaces the certificate of one.
    pub fn insert(&self, svid: impl Into<Arc<X509Svid>>) {
        let svid = svid.into();
        self.change(|present| {
            let mut next = present.clone();
            next.svids.insert(svid.id().clone(), svid);
            next
        });
    }

    /// Takes an identity out.
    pub fn remove(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        let mut removed = None;
        self.change(|present| {
            let mut next = present.clone();
            removed = next.svids.remove(id);
            next
        });
        removed
    }

    fn change(&self, change: impl FnOnce(&Contents) -> Contents) {
        // Guards no data: a writer that panicked has stored nothing.
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = change(&self.0.contents.load());
        self.0.contents.store(Arc::new(next));
        self.0.generation.fetch_add(1, Ordering::Release);
    }
}

impl IdentitySource for IdentityStore {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(ready(self.try_svid(id).ok_or_else(|| IdentityError::Unknown { id: id.clone() })))
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.0.contents.load().svids.get(id).cloned()
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.0.contents.load().bundles)
    }

    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        let (contents, now) = (self.0.contents.load(), SystemTime::now());
        let all = contents.svids.values();
        let mut all: Vec<_> =
            all.map(|svid| IdentityStatus::at(svid.id().clone(), Some(Arc::clone(svid)), now)).collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Some(all)
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdentityState, testing::Authority};

    #[test]
    fn every_change_has_its_generation() {
        let authority = Authority::new("example.org");
        let store = IdentityStore::new(authority.bundles());
        let id: SpiffeId = "spiffe://example.org/a".parse().unwrap();
        assert!(store.try_svid(&id).is_none());
        let mut last = store.generation();
        for _ in 0..2 {
            store.insert(authority.svid(id.as_str()));
            assert!(store.generation() > last);
            last = store.generation();
        }
        assert_eq!(store.try_svid(&id).unwrap().id(), &id);
        store.replace_bundles(TrustBundles::default());
        assert!(store.generation() > last);
        last = store.generation();
        assert!(store.try_svid(&id).is_some() && store.bundles().iter().next().is_none());
        let removed = store.remove(&id).unwrap();
        assert!(store.generation() > last);
        last = store.generation();
        assert!(store.try_svid(&id).is_none() && store.remove(&id).is_none());
        store.insert(removed);
        store.replace([], TrustBundles::default());
        assert!(store.generation() > last);
        assert!(store.try_svid(&id).is_none());
    }

    #[test]
    fn what_did_not_change_is_the_same_value() {
        let authority = Authority::new("example.org");
        let store = IdentityStore::new(authority.bundles());
        let id: SpiffeId = "spiffe://example.org/a".parse().unwrap();
        store.insert(authority.svid(id.as_str()));
        let (svid, bundles) = (store.try_svid(&id).unwrap(), store.bundles());
        store.insert(authority.svid("spiffe://example.org/b"));
        assert!(Arc::ptr_eq(&svid, &store.try_svid(&id).unwrap()));
        assert!(Arc::ptr_eq(&bundles, &store.bundles()));
    }

    // identity#83
    #[test]
    fn its_statuses_say_what_is_over() {
        let authority = Authority::new("example.org");
        let store = authority.store(["spiffe://example.org/b"]);
        let past = SystemTime::now() - std::time::Duration::from_secs(60);
        let over =
            authority.leaf("spiffe://example.org/a").valid(past - std::time::Duration::from_secs(60), past);
        store.insert(over.issue().svid().unwrap());
        let statuses = store.statuses().unwrap();
        let [over, good] = statuses.as_slice() else { panic!("{statuses:?}") };
        assert_eq!(
            (over.id.as_str(), good.id.as_str()),
            ("spiffe://example.org/a", "spiffe://example.org/b")
        );
        assert!(matches!(over.state, IdentityState::Unavailable(_)) && over.svid.is_some());
        assert_eq!(good.state, IdentityState::Available);
    }

    #[test]
    fn a_reader_does_not_wait_for_a_writer() {
        let authority = Authority::new("example.org");
        let store = authority.store(["spiffe://example.org/a"]);
        let id: SpiffeId = "spiffe://example.org/a".parse().unwrap();
        store.change(|present| {
            assert!(store.try_svid(&id).is_some());
            assert!(Arc::ptr_eq(&store.bundles(), &present.bundles));
            Contents { svids: IdMap::default(), bundles: Arc::clone(&present.bundles) }
        });
        assert!(store.try_svid(&id).is_none());
    }
}
