//! All policies of a mesh.

mod builder;
mod index;

pub use builder::{PolicySetBuilder, PolicySetError};
pub(crate) use index::{
    Breadth, Candidates, Cost, Folding, Group, Index, Indexed, PlaceRef, Postings, RangeShape, Selection,
    Text, TextShape, fingerprint,
};

use std::{fmt, sync::Arc};

use crate::{Policy, PolicyName};

/// The policies of a mesh, indexed by where they apply and by what has to be true for their rules to match.
///
/// A clone costs one reference count and never changes: changing a set that is shared first copies the parts
/// of its index that the change touches (pointers, not policies), and what is not shared is changed in place.
/// So a batch of changes copies hardly more than one of them does.
#[derive(Clone)]
pub struct PolicySet {
    index: Arc<Index<Policy>>,
    missing: MissingPolicy,
}

impl PolicySet {
    /// Collects policies for a set.
    pub fn builder() -> PolicySetBuilder {
        PolicySetBuilder::new()
    }

    /// A set without policies, which allows everything except, with [`MissingPolicy::Deny`], connections to
    /// workloads that list a policy.
    pub fn empty(missing: MissingPolicy) -> Self {
        Self { index: Arc::default(), missing }
    }

    /// What is done about a policy that a workload lists and that is not here.
    pub fn missing(&self) -> MissingPolicy {
        self.missing
    }

    /// The policy of that name, as written.
    pub fn get(&self, name: &PolicyName) -> Option<&Policy> {
        self.index.get(name)
    }

    /// All policies, as written, ordered by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.index.iter()
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.index.iter().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a policy, or replaces the one with its name.
    ///
    /// Costs a few binary searches for each value that a rule of the policy is found by, and copies of the
    /// pages searched if the set is shared: tens of microseconds for a policy of ten rules among 10,000.
    pub fn insert(&mut self, policy: impl Into<Arc<Policy>>) {
        Arc::make_mut(&mut self.index).insert(policy.into());
    }

    /// Removes the policy of that name, if there is one. Costs what [`insert`](Self::insert) does.
    pub fn remove(&mut self, name: &PolicyName) {
        if self.get(name).is_some() {
            Arc::make_mut(&mut self.index).remove(name);
        }
    }

    /// This set with a policy [inserted](Self::insert). Shares the index: prefer `insert` for many changes.
    #[must_use]
    pub fn with(&self, policy: impl Into<Arc<Policy>>) -> Self {
        let mut set = self.clone();
        set.insert(policy);
        set
    }

    /// This set with a policy [removed](Self::remove). Shares the index: prefer `remove` for many changes.
    #[must_use]
    pub fn without(&self, name: &PolicyName) -> Self {
        let mut set = self.clone();
        set.remove(name);
        set
    }

    pub(crate) fn indexed(index: Index<Policy>, missing: MissingPolicy) -> Self {
        Self { index: Arc::new(index), missing }
    }

    pub(crate) fn index(&self) -> &Index<Policy> {
        &self.index
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|policy| &policy.name).collect();
        f.debug_struct("PolicySet").field("missing", &self.missing).field("policies", &names).finish()
    }
}

/// What is done about a policy that a workload lists and that is not in the set: it may be on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingPolicy {
    /// Connections are denied, unless they would be anyway.
    #[default]
    Deny,
    /// The policy is ignored, as Istio's node proxy does: until it arrives, a DENY denies nothing and a sole
    /// ALLOW allows everything.
    Skip,
}
