//! Rules by what a connection must have for them to match.

use std::{ops::ControlFlow, sync::Arc};

use super::{Indexed, guard::Signature, pages::SortedPages};
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
    /// Those of the values that guard rules. Sorted, each with the number of its values.
    guard_shapes: Vec<(P::Shape, usize)>,
}

#[derive(Debug)]
struct Posting<P> {
    key: u64,
    /// Of the values that the rule is guarded by. Tells most rules that do not match from those that may, without a
    /// look at the policy, which is likely to be out of the processor's caches.
    guard: Signature,
    rule: usize,
    policy: Arc<P>,
}

impl<P: Indexed> Postings<P> {
    /// The index of many policies at once: sorted in one go, which is several times faster than inserting
    /// them one by one. No two may have the same name.
    pub(super) fn of(mut policies: Vec<Arc<P>>) -> Self {
        policies.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        let (mut shapes, mut guard_shapes) = (Vec::new(), Vec::new());
        let mut rules = Vec::new();
        for policy in &policies {
            for_each_guard_shape(&**policy, |shape| count(&mut guard_shapes, shape));
            for_each_posting(policy, |shape, posting| {
                count(&mut shapes, shape);
                rules.push(posting);
            });
        }
        // Stable, since in order of name and rule already.
        rules.sort_by_key(|posting| posting.key);
        Self { policies: SortedPages::of(policies), rules: SortedPages::of(rules), shapes, guard_shapes }
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
        let mut signature = None;
        for (shape, _) in &self.shapes {
            P::for_each_fingerprint(shape, attributes, |key| {
                let is_before = |posting: &Posting<P>| {
                    posting.key < key
                        || posting.key == key && after.is_some_and(|after| posting.policy.name() <= after)
                };
                let mut seen = 0_usize;
                self.rules.visit_from(is_before, |posting| {
                    if posting.key != key {
                        return ControlFlow::Break(());
                    }
                    // The first few cost less to ask than what guards the others costs to compute.
                    seen += 1;
                    if seen > UNGUARDED {
                        let signature = *signature.get_or_insert_with(|| self.signature(attributes));
                        if !posting.guard.may_meet(signature) {
                            return ControlFlow::Continue(());
                        }
                    }
                    if smallest.is_some_and(|smallest| posting.order() >= smallest.order()) {
                        return ControlFlow::Break(());
                    }
                    if !posting.matches(attributes) {
                        return ControlFlow::Continue(());
                    }
                    // Sorted, so the first that matches is the smallest that this key finds.
                    smallest = Some(posting);
                    ControlFlow::Break(())
                });
            });
        }
        smallest.map(|posting| (&*posting.policy, posting.rule))
    }

    /// Of all values by which rules are guarded and that are there.
    fn signature(&self, attributes: &P::Attributes<'_>) -> Signature {
        let mut signature = Signature::NONE;
        for (shape, _) in &self.guard_shapes {
            P::for_each_fingerprint(shape, attributes, |number| signature.add(number));
        }
        signature
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.len() == 0
    }

    pub(super) fn insert(&mut self, policy: &Arc<P>) {
        self.policies.insert(Arc::clone(policy), |other| other.name() < policy.name());
        for_each_guard_shape(&**policy, |shape| count(&mut self.guard_shapes, shape));
        for_each_posting(policy, |shape, posting| {
            count(&mut self.shapes, shape);
            let place = posting.clone();
            self.rules.insert(posting, |other| other.is_before(&place));
        });
    }

    pub(super) fn remove(&mut self, policy: &Arc<P>) {
        self.policies.remove(|other| other.name() < policy.name(), |other| other.name() == policy.name());
        for_each_guard_shape(&**policy, |shape| discount(&mut self.guard_shapes, &shape));
        for_each_posting(policy, |shape, posting| {
            discount(&mut self.shapes, &shape);
            self.rules.remove(|other| other.is_before(&posting), |other| !posting.is_before(other));
        });
    }
}

impl<P: Indexed> Clone for Postings<P> {
    fn clone(&self) -> Self {
        let Self { policies, rules, shapes, guard_shapes } = self;
        Self {
            policies: policies.clone(),
            rules: rules.clone(),
            shapes: shapes.clone(),
            guard_shapes: guard_shapes.clone(),
        }
    }
}

impl<P: Indexed> Default for Postings<P> {
    fn default() -> Self {
        Self {
            policies: SortedPages::default(),
            rules: SortedPages::default(),
            shapes: Vec::new(),
            guard_shapes: Vec::new(),
        }
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
        let Self { key, guard, rule, ref policy } = *self;
        Self { key, guard, rule, policy: Arc::clone(policy) }
    }
}

