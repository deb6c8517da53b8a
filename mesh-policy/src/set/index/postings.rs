//! Rules by what a connection must have for them to match.

use std::sync::Arc;

use super::{
    key::{Key, Shape},
    pages::SortedPages,
};
use crate::{Policy, PolicyName, attributes::Attributes};

/// The policies of one class that apply to the same workloads, and their rules by key.
///
/// A decision computes the keys of the connection, one of each shape in use, and asks the rules found by
/// them. Which rule is found by what is a matter of speed only: a rule found is asked in full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Postings {
    /// By name.
    policies: SortedPages<Arc<Policy>>,
    /// By key, then by name, then by index.
    rules: SortedPages<Posting>,
    /// Sorted, each with the number of its postings.
    shapes: Vec<(Shape, usize)>,
}

#[derive(Clone, Debug)]
struct Posting {
    key: u64,
    rule: usize,
    policy: Arc<Policy>,
}

impl Postings {
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|policy| &**policy)
    }

    /// The smallest name after the one given of a policy that matches, and the index of its first rule that
    /// does.
    pub(crate) fn smallest_match<'a>(
        &'a self,
        attributes: &Attributes<'_>,
        after: Option<&PolicyName>,
    ) -> Option<(&'a PolicyName, usize)> {
        let mut smallest = None;
        for (shape, _) in &self.shapes {
            let Some(key) = shape.key(attributes) else { continue };
            let key = key.fingerprint();
            let is_before = |posting: &Posting| {
                posting.key < key
                    || posting.key == key && after.is_some_and(|after| posting.policy.name <= *after)
            };
            // Sorted, so the first that matches is the smallest that this key finds.
            let found = self.rules.from(is_before).take_while(|posting| posting.key == key);
            let can_improve = |posting: &&Posting| smallest.is_none_or(|smallest| posting.order() < smallest);
            if let Some(posting) = found.take_while(can_improve).find(|posting| posting.matches(attributes)) {
                smallest = Some(posting.order());
            }
        }
        smallest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.len() == 0
    }

    pub(super) fn insert(&mut self, policy: &Arc<Policy>) {
        self.policies.insert(Arc::clone(policy), |other| other.name < policy.name);
        for_each_posting(policy, |shape, posting| {
            match self.shapes.binary_search_by_key(&shape, |(shape, _)| *shape) {
                Ok(at) => self.shapes.get_mut(at).into_iter().for_each(|(_, count)| *count += 1),
                Err(at) => self.shapes.insert(at, (shape, 1)),
            }
            let place = posting.clone();
            self.rules.insert(posting, |other| other.is_before(&place));
        });
    }

    pub(super) fn remove(&mut self, policy: &Arc<Policy>) {
        self.policies.remove(|other| other.name < policy.name, |other| other.name == policy.name);
        for_each_posting(policy, |shape, posting| {
            if let Ok(at) = self.shapes.binary_search_by_key(&shape, |(shape, _)| *shape) {
                self.shapes.get_mut(at).into_iter().for_each(|(_, count)| *count -= 1);
                self.shapes.retain(|(_, count)| *count > 0);
            }
            self.rules.remove(|other| other.is_before(&posting), |other| !posting.is_before(other));
        });
    }
}

impl Posting {
    fn order(&self) -> (&PolicyName, usize) {
        (&self.policy.name, self.rule)
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.key, self.order()) < (other.key, other.order())
    }

    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.policy.rules.get(self.rule).is_some_and(|rule| rule.matches(attributes))
    }
}

/// A value that a rule lists twice is posted twice, and removed twice.
fn for_each_posting(policy: &Arc<Policy>, mut posting: impl FnMut(Shape, Posting)) {
    for (index, rule) in policy.rules.iter().enumerate() {
        rule.for_each_key(|key: Key<'_>| {
            let key_of = Posting { key: key.fingerprint(), rule: index, policy: Arc::clone(policy) };
            posting(key.shape(), key_of);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{Action, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch};

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
            let contents = |postings: &Postings| -> Vec<_> {
                let all = postings.rules.iter();
                all.map(|posting| (posting.key, posting.policy.name.clone(), posting.rule)).collect()
            };
            prop_assert_eq!(contents(&changed), contents(&fresh));
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
