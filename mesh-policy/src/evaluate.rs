//! The order in which policies decide.

use std::iter;

use crate::{
    Action, ConnectionFacts, Decision, MissingPolicy, Policy, PolicyName, PolicySet, Reason, Scope,
    attributes::Attributes,
    set::{Group, Index, PlaceRef},
};

impl PolicySet {
    /// Decides about a connection.
    ///
    /// Never fails, blocks or allocates.
    ///
    /// Costs one look-up for each form of value (an exact principal, a prefix of some length, a range of some
    /// length, a port, …) by which rules for the destination's namespace or for all of the mesh are found, and
    /// then what it takes to ask the rules that are found. A rule is found by its most selective positive
    /// clause; rules without one, and rules whose value every peer has, are asked about every connection.
    /// Policies that the workload lists by name are asked one by one.
    pub fn evaluate_connection<'a>(&'a self, facts: &ConnectionFacts<'a>) -> Decision<'a> {
        let applicable = Applicable::new(self, facts);
        Decision { reason: applicable.decide(), applicable }
    }
}

/// The policies that apply to a connection, and what they are asked about.
#[derive(Clone, Copy)]
pub(crate) struct Applicable<'a> {
    attributes: Attributes<'a>,
    index: &'a Index<Policy>,
    namespace: &'a str,
    in_namespace: Option<&'a Group<Policy>>,
    in_mesh: Option<&'a Group<Policy>>,
    listed: &'a [PolicyName],
    missing: MissingPolicy,
}

impl<'a> Applicable<'a> {
    pub(crate) fn new(set: &'a PolicySet, facts: &ConnectionFacts<'a>) -> Self {
        Self {
            attributes: Attributes::new(facts),
            index: set.index(),
            namespace: facts.namespace,
            in_namespace: set.index().at(PlaceRef::Namespace(facts.namespace)),
            in_mesh: set.index().at(PlaceRef::Mesh),
            listed: facts.policies,
            missing: set.missing(),
        }
    }

    pub(crate) fn attributes(&self) -> &Attributes<'a> {
        &self.attributes
    }

    pub(crate) fn decide(&self) -> Reason<'a> {
        if let Some((policy, rule)) = self.smallest_match(DENY, None) {
            return Reason::DeniedBy { policy, rule };
        }
        if let Some(policy) = self.missing_policy() {
            return Reason::Missing { policy };
        }
        if self.policies(ALLOW).next().is_none() {
            return Reason::NoAllowPolicies;
        }
        match self.smallest_match(ALLOW, None) {
            Some((policy, rule)) => Reason::AllowedBy { policy, rule },
            None => Reason::NoneAllowed,
        }
    }

    pub(crate) fn dry_run_denials(self, reason: Reason<'a>) -> impl Iterator<Item = &'a PolicyName> {
        let none_would_allow =
            reason == Reason::NoAllowPolicies && self.smallest_match(DRY_RUN_ALLOW, None).is_none();
        let allows = none_would_allow.then(|| self.policies(DRY_RUN_ALLOW)).into_iter().flatten();
        let smallest_after = move |after| Some(self.smallest_match(DRY_RUN_DENY, after)?.0);
        iter::successors(smallest_after(None), move |name| smallest_after(Some(*name)))
            .chain(allows.map(|policy| &policy.name))
    }

    /// All policies of a class.
    pub(crate) fn policies(self, class: Class) -> impl Iterator<Item = &'a Policy> {
        let groups = self.in_namespace.into_iter().chain(self.in_mesh);
        let postings = groups.filter_map(move |group| group.class(class.number()));
        postings.flat_map(|postings| postings.policies()).chain(self.listed(class))
    }

    /// Those that apply only because the workload lists them.
    fn listed(self, class: Class) -> impl Iterator<Item = &'a Policy> {
        let known = self.listed.iter().filter_map(move |name| self.index.get(name));
        known.filter(move |policy| Class::of(policy) == class && !self.is_in_scope(policy))
    }

    fn is_in_scope(&self, policy: &Policy) -> bool {
        match policy.scope {
            Scope::Global => true,
            Scope::Namespace => policy.name.namespace() == self.namespace,
            Scope::WorkloadSelector => false,
        }
    }

    /// The policy of a class that matches and has the smallest name after the one given, with its rule.
    ///
    /// The smallest name is independent of the order in which policies arrived or are listed.
    fn smallest_match(self, class: Class, after: Option<&PolicyName>) -> Option<(&'a PolicyName, usize)> {
        let in_group = |group: &'a Group<Policy>| {
            let (policy, rule) = group.class(class.number())?.smallest_match(&self.attributes, after)?;
            Some((&policy.name, rule))
        };
        let in_namespace = self.in_namespace.and_then(in_group);
        let global = self.in_mesh.and_then(in_group);
        let listed = self.listed(class).filter(|policy| after.is_none_or(|after| policy.name > *after));
        let listed =
            listed.filter_map(|policy| Some((&policy.name, policy.matching_rule(&self.attributes)?)));
        [in_namespace, global, listed.min()].into_iter().flatten().min()
    }

    fn missing_policy(&self) -> Option<&'a PolicyName> {
        match self.missing {
            MissingPolicy::Deny => self.listed.iter().filter(|name| self.index.get(name).is_none()).min(),
            MissingPolicy::Skip => None,
        }
    }
}

/// Policies that are asked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) action: Action,
    pub(crate) dry_run: bool,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [ALLOW, DENY, DRY_RUN_ALLOW, DRY_RUN_DENY];

    pub(crate) fn of(policy: &Policy) -> Self {
        Self { action: policy.action, dry_run: policy.dry_run }
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.action == Action::Deny) + 2 * usize::from(self.dry_run)
    }
}

const ALLOW: Class = Class { action: Action::Allow, dry_run: false };
const DENY: Class = Class { action: Action::Deny, dry_run: false };
const DRY_RUN_ALLOW: Class = Class { action: Action::Allow, dry_run: true };
const DRY_RUN_DENY: Class = Class { action: Action::Deny, dry_run: true };
