//! A decision with its proof.

use std::{cmp::Reverse, fmt};

use super::{
    Answer, Question, Step, WaypointDecision,
    attribute::Attribute,
    attributes::Attributes,
    condition::Condition,
    evaluate::Case,
    policy::{Alternative, Clause, CompiledPolicy, CompiledRule, DroppedRule, RulePart},
    value::{SCHEME, accounts_within, namespaces_within, trust_domain},
};
use crate::{PolicyName, Reason, explain::alternatives, object::Action};

/// A decision about a stream or a request, and how each policy that was considered fared.
///
/// `Display` is for people: the reason, and beneath it the rule that decided or the ALLOW policies that came
/// nearest.
#[derive(Clone, Debug)]
pub struct WaypointExplanation<'a> {
    decision: WaypointDecision<'a>,
    policies: Vec<WaypointPolicyTrace<'a>>,
}

impl<'a> WaypointExplanation<'a> {
    pub(super) fn new(case: Case<'a>, mut answer: impl FnMut(&Question<'a>) -> Answer) -> Self {
        let applicable = case.applicable();
        let mut step = applicable.step(None);
        let decision = loop {
            match step {
                Step::Ask(question) => step = question.answer(answer(&question)),
                Step::Decided(decision) => break decision,
            }
        };
        let mut policies = Vec::new();
        for action in [Action::Allow, Action::Audit, Action::Custom, Action::Deny] {
            for dry_run in [false, true] {
                let asked = applicable.asked(action);
                let considered = applicable.policies(action, dry_run);
                policies.extend(considered.map(|policy| WaypointPolicyTrace::new(policy, &asked)));
            }
        }
        policies.sort_by(|a, b| a.order(&decision).cmp(&b.order(&decision)));
        Self { decision, policies }
    }

    /// The decision explained.
    pub fn decision(&self) -> WaypointDecision<'a> {
        self.decision
    }

    /// Every policy that applies: the one that decided, then those enforced before those in dry run, ALLOW
    /// before others, the nearest first. A policy is as near as its nearest rule.
    pub fn policies(&self) -> &[WaypointPolicyTrace<'a>] {
        &self.policies
    }
}

/// How a policy fared.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct WaypointPolicyTrace<'a> {
    policy: &'a PolicyName,
    action: Action,
    dry_run: bool,
    is_broken: bool,
    rules: Vec<WaypointRuleTrace>,
}

impl<'a> WaypointPolicyTrace<'a> {
    fn new(policy: &'a CompiledPolicy, attributes: &Attributes<'_>) -> Self {
        let traces = policy.rules.iter().enumerate();
        let mut rules: Vec<_> =
            traces.map(|(index, rule)| WaypointRuleTrace::new(index, rule, attributes)).collect();
        // Stable: of rules as near as each other, the first comes first.
        rules.sort_by_key(|rule| Reverse(rule.nearness()));
        let CompiledPolicy { name, action, dry_run, is_broken, .. } = policy;
        Self { policy: name, action: *action, dry_run: *dry_run, is_broken: *is_broken, rules }
    }

    /// The name of the policy.
    pub fn policy(&self) -> &'a PolicyName {
        self.policy
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether it is evaluated and reported only.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether it stands in for an object that was refused.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Its rules, nearest first: those that match, then those with the most parts that match.
    pub fn rules(&self) -> &[WaypointRuleTrace] {
        &self.rules
    }

    /// Whether the policy matches, which is whether a rule does.
    pub fn matches(&self) -> bool {
        self.rules.first().is_some_and(|rule| rule.miss.is_none())
    }

    fn order(&self, decision: &WaypointDecision<'_>) -> impl Ord + use<'a> {
        let decided = decision.reason.policy() == Some(self.policy);
        let nearness = self.rules.first().map(WaypointRuleTrace::nearness);
        let other = self.action != Action::Allow;
        (!decided, self.dry_run, other, Reverse(nearness), self.policy)
    }
}

/// How a rule fared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct WaypointRuleTrace {
    index: usize,
    matching: usize,
    missed: usize,
    miss: Option<RuleMiss>,
}

impl WaypointRuleTrace {
    fn new(index: usize, rule: &CompiledRule, attributes: &Attributes<'_>) -> Self {
        let clauses = match rule {
            CompiledRule::Clauses(clauses) => clauses,
            CompiledRule::Dropped(dropped) => {
                return Self { index, matching: 0, missed: 0, miss: Some(RuleMiss::Dropped(*dropped)) };
            }
        };
        let misses = || clauses.iter().filter(|clause| !clause.holds(attributes));
        let missed = misses().count();
        let miss = misses().next().map(|clause| RuleMiss::part(clause, attributes));
        Self { index, matching: clauses.len() - missed, missed, miss }
    }

