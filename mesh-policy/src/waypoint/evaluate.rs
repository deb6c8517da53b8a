//! The order in which policies decide.

use std::iter;

use super::{
    Mesh, Question, RequestFacts, Step, StreamFacts, WaypointDecision,
    attributes::Attributes,
    policy::{CompiledPolicy, class},
    target::{MAX_PLACES, PlaceRef},
};
use crate::{
    PolicyName, Reason, Semantics,
    object::Action,
    set::{Group, Index, Postings},
};

/// What is decided about, by which policies.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(super) index: &'a Index<CompiledPolicy>,
    pub(super) semantics: Semantics,
    pub(super) mesh: &'a Mesh,
    pub(super) facts: Facts<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Facts<'a> {
    Request(&'a RequestFacts<'a>),
    Stream(&'a StreamFacts<'a>),
}

impl<'a> Case<'a> {
    /// Looks up the policies. A decision does it once, and again when it is asked what it did not have to know.
    pub(super) fn applicable(self) -> Applicable<'a> {
        let Self { index, semantics, mesh, facts } = self;
        let attributes = match facts {
            Facts::Request(facts) => Attributes::of_request(facts, semantics, mesh),
            Facts::Stream(facts) => Attributes::of_stream(facts, semantics, mesh),
        };
        // All places of broken policies have one number, and hardly ever is there any.
        let any_unknown = index.may_be_at(PlaceRef::Unknown(""));
        let groups = attributes.stream.target.places(mesh).map(|place| match place? {
            PlaceRef::Unknown(_) if !any_unknown => None,
            place => index.at(place),
        });
        Applicable { case: self, attributes, groups }
    }

    pub(super) fn decided(self, reason: Reason<'a>) -> Step<'a> {
        Step::Decided(WaypointDecision { reason, case: self })
    }
}

/// The policies that apply to a stream or a request, and what they are asked about.
#[derive(Clone, Copy)]
pub(crate) struct Applicable<'a> {
    case: Case<'a>,
    attributes: Attributes<'a>,
    groups: [Option<&'a Group<CompiledPolicy>>; MAX_PLACES],
}

impl<'a> Applicable<'a> {
    /// CUSTOM, then DENY, then ALLOW. Providers up to the one given have been asked.
    pub(super) fn step(&self, asked: Option<&'a str>) -> Step<'a> {
        if self.has_any(Action::Custom)
            && let Some(step) = self.ask(asked)
        {
            return step;
        }
        self.case.decided(self.by_rules())
    }

    /// DENY, then ALLOW.
    fn by_rules(&self) -> Reason<'a> {
        if let Some((policy, rule)) = self.smallest_match(Action::Deny, false, None) {
            return Reason::DeniedBy { policy: &policy.name, rule };
        }
        if let Some((policy, rule)) = self.smallest_match(Action::Allow, false, None) {
            return Reason::AllowedBy { policy: &policy.name, rule };
        }
        if self.has_any(Action::Allow) { Reason::NoneAllowed } else { Reason::NoAllowPolicies }
    }

    /// Whether an enforced policy with an action applies.
    fn has_any(&self, action: Action) -> bool {
        let Attributes { stream: StreamFacts { target, .. }, mesh, .. } = &self.attributes;
        let mut postings = self.groups.iter().flatten().filter_map(|group| group.class(class(action, false)));
        postings.any(|postings| postings.policies().any(|policy| policy.selects(target, mesh)))
    }

    /// The question for the next provider, or the denial for one that cannot be asked.
    fn ask(&self, asked: Option<&'a str>) -> Option<Step<'a>> {
        let before_tokens = Self { attributes: self.asked(Action::Custom), ..*self };
        let mut next: Option<Question<'a>> = None;
        let mut after = None;
        while let Some((policy, rule)) = before_tokens.smallest_match(Action::Custom, false, after) {
            after = Some(&policy.name);
            let Some(provider) = &policy.provider else { continue };
            let name = &*provider.name;
            let Some(settings) = provider.settings.filter(|_| !self.are_too_many_asked()) else {
                let reason = Reason::ProviderUnusable { policy: &policy.name, rule, provider: name };
                return Some(self.case.decided(reason));
            };
            let is_next = asked.is_none_or(|asked| name > asked)
                && next.as_ref().is_none_or(|next| name < next.provider);
            if is_next {
                next = Some(Question { policy, rule, provider: name, settings, case: self.case });
            }
        }
        next.map(Step::Ask)
    }

    /// What policies with an action are asked about. Istio asks providers before it validates tokens.
    pub(super) fn asked(&self, action: Action) -> Attributes<'a> {
        match (action, self.attributes.semantics) {
            (Action::Custom, Semantics::Istio) => self.attributes.without_claims(),
            _ => self.attributes,
        }
    }

    /// Whether the policies of one target ask more than one provider where Istio lets them ask one.
    fn are_too_many_asked(&self) -> bool {
        if self.attributes.semantics == Semantics::Strict || self.attributes.mesh.multiple_providers {
            return false;
        }
        let policies = self.policies(Action::Custom, false);
        let mut names =
            policies.filter_map(|policy| policy.provider.as_ref()).map(|provider| &*provider.name);
        names.next().is_some_and(|first| names.any(|name| name != first))
    }

    /// All policies of a class, none of them twice.
    pub(super) fn policies(self, action: Action, dry_run: bool) -> impl Iterator<Item = &'a CompiledPolicy> {
        let Self { attributes, groups, .. } = self;
        let StreamFacts { target, .. } = attributes.stream;
        let places = target.places(attributes.mesh);
        groups.into_iter().enumerate().flat_map(move |(index, group)| {
            let postings = group.and_then(|group| group.class(class(action, dry_run)));
            // A policy may name more than one of the places.
            let is_new = move |policy: &CompiledPolicy| {
                let mut earlier = places.into_iter().take(index).flatten();
                !earlier.any(|place| policy.places.iter().any(|other| other.as_ref() == place))
            };
            let policies = postings.into_iter().flat_map(Postings::policies);
            policies.filter(move |policy| policy.selects(target, attributes.mesh) && is_new(policy))
        })
    }

    /// The policies of a class that match, each with its first rule that does, by name.
    pub(super) fn matches(
        self,
        action: Action,
        dry_run: bool,
    ) -> impl Iterator<Item = (&'a PolicyName, usize)> {
        let after = move |name: Option<&PolicyName>| {
            let (policy, rule) = self.smallest_match(action, dry_run, name)?;
            Some((&policy.name, rule))
        };
        iter::successors(after(None), move |(name, _)| after(Some(name)))
    }

    /// The policy of a class that matches and has the smallest name after the one given, with its rule.
    fn smallest_match(
        &self,
        action: Action,
        dry_run: bool,
        after: Option<&PolicyName>,
    ) -> Option<(&'a CompiledPolicy, usize)> {
        let groups = self.groups.iter().flatten();
        let postings = groups.filter_map(|group| group.class(class(action, dry_run)));
        let found = postings.filter_map(|postings| postings.smallest_match(&self.attributes, after));
        found.min_by(|(a, _), (b, _)| a.name.cmp(&b.name))
    }
}
