//! Rules by what a connection must have for them to match.

use std::sync::Arc;

use super::{Indexed, pages::SortedPages};
use crate::PolicyName;

/// The policies of one class that apply at the same place, and their rules by key.
///
/// A decision computes the keys of what it is asked about, for each shape in use, and asks the rules found by
/// them. Which rule is found by what is a matter of speed only: a rule found is asked in full.
#[derive(Debug)]
pub(crate) struct Postings<P: Indexed> {
    /// By name.
    policies: SortedPages<Arc<P>>,
    /// By key, then by name, then by index.
    rules: SortedPages<Posting<P>>,
    /// Sorted, each with the number of its postings.
    shapes: Vec<(P::Shape, usize)>,
}

#[derive(Debug)]
struct Posting<P> {
    key: u64,
    rule: usize,
    policy: Arc<P>,
}

impl<P: Indexed> Postings<P> {
    /// The index of many policies at once: sorted in one go, which is several times faster than inserting
    /// them one by one. No two may have the same name.
    pub(super) fn of(mut policies: Vec<Arc<P>>) -> Self {
        policies.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        let mut shapes: Vec<(P::Shape, usize)> = Vec::new();
        let mut rules = Vec::new();
        for policy in &policies {
            for_each_posting(policy, |shape, posting| {
                count(&mut shapes, shape);
                rules.push(posting);
            });
        }
        // Stable, since in order of name and rule already.
        rules.sort_by_key(|posting| posting.key);
        Self { policies: SortedPages::of(policies), rules: SortedPages::of(rules), shapes }
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = &P> {
        self.policies.iter().map(|policy| &**policy)
    }

    /// The smallest name after the one given of a policy that matches, and the index of its first rule that
    /// does.
    pub(crate) fn smallest_match<'a>(
        &'a self,
        attributes: &P::Attributes<'_>,
        after: Option<&PolicyName>,
    ) -> Option<(&'a P, usize)> {
        let mut smallest: Option<&Posting<P>> = None;
        for (shape, _) in &self.shapes {
            P::for_each_fingerprint(shape, attributes, |key| {
                let is_before = |posting: &Posting<P>| {
                    posting.key < key
                        || posting.key == key && after.is_some_and(|after| posting.policy.name() <= after)
                };
                // Sorted, so the first that matches is the smallest that this key finds.
                let found = self.rules.from(is_before).take_while(|posting| posting.key == key);
                let can_improve = |posting: &&Posting<P>| {
                    smallest.is_none_or(|smallest| posting.order() < smallest.order())
                };
                let found = found.take_while(can_improve).find(|posting| posting.matches(attributes));
                smallest = found.or(smallest);
            });
        }
        smallest.map(|posting| (&*posting.policy, posting.rule))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.len() == 0
    }

    pub(super) fn insert(&mut self, policy: &Arc<P>) {
        self.policies.insert(Arc::clone(policy), |other| other.name() < policy.name());
        for_each_posting(policy, |shape, posting| {
            count(&mut self.shapes, shape);
            let place = posting.clone();
            self.rules.insert(posting, |other| other.is_before(&place));
        });
    }

    pub(super) fn remove(&mut self, policy: &Arc<P>) {
        self.policies.remove(|other| other.name() < policy.name(), |other| other.name() == policy.name());
        for_each_posting(policy, |shape, posting| {
            if let Ok(at) = self.shapes.binary_search_by(|(other, _)| other.cmp(&shape)) {
                self.shapes.get_mut(at).into_iter().for_each(|(_, count)| *count -= 1);
                self.shapes.retain(|(_, count)| *count > 0);
            }
            self.rules.remove(|other| other.is_before(&posting), |other| !posting.is_before(other));
        });
    }
}

impl<P: Indexed> Clone for Postings<P> {
    fn clone(&self) -> Self {
        Self { policies: self.policies.clone(), rules: self.rules.clone(), shapes: self.shapes.clone() }
    }
}

impl<P: Indexed> Default for Postings<P> {
    fn default() -> Self {
        Self { policies: SortedPages::default(), rules: SortedPages::default(), shapes: Vec::new() }
    }
}

impl<P: Indexed> Posting<P> {
    fn order(&self) -> (&PolicyName, usize) {
        (self.policy.name(), self.rule)
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.key, self.order()) < (other.key, other.order())
    }

    fn matches(&self, attributes: &P::Attributes<'_>) -> bool {
        self.policy.rule_matches(self.rule, attributes)
    }
}