    /// The index of the rule in its policy.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many of its parts match: `from`, `to`, and each condition of `when`.
    pub fn matching_parts(&self) -> usize {
        self.matching
    }

    /// What misses first; if there is nothing, the rule matches.
    pub fn miss(&self) -> Option<&RuleMiss> {
        self.miss.as_ref()
    }

    fn nearness(&self) -> impl Ord + use<> {
        let is_dropped = matches!(self.miss, Some(RuleMiss::Dropped(_)));
        (self.miss.is_none(), !is_dropped, self.matching, Reverse(self.missed))
    }
}

/// Why a rule misses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum RuleMiss {
    /// It was dropped when it was compiled.
    Dropped(DroppedRule),
    /// None of the alternatives of a part holds.
    Part {
        /// The part.
        part: RulePart,
        /// What misses first in each alternative, in their order.
        conditions: Vec<ConditionMiss>,
    },
}

impl RuleMiss {
    fn part(clause: &Clause, attributes: &Attributes<'_>) -> Self {
        let misses = clause.alternatives.iter().filter_map(|one: &Alternative| one.miss(attributes));
        let conditions = misses.map(|condition| ConditionMiss::new(condition, attributes)).collect();
        Self::Part { part: clause.part, conditions }
    }
}

/// A condition that does not hold. Displayed as `path is /items, expected /items/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct ConditionMiss {
    attribute: String,
    negated: bool,
    expected: String,
    actual: Vec<String>,
    /// Of an identity that does not say: what does not.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    unseen_in: Option<String>,
}

impl ConditionMiss {
    fn new(condition: &Condition, attributes: &Attributes<'_>) -> Self {
        Self {
            attribute: condition.attribute.to_string(),
            negated: condition.negated,
            expected: condition.values.to_string(),
            actual: attributes.shown(&condition.attribute),
            unseen_in: attributes.peer.filter(|_| condition.is_unseen(attributes)).map(str::to_owned),
        }
    }

    /// What it is about: the key of a condition, or `host`, `method` or `path`.
    pub fn attribute(&self) -> &str {
        &self.attribute
    }

    /// Whether the attribute should have had none of the values.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// What the policy lists.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What was there: nothing if the attribute is absent, several texts for a header with several lines or a
    /// claim that is a list.
    pub fn actual(&self) -> &[String] {
        &self.actual
    }

    /// The identity of the peer, if that is why the attribute cannot be seen: it has none of the form
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
    pub fn unseen_in(&self) -> Option<&str> {
        self.unseen_in.as_deref()
    }
}

impl Attributes<'_> {
    /// The values of an attribute, for people.
    fn shown(&self, attribute: &Attribute) -> Vec<String> {
        let request = self.request.as_ref();
        let facts = request.map(|request| request.facts);
        let text = |text: Option<&str>| text.map(str::to_owned).into_iter().collect();
        match attribute {
            Attribute::Audience | Attribute::Claim(_) | Attribute::Presenter => self
                .claim(attribute)
                .into_iter()
                .flat_map(super::ClaimValue::texts)
                .map(str::to_owned)
                .collect(),
            Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => {
                vec![self.address(attribute).to_string()]
            }
            Attribute::DestinationPort => vec![self.stream.destination.port().to_string()],
            Attribute::Header(header) => {
                let lines = facts.into_iter().flat_map(|facts| header.lines(facts));
                lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
            }
            Attribute::Host => text(facts.and_then(|facts| facts.authority)),
            Attribute::Metadata { filter, key } => {
                let notes =
                    self.stream.metadata.iter().filter(|note| note.filter == &**filter && note.key == &**key);
                notes.flat_map(|note| note.value.texts()).map(str::to_owned).collect()
            }
            Attribute::Method => text(facts.map(|facts| facts.method)),
            // In Istio's form there is one of each; in Istio's reading any other URI may have several.
            Attribute::Namespace | Attribute::ServiceAccount if self.is_peer_odd() => Vec::new(),
            Attribute::Namespace => match (self.identity, self.peer) {
                (Some(id), _) => vec![id.namespace.to_owned()],
                (None, peer) => peer.into_iter().flat_map(namespaces_within).map(str::to_owned).collect(),
            },
            Attribute::ServiceAccount => match (self.identity, self.peer) {
                (Some(id), _) => vec![format!("{}/{}", id.namespace, id.account)],
                (None, peer) => {
                    let accounts = peer.into_iter().flat_map(accounts_within);
                    accounts.map(|(namespace, name)| format!("{namespace}/{name}")).collect()
                }
            },
            // As policies write it.
            Attribute::Principal => text(self.peer.map(|peer| peer.strip_prefix(SCHEME).unwrap_or(peer))),
            Attribute::TrustDomain => text(self.peer.and_then(trust_domain)),
            Attribute::Path => text(request.map(|request| request.path)),
            Attribute::RequestPrincipal => {
                let parts = self.claims().and_then(|claims| claims.text("iss").zip(claims.text("sub")));
                parts.map(|(issuer, subject)| format!("{issuer}/{subject}")).into_iter().collect()
            }
            Attribute::Sni => text(self.stream.sni),
        }
    }
}

