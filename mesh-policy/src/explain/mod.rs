//! A decision with its proof.

mod display;
mod mismatch;
#[cfg(feature = "crd")]
mod serialize;

pub(crate) use mismatch::alternatives;
pub use mismatch::{Actual, Expected, Field, MatchMiss, Mismatch};
#[cfg(feature = "crd")]
pub(crate) use serialize::decision;

use std::cmp::Reverse;

use crate::{
    Action, Clause, ConnectionFacts, Decision, ObjectRef, Policy, PolicyName, PolicySet, Reason, Rule,
    attributes::Attributes,
    evaluate::{Applicable, Class},
};

impl PolicySet {
    /// Decides about a connection as [`evaluate_connection`](Self::evaluate_connection) does, and shows why.
    ///
    /// For people and tools: evaluates every rule that applies and allocates.
    pub fn explain<'a>(&'a self, facts: &ConnectionFacts<'a>) -> Explanation<'a> {
        let applicable = Applicable::new(self, facts);
        let decision = Decision { reason: applicable.decide(), applicable };
        let all = Class::ALL.into_iter().flat_map(|class| applicable.policies(class));
        let mut policies: Vec<_> =
            all.map(|policy| PolicyTrace::new(policy, applicable.attributes())).collect();
        policies.sort_by(|a, b| a.order(&decision).cmp(&b.order(&decision)));
        // A workload may list a policy more than once.
        policies.dedup_by_key(|trace| &trace.policy.name);
        Explanation { decision, policies }
    }
}

/// A decision, and how each policy that was considered fared.
///
/// `Display` is for people: the reason, and beneath it the rule that decided or the ALLOW policies that came
/// nearest. With the feature `crd`, `Serialize` is for machines: `verdict`, `reason`, `dryRunDenials`, and in `policies`
/// how each rule of each policy fared.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    decision: Decision<'a>,
    policies: Vec<PolicyTrace<'a>>,
}

impl<'a> Explanation<'a> {
    /// This explanation with the objects that policies were converted from, where something knows them: with the
    /// feature `crd`, `NodePolicies::converted_from`. People are shown the object, machines both.
    #[must_use]
    pub fn with_objects(mut self, object_of: impl Fn(&PolicyName) -> Option<ObjectRef>) -> Self {
        self.policies.iter_mut().for_each(|trace| trace.object = object_of(&trace.policy.name));
        self
    }

    /// The decision explained.
    pub fn decision(&self) -> Decision<'a> {
        self.decision
    }

    /// Every policy that applies: the one that decided, then those enforced before those in dry run, ALLOW
    /// before DENY, the nearest first. A policy is as near as its nearest rule.
    pub fn policies(&self) -> &[PolicyTrace<'a>] {
        &self.policies
    }
}

/// How a policy fared.
#[derive(Clone, Debug)]
pub struct PolicyTrace<'a> {
    policy: &'a Policy,
    object: Option<ObjectRef>,
    rules: Vec<RuleTrace<'a>>,
}

impl<'a> PolicyTrace<'a> {
    fn new(policy: &'a Policy, attributes: &Attributes<'a>) -> Self {
        let traces = policy.rules.iter().enumerate();
        let mut rules: Vec<_> = traces.map(|(index, rule)| RuleTrace::new(index, rule, attributes)).collect();
        // Stable: of rules as near as each other, the first comes first.
        rules.sort_by_key(|rule| Reverse(rule.nearness()));
        Self { policy, object: None, rules }
    }

    /// The policy as written.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The object that the policy was converted from, if it was [told](Explanation::with_objects).
    pub fn object(&self) -> Option<&ObjectRef> {
        self.object.as_ref()
    }

    /// Its rules, nearest first: those that match, then those with the most clauses that match.
    pub fn rules(&self) -> &[RuleTrace<'a>] {
        &self.rules
    }

    /// Whether the policy matches, which is whether a rule does.
    pub fn matches(&self) -> bool {
        self.rules.first().is_some_and(|rule| rule.miss.is_none())
    }

    fn order(&self, decision: &Decision<'_>) -> impl Ord + use<'a> {
        let decided = matches!(
            decision.reason,
            Reason::AllowedBy { policy, .. } | Reason::DeniedBy { policy, .. } if *policy == self.policy.name
        );
        let nearness = self.rules.first().map(RuleTrace::nearness);
        let deny = self.policy.action == Action::Deny;
        (!decided, self.policy.dry_run, deny, Reverse(nearness), &self.policy.name)
    }
}

/// How a rule fared.
#[derive(Clone, Debug)]
pub struct RuleTrace<'a> {
    index: usize,
    matching: usize,
    missed: usize,
    miss: Option<ClauseMiss<'a>>,
}

impl<'a> RuleTrace<'a> {
    fn new(index: usize, rule: &'a Rule, attributes: &Attributes<'a>) -> Self {
        let misses = || rule.clauses.iter().enumerate().filter(|(_, clause)| !clause.matches(attributes));
        let missed = misses().count();
        let miss = misses().next().map(|(index, clause)| ClauseMiss::new(index, clause, attributes));
        Self { index, matching: rule.clauses.len() - missed, missed, miss }
    }

    /// The index of the rule in its policy.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many of its clauses match.
    pub fn matching_clauses(&self) -> usize {
        self.matching
    }

    /// The first clause that misses; if there is none, the rule matches.
    pub fn miss(&self) -> Option<&ClauseMiss<'a>> {
        self.miss.as_ref()
    }

    fn nearness(&self) -> impl Ord + use<> {
        (self.miss.is_none(), self.matching, Reverse(self.missed))
    }
}

/// Why a clause misses.
#[derive(Clone, Debug)]
pub struct ClauseMiss<'a> {
    index: usize,
    matches: Vec<MatchMiss<'a>>,
}

impl<'a> ClauseMiss<'a> {
    fn new(index: usize, clause: &'a Clause, attributes: &Attributes<'a>) -> Self {
        Self { index, matches: clause.matches.iter().filter_map(|one| one.miss(attributes)).collect() }
    }

    /// The index of the clause in its rule.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Why each of its matches misses, in their order.
    pub fn matches(&self) -> &[MatchMiss<'a>] {
        &self.matches
    }
}