impl<P> Clone for Posting<P> {
    fn clone(&self) -> Self {
        Self { key: self.key, rule: self.rule, policy: Arc::clone(&self.policy) }
    }
}

fn count<S: Ord>(shapes: &mut Vec<(S, usize)>, shape: S) {
    match shapes.binary_search_by(|(other, _)| other.cmp(&shape)) {
        Ok(at) => shapes.get_mut(at).into_iter().for_each(|(_, count)| *count += 1),
        Err(at) => shapes.insert(at, (shape, 1)),
    }
}

/// A value that a rule lists twice is posted twice, and removed twice.
fn for_each_posting<P: Indexed>(policy: &Arc<P>, mut posting: impl FnMut(P::Shape, Posting<P>)) {
    policy.for_each_key(|rule, shape, key| posting(shape, Posting { key, rule, policy: Arc::clone(policy) }));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{Action, Clause, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch};

    proptest! {
        #[test]
        fn changing_leaves_what_a_fresh_index_has(changes in vec((any::<bool>(), policy()), 0..80)) {
            let mut changed = Postings::default();
            let mut held: Vec<Arc<Policy>> = Vec::new();
            for (is_insert, policy) in changes {
                if let Some(at) = held.iter().position(|other| other.name == policy.name) {
                    changed.remove(&held.swap_remove(at));
                }
                if is_insert {
                    changed.insert(&policy);
                    held.push(policy);
                }
            }
            let mut fresh = Postings::default();
            held.iter().for_each(|policy| fresh.insert(policy));
            prop_assert_eq!(&changed.shapes, &fresh.shapes);
            prop_assert!(changed.policies().eq(fresh.policies()));
            let contents = |postings: &Postings<Policy>| -> Vec<_> {
                let all = postings.rules.iter();
                all.map(|posting| (posting.key, posting.policy.name.clone(), posting.rule)).collect()
            };
            prop_assert_eq!(contents(&changed), contents(&fresh));
            let built = Postings::of(held.clone());
            prop_assert_eq!(&built.shapes, &fresh.shapes);
            prop_assert!(built.policies().eq(fresh.policies()));
            prop_assert_eq!(contents(&built), contents(&fresh));
            prop_assert_eq!(fresh.shapes.iter().map(|(_, count)| count).sum::<usize>(), fresh.rules.iter().len());
            held.iter().for_each(|policy| changed.remove(policy));
            prop_assert!(changed.is_empty() && changed.shapes.is_empty() && contents(&changed).is_empty());
        }
    }

    fn policy() -> impl Strategy<Value = Arc<Policy>> {
        let text = select(vec!["", "a", "b", "ab"]);
        let pattern = (text, 0..4).prop_map(|(text, kind)| match kind {
            0 => StringMatch::Exact(text.into()),
            1 => StringMatch::Prefix(text.into()),
            2 => StringMatch::Suffix(text.into()),
            _ => StringMatch::Presence,
        });
        let account = select(vec!["a", "b"])
            .prop_map(|name| ServiceAccountMatch { namespace: "a".into(), name: name.into() });
        let range = select(vec!["192.0.2.1/8", "192.0.2.0/24", "2001:db8::/32", "::/0"])
            .prop_map(|text| text.parse().unwrap());
        let one = (
            vec(pattern.clone(), 0..3),
            vec(pattern, 0..3),
            vec(account, 0..3),
            vec(range.clone(), 0..3),
            vec(range, 0..3),
            vec(select(vec![80, 8080]), 0..3),
        )
            .prop_map(
                |(principals, namespaces, service_accounts, source_ips, destination_ips, ports)| Match {
                    principals,
                    namespaces,
                    service_accounts,
                    source_ips,
                    destination_ips,
                    destination_ports: ports,
                    ..Match::default()
                },
            );
        let clause = vec(one, 0..3).prop_map(|matches| Clause { matches });
        let rules = vec(vec(clause, 0..3).prop_map(|clauses| Rule { clauses }), 0..4);
        (0..30_u8, rules).prop_map(|(name, rules)| {
            let name = PolicyName::new("bank", name.to_string());
            let (scope, action) = (Scope::Namespace, Action::Allow);
            Arc::new(Policy { name, scope, action, dry_run: false, rules })
        })
    }
}