/// As [`Explanation`](crate::Explanation) is, and with `audits`.
#[cfg(feature = "crd")]
impl serde::Serialize for WaypointExplanation<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        #[derive(serde::Serialize)]
        struct Audit<'a> {
            policy: &'a PolicyName,
            rule: usize,
        }
        let denials: Vec<_> = self.decision.dry_run_denials().collect();
        let audits: Vec<_> = self.decision.audits().map(|(policy, rule)| Audit { policy, rule }).collect();
        let mut explanation = serializer.serialize_struct("WaypointExplanation", 5)?;
        crate::explain::decision(&mut explanation, self.decision.reason, &denials)?;
        explanation.serialize_field("audits", &audits)?;
        explanation.serialize_field("policies", &self.policies)?;
        explanation.end()
    }
}

impl fmt::Display for WaypointExplanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.decision.reason;
        write!(f, "{}: {reason}", reason.verdict())?;
        match reason.rule() {
            Some(rule) => {
                if let Some(trace) = self.policies.first() {
                    write!(f, "\n  {} {} rule[{rule}] matches", trace.action, trace.policy)?;
                }
            }
            None if reason == Reason::NoneAllowed => self.fmt_nearest(f)?,
            None => {}
        }
        for (policy, rule) in self.decision.audits() {
            write!(f, "\n  audit: {policy} rule[{rule}] matches")?;
        }
        for policy in self.decision.dry_run_denials() {
            write!(f, "\n  dry run: {policy} would deny")?;
        }
        Ok(())
    }
}

impl WaypointExplanation<'_> {
    fn fmt_nearest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_asked = |trace: &&WaypointPolicyTrace<'_>| trace.action == Action::Allow && !trace.dry_run;
        let mut asked = self.policies.iter().filter(is_asked);
        for trace in asked.by_ref().take(SHOWN_POLICIES) {
            write!(f, "\n  {trace}")?;
        }
        match asked.count() {
            0 => Ok(()),
            1 => f.write_str("\n  and 1 more policy"),
            more => write!(f, "\n  and {more} more policies"),
        }
    }
}

/// The action, the name, and the nearest rule.
impl fmt::Display for WaypointPolicyTrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.policy)?;
        match self.rules.first() {
            _ if self.is_broken => f.write_str(" was refused"),
            Some(rule) => write!(f, " {rule}"),
            None => f.write_str(" has no rules"),
        }
    }
}

impl fmt::Display for WaypointRuleTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule[{}]", self.index)?;
        match &self.miss {
            Some(miss) => write!(f, " {miss}"),
            None => f.write_str(" matches"),
        }
    }
}

impl fmt::Display for RuleMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped(dropped) => write!(f, "never matches: {dropped}"),
            Self::Part { part, conditions } => {
                write!(f, "{part} misses:")?;
                for (index, miss) in conditions.iter().take(SHOWN_CONDITIONS).enumerate() {
                    let separator = if index == 0 { " " } else { "; " };
                    write!(f, "{separator}{miss}")?;
                }
                match conditions.len().saturating_sub(SHOWN_CONDITIONS) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl fmt::Display for ConditionMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is ", self.attribute)?;
        match self.actual.as_slice() {
            [] => match &self.unseen_in {
                Some(peer) => write!(f, "not known of {peer}")?,
                None => f.write_str("absent")?,
            },
            values => alternatives(f, values)?,
        }
        let not = if self.negated { "not " } else { "" };
        write!(f, ", expected {not}{}", self.expected)
    }
}

impl fmt::Display for DroppedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked => "its provider is not asked about streams",
            Self::Unseen => "streams have no attributes of requests",
            Self::UnusableValue => "one of its values cannot be used",
            Self::UnknownKey => "it names an unknown attribute",
        })
    }
}

impl fmt::Display for RulePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From => f.write_str("from"),
            Self::To => f.write_str("to"),
            Self::When(index) => write!(f, "when[{index}]"),
        }
    }
}

const SHOWN_POLICIES: usize = 3;
const SHOWN_CONDITIONS: usize = 3;
