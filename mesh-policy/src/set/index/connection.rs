//! Policies for connections, in an index.

use std::sync::Arc;

use super::{
    Folding, Indexed, fingerprint,
    key::{Key, Shape},
};
use crate::{Policy, PolicyName, Scope, attributes::Attributes, evaluate::Class};

impl Indexed for Policy {
    type Place = Place;
    type PlaceRef<'a> = PlaceRef<'a>;
    type Shape = Shape;
    type Attributes<'a> = Attributes<'a>;

    fn name(&self) -> &PolicyName {
        &self.name
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let place = match self.scope {
            Scope::Global => Some(Place::Mesh),
            Scope::Namespace => Some(Place::Namespace(Arc::clone(self.name.shared_namespace()))),
            // Found by the name that workloads list.
            Scope::WorkloadSelector => None,
        };
        place.into_iter()
    }

    fn is(place: &Place, wanted: PlaceRef<'_>) -> bool {
        place.as_ref() == wanted
    }

    fn number(wanted: PlaceRef<'_>) -> u64 {
        match wanted {
            PlaceRef::Mesh => 0,
            PlaceRef::Namespace(namespace) => fingerprint(0, namespace.as_bytes(), Folding::None),
        }
    }

    fn number_of(place: &Place) -> u64 {
        Self::number(place.as_ref())
    }

    fn class(&self) -> usize {
        Class::of(self).number()
    }

    fn rules(&self) -> usize {
        self.rules.len()
    }

    fn for_each_key(&self, rule: usize, mut found: impl FnMut(Shape, u64)) {
        let Some(rule) = self.rules.get(rule) else { return };
        match rule.selection().filed {
            Some(part) => part.for_each_key(|key| found(key.shape(), key.fingerprint())),
            None => found(Shape::Always, Key::Always.fingerprint()),
        }
    }

    fn for_each_guard_key(&self, rule: usize, mut found: impl FnMut(Shape, u64)) {
        let guard = self.rules.get(rule).and_then(|rule| rule.selection().guard);
        guard.into_iter().for_each(|part| part.for_each_key(|key| found(key.shape(), key.fingerprint())));
    }

    fn for_each_fingerprint(shape: &Shape, attributes: &Attributes<'_>, visit: impl FnMut(u64)) {
        // A connection has at most one value of each shape.
        shape.key(attributes).map(|key| key.fingerprint()).into_iter().for_each(visit);
    }

    fn rule_matches(&self, rule: usize, attributes: &Attributes<'_>) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.matches(attributes))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Mesh,
    Namespace(Arc<str>),
}

impl Place {
    fn as_ref(&self) -> PlaceRef<'_> {
        match self {
            Self::Mesh => PlaceRef::Mesh,
            Self::Namespace(namespace) => PlaceRef::Namespace(namespace),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceRef<'a> {
    Mesh,
    Namespace(&'a str),
}
