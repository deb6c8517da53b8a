//! Policies by name and by where they apply.

mod connection;
mod fingerprint;
mod guard;
mod indexed;
mod key;
mod pages;
mod postings;
mod selection;

pub(crate) use connection::PlaceRef;
pub(crate) use fingerprint::{Folding, fingerprint};
pub(crate) use indexed::Indexed;
pub(crate) use key::{RangeShape, Text, TextShape};
pub(crate) use postings::Postings;
pub(crate) use selection::{Breadth, Candidates, Cost, Selection};

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use pages::SortedPages;

use crate::PolicyName;

/// Clones share everything that neither changes.
#[derive(Debug)]
pub(crate) struct Index<P: Indexed> {
    by_name: SortedPages<Arc<P>>,
    /// By place; none is empty.
    groups: SortedPages<Located<P>>,
}

/// The policies that apply at a place.
#[derive(Debug)]
struct Located<P: Indexed> {
    /// Of the place: to find it without comparing texts on the way.
    number: u64,
    place: P::Place,
    group: Group<P>,
}

impl<P: Indexed> Index<P> {
    /// The index of many policies at once.
    ///
    /// # Errors
    ///
    /// The name that two of them have.
    pub(crate) fn of(mut policies: Vec<Arc<P>>) -> Result<Self, PolicyName> {
        policies.sort_by(|a, b| a.name().cmp(b.name()));
        let mut pairs = policies.windows(2);
        if let Some([twice, _]) = pairs.find(|pair| matches!(pair, [a, b] if a.name() == b.name())) {
            return Err(twice.name().clone());
        }
        let mut places: BTreeMap<P::Place, [Vec<Arc<P>>; MAX_CLASSES]> = BTreeMap::new();
        for policy in &policies {
            for place in policy.places() {
                let classes = places.entry(place).or_default();
                classes.get_mut(policy.class()).into_iter().for_each(|class| class.push(Arc::clone(policy)));
            }
        }
        let groups = places.into_iter().map(|(place, classes)| Located::new(place, Group::of(classes)));
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(Self { by_name: SortedPages::of(policies), groups: SortedPages::of(groups) })
    }

    pub(crate) fn get(&self, name: &PolicyName) -> Option<&P> {
        let policy = self.by_name.from(|policy| policy.name() < name).next()?;
        (policy.name() == name).then_some(&**policy)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &P> {
        self.by_name.iter().map(|policy| &**policy)
    }

    /// The policies that apply at a place.
    pub(crate) fn at(&self, wanted: P::PlaceRef<'_>) -> Option<&Group<P>> {
        let number = P::number(wanted);
        let mut found = None;
        self.groups.visit_from(
            |one| one.number < number,
            |one| {
                if one.number == number && !P::is(&one.place, wanted) {
                    return ControlFlow::Continue(());
                }
                found = (one.number == number).then_some(&one.group);
                ControlFlow::Break(())
            },
        );
        found
    }

    /// Whether any policy applies at a place that has the number of this one.
    pub(crate) fn may_be_at(&self, wanted: P::PlaceRef<'_>) -> bool {
        let number = P::number(wanted);
        let mut is_there = false;
        self.groups.visit_from(
            |one| one.number < number,
            |one| {
                is_there = one.number == number;
                ControlFlow::Break(())
            },
        );
        is_there
    }

    pub(crate) fn insert(&mut self, policy: Arc<P>) {
        // The one it replaces may have another place or class.
        self.remove(policy.name());
        for place in policy.places() {
            self.change_group(place, policy.class(), |postings| postings.insert(&policy));
        }
        let inserted = Arc::clone(&policy);
        self.by_name.insert(inserted, |other| other.name() < policy.name());
    }

    pub(crate) fn remove(&mut self, name: &PolicyName) {
        let removed = self.by_name.remove(|policy| policy.name() < name, |policy| policy.name() == name);
        let Some(policy) = removed else { return };
        for place in policy.places() {
            self.change_group(place, policy.class(), |postings| postings.remove(&policy));
        }
    }

    fn change_group(&mut self, place: P::Place, class: usize, change: impl FnOnce(&mut Postings<P>)) {
        let mut located = Located::new(place, Group::default());
        let known = self.groups.remove(|one| one.order() < located.order(), |one| one.place == located.place);
        if let Some(known) = known {
            located.group = known.group;
        }
        located.group.change(class, change);
        if !located.group.is_empty() {
            let place = located.clone();
            self.groups.insert(located, |one| one.order() < place.order());
        }
    }
}

impl<P: Indexed> Located<P> {
    fn new(place: P::Place, group: Group<P>) -> Self {
        Self { number: P::number_of(&place), place, group }
    }

    fn order(&self) -> (u64, &P::Place) {
        (self.number, &self.place)
    }
}

impl<P: Indexed> Clone for Located<P> {
    fn clone(&self) -> Self {
        Self { number: self.number, place: self.place.clone(), group: self.group.clone() }
    }
}

impl<P: Indexed> Clone for Index<P> {
    fn clone(&self) -> Self {
        Self { by_name: self.by_name.clone(), groups: self.groups.clone() }
    }
}

impl<P: Indexed> Default for Index<P> {
    fn default() -> Self {
        Self { by_name: SortedPages::default(), groups: SortedPages::default() }
    }
}

/// Policies that apply at the same place, by class. An absent class is empty.
#[derive(Debug)]
pub(crate) struct Group<P: Indexed> {
    classes: [Option<Arc<Postings<P>>>; MAX_CLASSES],
}

impl<P: Indexed> Group<P> {
    fn of(classes: [Vec<Arc<P>>; MAX_CLASSES]) -> Self {
        let postings = |policies: Vec<_>| (!policies.is_empty()).then(|| Arc::new(Postings::of(policies)));
        Self { classes: classes.map(postings) }
    }

    pub(crate) fn class(&self, class: usize) -> Option<&Postings<P>> {
        self.classes.get(class)?.as_deref()
    }

    fn change(&mut self, class: usize, change: impl FnOnce(&mut Postings<P>)) {
        let Some(class) = self.classes.get_mut(class) else { return };
        let postings = class.get_or_insert_default();
        change(Arc::make_mut(postings));
        class.take_if(|postings| postings.is_empty());
    }

    fn is_empty(&self) -> bool {
        self.classes.iter().all(Option::is_none)
    }
}

impl<P: Indexed> Clone for Group<P> {
    fn clone(&self) -> Self {
        Self { classes: self.classes.clone() }
    }
}

impl<P: Indexed> Default for Group<P> {
    fn default() -> Self {
        Self { classes: Default::default() }
    }
}

/// Four actions, each enforced or in dry run.
pub(crate) const MAX_CLASSES: usize = 8;
