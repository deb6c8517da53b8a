//! A policy in the form that waypoints decide by.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ExtensionProvider, Mesh, Target,
    attributes::Attributes,
    condition::Condition,
    key::{Shape, for_each_fingerprint},
    target::{Place, PlaceRef, selects},
};
use crate::{PolicyName, object::Action, set::Indexed};

/// An AuthorizationPolicy, compiled for requests or for streams.
#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub(super) name: PolicyName,
    pub(super) action: Action,
    pub(super) dry_run: bool,
    pub(super) provider: Option<Provider>,
    pub(super) places: Vec<Place>,
    /// Of a policy that names no target: the labels that a workload has to have.
    pub(super) selector: Option<BTreeMap<String, String>>,
    pub(super) rules: Box<[CompiledRule]>,
    /// Stands in for an object that is broken.
    pub(super) is_broken: bool,
}

/// Whom a policy asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(super) name: Arc<str>,
    /// Nothing if it cannot be asked here.
    pub(super) settings: Option<ExtensionProvider>,
}

/// Matches if all clauses do; dropped, it never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CompiledRule {
    Clauses(Box<[Clause]>),
    Dropped(DroppedRule),
}

/// Why a rule of a policy does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum DroppedRule {
    /// It would ask a provider that cannot be asked about streams.
    Unasked,
    /// It allows by an attribute that a stream does not have.
    Unseen,
    /// It allows by a value that cannot be used.
    UnusableValue,
    /// A condition names an attribute that does not exist.
    UnknownKey,
}

/// A part of a rule; holds if one of its alternatives does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(super) part: RulePart,
    pub(super) alternatives: Box<[Alternative]>,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum RulePart {
    /// `from`
    From,
    /// `to`
    To,
    /// `when` with the index of the condition.
    When(usize),
}

/// Holds if all conditions do; without any, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(super) conditions: Box<[Condition]>,
}

impl CompiledPolicy {
    /// Whether it applies to a target, given that it is found at one of the target's places.
    pub(super) fn selects(&self, target: &Target<'_>, mesh: &Mesh) -> bool {
        let by_labels = self.places.iter().any(|place| matches!(place, Place::Namespace(_)));
        !by_labels || selects(self.selector.as_ref(), target, mesh)
    }
}

impl CompiledRule {
    pub(super) fn matches(&self, attributes: &Attributes<'_>) -> bool {
        match self {
            Self::Clauses(clauses) => clauses.iter().all(|clause| clause.holds(attributes)),
            Self::Dropped(_) => false,
        }
    }
}

impl Clause {
    pub(super) fn holds(&self, attributes: &Attributes<'_>) -> bool {
        self.alternatives.iter().any(|one| one.miss(attributes).is_none())
    }
}

impl Alternative {
    /// The first condition that does not hold. Explanations and decisions ask the same question.
    pub(super) fn miss(&self, attributes: &Attributes<'_>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.holds(attributes))
    }
}

impl Indexed for CompiledPolicy {
    type Place = Place;
    type PlaceRef<'a> = PlaceRef<'a>;
    type Shape = Shape;
    type Attributes<'a> = Attributes<'a>;

    fn name(&self) -> &PolicyName {
        &self.name
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.places.iter().cloned()
    }

    fn is(place: &Place, wanted: PlaceRef<'_>) -> bool {
        place.as_ref() == wanted
    }

    fn number(wanted: PlaceRef<'_>) -> u64 {
        wanted.number()
    }

    fn number_of(place: &Place) -> u64 {
        place.as_ref().number()
    }

    fn class(&self) -> usize {
        class(self.action, self.dry_run)
    }

    fn rules(&self) -> usize {
        self.rules.len()
    }

    fn for_each_key(&self, rule: usize, found: impl FnMut(Shape, u64)) {
        if let Some(rule) = self.rules.get(rule) {
            rule.for_each_key(found);
        }
    }

    fn for_each_guard_key(&self, rule: usize, found: impl FnMut(Shape, u64)) {
        if let Some(rule) = self.rules.get(rule) {
            rule.for_each_guard_key(found);
        }
    }

    fn for_each_fingerprint(shape: &Shape, attributes: &Attributes<'_>, visit: impl FnMut(u64)) {
        for_each_fingerprint(shape, attributes, visit);
    }

    fn rule_matches(&self, rule: usize, attributes: &Attributes<'_>) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.matches(attributes))
            && self.selects(&attributes.stream.target, attributes.mesh)
    }
}

/// The class of policies that are asked together.
pub(super) fn class(action: Action, dry_run: bool) -> usize {
    let action = match action {
        Action::Allow => 0,
        Action::Audit => 1,
        Action::Custom => 2,
        Action::Deny => 3,
    };
    action * 2 + usize::from(dry_run)
}
