//! What has arrived, and what of it counts.

use std::collections::BTreeSet;

use super::{WirePolicy, WirePolicyError};
use crate::{Action, MissingPolicy, Policy, PolicyName, PolicySet, Rule, Scope};

/// The policies that a control plane has sent, with what is enforced while one of them cannot be used.
///
/// A clone costs what one of a [`PolicySet`] does, and never changes: clone, apply, and put the new one in the place of
/// the old at once.
///
/// ```
/// use mesh_policy::{
///     MissingPolicy,
///     wire::{InPlace, PolicyChange, ReceivedPolicies, WirePolicy},
/// };
///
/// let sent = WirePolicy { namespace: "shop".into(), name: "p".into(), action: 1, ..WirePolicy::default() };
/// let mut policies = ReceivedPolicies::new(MissingPolicy::Deny);
/// assert!(policies.apply([PolicyChange::Upsert(sent.clone())]).is_empty());
///
/// // An action that is not known yet: refuse it, naming what is wrong, and enforce what was there.
/// let refused = policies.apply([PolicyChange::Upsert(WirePolicy { action: 7, ..sent })]);
/// assert_eq!(refused[0].error.to_string(), "unknown action 7");
/// assert_eq!(refused[0].in_place, InPlace::LastGood);
/// ```
#[derive(Clone, Debug)]
pub struct ReceivedPolicies {
    set: PolicySet,
    closed: BTreeSet<PolicyName>,
}

/// A change that a control plane asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// The policy is no more.
    Remove(PolicyName),
    /// The policy is new, or another than it was.
    Upsert(WirePolicy),
}

/// A policy that is refused: what a client answers the control plane with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPolicy {
    /// Its namespace and name, as they were sent.
    pub policy: String,
    /// Why.
    pub error: WirePolicyError,
    /// What is enforced nevertheless.
    pub in_place: InPlace,
}

/// What is enforced in the place of a policy that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InPlace {
    /// What fails closed: in the place of an ALLOW one that matches nothing, else a DENY of everything in its scope. If
    /// the scope is not known, that is its namespace and whoever lists it.
    Closed,
    /// The last version that could be used.
    LastGood,
    /// Nothing, as there is no name to put anything under. What is in force stays.
    Nothing,
}

impl ReceivedPolicies {
    /// Before any has arrived.
    pub fn new(missing: MissingPolicy) -> Self {
        Self { set: PolicySet::empty(missing), closed: BTreeSet::new() }
    }

    /// The policies to decide by.
    pub fn set(&self) -> &PolicySet {
        &self.set
    }

    /// The policies of the set that stand for one that was refused when there was no good one.
    pub fn closed(&self) -> impl ExactSizeIterator<Item = &PolicyName> {
        self.closed.iter()
    }

    /// Applies changes in their order, each for itself: one that is refused keeps none of the others out. Total: there is
    /// no message that it fails for.
    ///
    /// Costs what [`PolicySet::insert`] and [`PolicySet::remove`] do for each.
    #[must_use = "a refused policy has to be told"]
    pub fn apply(&mut self, changes: impl IntoIterator<Item = PolicyChange>) -> Vec<RefusedPolicy> {
        let mut refused = Vec::new();
        for change in changes {
            match change {
                PolicyChange::Remove(name) => {
                    self.closed.remove(&name);
                    self.set.remove(&name);
                }
                PolicyChange::Upsert(sent) => match Policy::try_from(&sent) {
                    Ok(policy) => {
                        self.closed.remove(&policy.name);
                        self.set.insert(policy);
                    }
                    Err(error) => {
                        let in_place = self.put_in_place(&sent);
                        let policy = format!("{}/{}", sent.namespace, sent.name);
                        refused.push(RefusedPolicy { policy, error, in_place });
                    }
                },
            }
        }
        refused
    }

    fn put_in_place(&mut self, sent: &WirePolicy) -> InPlace {
        let Ok(name) = sent.policy_name() else { return InPlace::Nothing };
        if self.set.get(&name).is_some() && !self.closed.contains(&name) {
            return InPlace::LastGood;
        }
        let action = sent.action().unwrap_or(Action::Deny);
        let rules = match action {
            Action::Allow => Vec::new(),
            Action::Deny => vec![Rule::default()],
        };
        let scope = sent.scope().unwrap_or(Scope::Namespace);
        self.set.insert(Policy { name: name.clone(), scope, action, dry_run: sent.dry_run, rules });
        self.closed.insert(name);
        InPlace::Closed
    }
}