fn count<S: Ord>(shapes: &mut Vec<(S, usize)>, shape: S) {
    match shapes.binary_search_by(|(other, _)| other.cmp(&shape)) {
        Ok(at) => shapes.get_mut(at).into_iter().for_each(|(_, count)| *count += 1),
        Err(at) => shapes.insert(at, (shape, 1)),
    }
}

fn discount<S: Ord>(shapes: &mut Vec<(S, usize)>, shape: &S) {
    if let Ok(at) = shapes.binary_search_by(|(other, _)| other.cmp(shape)) {
        shapes.get_mut(at).into_iter().for_each(|(_, count)| *count -= 1);
        shapes.retain(|(_, count)| *count > 0);
    }
}

/// A value that a rule lists twice is posted twice, and removed twice.
fn for_each_posting<P: Indexed>(policy: &Arc<P>, mut posting: impl FnMut(P::Shape, Posting<P>)) {
    for rule in 0..policy.rules() {
        let mut guard = Signature::NONE;
        policy.for_each_guard_key(rule, |_, number| guard.add(number));
        if guard == Signature::NONE {
            guard = Signature::ALL;
        }
        policy.for_each_key(rule, |shape, key| {
            posting(shape, Posting { key, guard, rule, policy: Arc::clone(policy) });
        });
    }
}

fn for_each_guard_shape<P: Indexed>(policy: &P, mut found: impl FnMut(P::Shape)) {
    (0..policy.rules()).for_each(|rule| policy.for_each_guard_key(rule, |shape, _| found(shape)));
}

/// How many rules of one key are asked whatever guards them.
const UNGUARDED: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use std::net::SocketAddr;

    use super::*;
    use crate::{
        Action, Clause, ConnectionFacts, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch,
        attributes::Attributes,
    };

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
            prop_assert_eq!(&changed.guard_shapes, &fresh.guard_shapes);
            prop_assert!(changed.policies().eq(fresh.policies()));
            let contents = |postings: &Postings<Policy>| -> Vec<_> {
                let all = postings.rules.iter();
                all.map(|posting| (posting.key, posting.guard, posting.policy.name.clone(), posting.rule)).collect()
            };
            prop_assert_eq!(contents(&changed), contents(&fresh));
            let built = Postings::of(held.clone());
            prop_assert_eq!(&built.shapes, &fresh.shapes);
            prop_assert_eq!(&built.guard_shapes, &fresh.guard_shapes);
            prop_assert!(built.policies().eq(fresh.policies()));
            prop_assert_eq!(contents(&built), contents(&fresh));
            prop_assert_eq!(fresh.shapes.iter().map(|(_, count)| count).sum::<usize>(), fresh.rules.iter().len());
            held.iter().for_each(|policy| changed.remove(policy));
            prop_assert!(changed.is_empty() && changed.shapes.is_empty() && contents(&changed).is_empty());
            prop_assert!(changed.guard_shapes.is_empty());
        }

        // Many rules with one key, so that guards are looked at.
        #[test]
        fn guards_hide_no_rule_that_matches(
            policies in vec(policy(), 1..30),
            ports in vec(select(vec![80_u16, 8080, 9090]), 60),
            port in select(vec![80_u16, 8080]),
        ) {
            let mut ports = ports.into_iter();
            let shared = |mut policy: Policy, number: usize| {
                policy.name = PolicyName::new("bank", format!("{number:03}"));
                for rule in &mut policy.rules {
                    let mut one = Match { principals: vec![exact("example.org/ns/shop/sa/cart")], ..Match::default() };
                    one.destination_ports = ports.next().into_iter().collect();
                    rule.clauses.push(Clause { matches: vec![one] });
                }
                Arc::new(policy)
            };
            let mut shared = shared;
            let policies: Vec<_> =
                policies.iter().enumerate().map(|(number, policy)| shared((**policy).clone(), number)).collect();
            let peer = "spiffe://example.org/ns/shop/sa/cart".parse().unwrap();
            let attributes = Attributes::new(&ConnectionFacts {
                source: "192.0.2.1".parse().unwrap(),
                peer: Some(&peer),
                destination: SocketAddr::from(([192, 0, 2, 2], port)),
                namespace: "bank",
                policies: &[],
            });
            let found = Postings::of(policies.clone());
            let mut after = None;
            for policy in &policies {
                let Some(rule) = policy.matching_rule(&attributes) else { continue };
                let found = found.smallest_match(&attributes, after).map(|(policy, rule)| (policy.name.clone(), rule));
                prop_assert_eq!(found, Some((policy.name.clone(), rule)));
                after = Some(&policy.name);
            }
            prop_assert!(found.smallest_match(&attributes, after).is_none());
        }
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.into())
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
