//! What an index asks of policies.

use std::fmt::Debug;

use crate::PolicyName;

/// A policy that an [`Index`](super::Index) can hold: those of connections at a node proxy, and those of
/// streams and requests at a waypoint.
pub(crate) trait Indexed: Debug + Sized {
    /// Where a policy applies.
    type Place: Ord + Clone + Debug;
    /// A place that is looked up.
    type PlaceRef<'a>: Copy;
    /// A form of value that rules are found by.
    type Shape: Ord + Clone + Debug;
    /// What policies are asked about.
    type Attributes<'a>;

    fn name(&self) -> &PolicyName;

    /// All places where it applies, none of them twice.
    fn places(&self) -> impl Iterator<Item = Self::Place>;

    /// Whether a place is the one that is looked up.
    fn is(place: &Self::Place, wanted: Self::PlaceRef<'_>) -> bool;

    /// A number to find a place by; others seldom have it.
    fn number(wanted: Self::PlaceRef<'_>) -> u64;

    /// The number that the place is found by when it is looked up.
    fn number_of(place: &Self::Place) -> u64;

    /// Policies of the same class are asked together. Below [`MAX_CLASSES`](super::MAX_CLASSES).
    fn class(&self) -> usize;

    /// How many rules it has.
    fn rules(&self) -> usize;

    /// Calls `found` with each value that a rule is found by: its shape, and a number for it. Whatever the rule
    /// matches has at least one of them.
    ///
    /// Depends on nothing but the policy, so that it can be taken out of an index by what it says.
    ///
    /// Equal values have equal numbers. Others may as well: what is found is asked before it counts, so the
    /// worst that a collision costs is the question.
    fn for_each_key(&self, rule: usize, found: impl FnMut(Self::Shape, u64));

    /// Calls `found` with the values of another part of the rule, if it has one that narrows down what it matches.
    /// Whatever the rule matches has at least one of these, too.
    fn for_each_guard_key(&self, rule: usize, found: impl FnMut(Self::Shape, u64));

    /// Calls `visit` with the numbers of all values of a shape that something has.
    fn for_each_fingerprint(shape: &Self::Shape, attributes: &Self::Attributes<'_>, visit: impl FnMut(u64));

    fn rule_matches(&self, rule: usize, attributes: &Self::Attributes<'_>) -> bool;
}
