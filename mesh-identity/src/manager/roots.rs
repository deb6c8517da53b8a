//! The roots that follow from what an authority has answered.
//!
//! Each identity counts for the set of roots that came with its present certificate, until that is replaced or the
//! identity is forgotten; what is trusted in a trust domain is the union. So a new root counts for all identities from the
//! first answer that names it, and an old one until the last identity has been renewed without it. An answer that leaves
//! out a root is the sign that the authority withdraws it: identities that still count for it are named, to be renewed soon
//! instead of at the end of their lives.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use rustls::pki_types::CertificateDer;

use crate::{SpiffeId, TrustBundle, TrustBundles, TrustDomain};

#[derive(Debug)]
pub(super) struct Roots {
    /// Trusted whatever the authority says, other names of trust domains included.
    fixed: TrustBundles,
    of: HashMap<SpiffeId, Arc<TrustBundle>>,
    /// The different sets in use, each with the number of identities that count for it. Few: one, or two in a rotation.
    sets: BTreeMap<TrustDomain, Vec<(Arc<TrustBundle>, usize)>>,
    /// The union as it was told last.
    told: BTreeMap<TrustDomain, HashSet<CertificateDer<'static>>>,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The union, if it is another now.
    pub(super) bundles: Option<TrustBundles>,
    /// Who still counts for a root that the answer left out.
    pub(super) outdated: Vec<SpiffeId>,
}

impl Roots {
    pub(super) fn new(fixed: &TrustBundles) -> Self {
        Self { fixed: fixed.clone(), of: HashMap::new(), sets: BTreeMap::new(), told: roots_of(fixed) }
    }

    /// Takes what came with a certificate of `id`.
    pub(super) fn accept(&mut self, id: &SpiffeId, bundle: TrustBundle) -> Change {
        let before = self.of.get(id).map(Arc::clone);
        if before.as_deref().is_some_and(|before| same(before, &bundle)) {
            return Change::default();
        }
        let domain = bundle.trust_domain().clone();
        let sets = self.sets.entry(domain).or_default();
        let known = sets.iter_mut().find(|(set, _)| same(set, &bundle));
        let (set, is_new) = match known {
            Some((set, count)) => {
                *count += 1;
                (Arc::clone(set), false)
            }
            None => {
                let set = Arc::new(bundle);
                sets.push((Arc::clone(&set), 1));
                (set, true)
            }
        };
        self.of.insert(id.clone(), Arc::clone(&set));
        let is_last = before.is_some_and(|before| self.release(&before));
        let bundles = if is_new || is_last { self.changed() } else { None };
        let outdated = if is_new { self.outdated_by(&set) } else { Vec::new() };
        Change { bundles, outdated }
    }

    /// Forgets what `id` counted for. Returns the union, if it is another now.
    pub(super) fn forget(&mut self, id: &SpiffeId) -> Option<TrustBundles> {
        let set = self.of.remove(id)?;
        if self.release(&set) { self.changed() } else { None }
    }

    /// The union, if other roots are in it than were told last: bookkeeping is nothing to renew connections for.
    fn changed(&mut self) -> Option<TrustBundles> {
        let union = self.union();
        let roots = roots_of(&union);
        if roots == self.told {
            return None;
        }
        self.told = roots;
        Some(union)
    }

    /// When the first root of each trust domain ends.
    pub(super) fn expiries(bundles: &TrustBundles) -> BTreeMap<TrustDomain, SystemTime> {
        bundles
            .iter()
            .filter_map(|bundle| Some((bundle.trust_domain().clone(), bundle.first_expiry()?)))
            .collect()
    }

    pub(super) fn union(&self) -> TrustBundles {
        let mut union = self.fixed.clone();
        self.sets.values().flatten().for_each(|(set, _)| union.add(TrustBundle::clone(set)));
        union
    }

    /// Says whether nobody counts for the set any more.
    fn release(&mut self, set: &Arc<TrustBundle>) -> bool {
        let Some(sets) = self.sets.get_mut(set.trust_domain()) else { return false };
        let Some(index) = sets.iter().position(|(known, _)| Arc::ptr_eq(known, set)) else { return false };
        let Some((_, count)) = sets.get_mut(index) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            sets.remove(index);
            if sets.is_empty() {
                self.sets.remove(set.trust_domain());
            }
        }
        is_last
    }

    fn outdated_by(&self, newest: &TrustBundle) -> Vec<SpiffeId> {
        let withdraws = |set: &TrustBundle| {
            set.trust_domain() == newest.trust_domain()
                && set.certificates().iter().any(|root| !newest.certificates().contains(root))
        };
        self.of.iter().filter(|(_, set)| withdraws(set)).map(|(id, _)| id.clone()).collect()
    }
}

/// Whether two bundles have the same roots, in whatever order: replicas of an authority need not agree about that.
fn same(one: &TrustBundle, other: &TrustBundle) -> bool {
    let (one, other) = (one.certificates(), other.certificates());
    one.len() == other.len() && one.iter().all(|root| other.contains(root))
}

fn roots_of(bundles: &TrustBundles) -> BTreeMap<TrustDomain, HashSet<CertificateDer<'static>>> {
    let roots = |bundle: &TrustBundle| bundle.certificates().iter().cloned().collect();
    bundles.iter().map(|bundle| (bundle.trust_domain().clone(), roots(bundle))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://example.org/{name}").parse().unwrap()
    }

    fn roots(union: &TrustBundles) -> usize {
        union.get(&"example.org".parse().unwrap()).map_or(0, |bundle| bundle.certificates().len())
    }

    struct Rotating {
        old: TrustBundle,
        both: TrustBundle,
        new: TrustBundle,
    }

    fn rotating() -> Rotating {
        let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
        let domain = "example.org".parse().unwrap();
        let both = TrustBundle::from_der(domain, [old.root(), new.root()]).unwrap();
        Rotating { old: old.bundle(), both, new: new.bundle() }
    }

    // identity#65, identity#66, identity#67
    #[test]
    fn a_root_counts_from_the_first_answer_with_it_until_the_last_without() {
        let Rotating { old, both, new } = rotating();
        let mut all = Roots::new(&TrustBundles::default());
        assert_eq!(roots(&all.accept(&id("a"), old.clone()).bundles.unwrap()), 1);
        assert!(all.accept(&id("b"), old).bundles.is_none());

        let change = all.accept(&id("a"), both.clone());
        assert_eq!(roots(&change.bundles.unwrap()), 2);
        assert!(change.outdated.is_empty(), "{:?}", change.outdated);
        // The set with the old root alone is gone, and the union is the same.
        assert!(all.accept(&id("b"), both).bundles.is_none());

        let change = all.accept(&id("a"), new.clone());
        assert!(change.bundles.is_none());
        assert_eq!(change.outdated, [id("b")]);
        assert_eq!(roots(&all.accept(&id("b"), new).bundles.unwrap()), 1);
    }

    // identity#69
    #[test]
    fn another_order_of_the_same_roots_is_no_change() {
        let Rotating { old, both, new } = rotating();
        let domain = old.trust_domain().clone();
        let [first, second] = [&old, &new].map(|bundle| bundle.certificates()[0].clone());
        let reversed = TrustBundle::from_der(domain, [second, first]).unwrap();
        let mut all = Roots::new(&TrustBundles::default());
        assert!(all.accept(&id("a"), both.clone()).bundles.is_some());
        for bundle in [reversed.clone(), both, reversed] {
            let change = all.accept(&id("b"), bundle);
            assert!(change.bundles.is_none() && change.outdated.is_empty());
        }
        assert_eq!(all.sets.values().flatten().count(), 1);
    }

    #[test]
    fn an_identity_that_is_forgotten_counts_for_nothing() {
        let Rotating { old, new, .. } = rotating();
        let mut all = Roots::new(&TrustBundles::default());
        all.accept(&id("a"), old.clone());
        all.accept(&id("b"), new);
        assert_eq!(roots(&all.forget(&id("a")).unwrap()), 1);
        assert!(all.forget(&id("a")).is_none());
        assert_eq!(roots(&all.forget(&id("b")).unwrap()), 0);
    }

    #[test]
    fn what_is_trusted_besides_stays() {
        let Rotating { old, new, .. } = rotating();
        let mut all = Roots::new(&TrustBundles::new([old]));
        assert_eq!(roots(&all.accept(&id("a"), new).bundles.unwrap()), 2);
        assert_eq!(roots(&all.forget(&id("a")).unwrap()), 1);
    }

    // identity#20
    #[test]
    fn another_name_of_the_trust_domain_stays_one() {
        let Rotating { old, new, .. } = rotating();
        let alias = "old.example.org".parse().unwrap();
        let mut all = Roots::new(&TrustBundles::default().alias(alias, old.trust_domain()));
        let aliased = |union: &TrustBundles| {
            let bundle = union.get(&"old.example.org".parse().unwrap());
            bundle.map_or(0, |bundle| bundle.certificates().len())
        };
        assert_eq!(aliased(&all.accept(&id("a"), old).bundles.unwrap()), 1);
        assert_eq!(aliased(&all.accept(&id("b"), new).bundles.unwrap()), 2);
        assert_eq!(aliased(&all.forget(&id("a")).unwrap()), 1);
    }

    #[test]
    fn the_first_root_to_end_is_the_one_that_counts() {
        let Rotating { both, .. } = rotating();
        let expiries = Roots::expiries(&TrustBundles::new([both]));
        let [(_, end)] = expiries.into_iter().collect::<Vec<_>>().try_into().unwrap();
        assert!(end > SystemTime::now());
    }
}
