//! Sets as values that change.

mod support;

use mesh_policy::{Action, MissingPolicy, Policy, PolicySet, PolicySetError, Scope, Verdict};
use support::*;

fn names(set: &PolicySet) -> Vec<String> {
    set.iter().map(|policy| policy.name.to_string()).collect()
}

#[test]
fn policies_are_kept_as_written_and_ordered_by_name() {
    let policies =
        [deny("bank/b", everything()), allow("shop/a", nothing()), dry_run(allow("bank/a", nothing()))];
    let set = set(policies.clone());
    assert_eq!(names(&set), ["bank/a", "bank/b", "shop/a"]);
    assert_eq!(set.len(), 3);
    for policy in &policies {
        assert_eq!(set.get(&policy.name), Some(policy));
    }
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let twice =
        PolicySet::builder().policy(deny("bank/a", nothing())).policy(allow("bank/a", nothing())).build();
    assert_eq!(twice.unwrap_err(), PolicySetError::Duplicate { policy: "bank/a".parse().unwrap() });
}

#[test]
fn a_missing_policy_denies_unless_told_otherwise() {
    assert_eq!(set([]).missing(), MissingPolicy::Deny);
    assert_eq!(MissingPolicy::default(), MissingPolicy::Deny);
    assert_eq!(PolicySet::empty(MissingPolicy::Skip).missing(), MissingPolicy::Skip);
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut set = set([]);
    let before = set.clone();
    set.insert(deny("bank/a", everything()));
    let between = set.clone();
    set.remove(&"bank/a".parse().unwrap());
    let call = Call::default();
    assert_eq!(call.decide(&before).verdict(), Verdict::Allow);
    assert_eq!(call.decide(&between).verdict(), Verdict::Deny);
    assert_eq!(call.decide(&set).verdict(), Verdict::Allow);
    assert!(set.is_empty());
}

#[test]
fn replacing_a_policy_leaves_nothing_of_it() {
    let scopes = [Scope::Global, Scope::Namespace, Scope::WorkloadSelector];
    let actions = [Action::Allow, Action::Deny];
    let variants: Vec<_> = scopes
        .into_iter()
        .flat_map(|scope| actions.map(|action| (scope, action)))
        .flat_map(|(scope, action)| [true, false].map(|dry_run| (scope, action, dry_run)))
        .map(|(scope, action, dry_run)| Policy { scope, dry_run, ..policy("bank/a", action, everything()) })
        .collect();
    let call = Call::default().listing(&["bank/a"]);
    for before in &variants {
        for after in &variants {
            let replaced = set([before.clone()]).with(after.clone());
            let fresh = set([after.clone()]);
            assert_eq!(names(&replaced), ["bank/a"]);
            assert_eq!(call.decide(&replaced).reason(), call.decide(&fresh).reason());
            assert_eq!(
                Call::default().decide(&replaced).reason(),
                Call::default().decide(&fresh).reason(),
                "{before:?} {after:?}"
            );
            let removed = replaced.without(&after.name);
            assert!(removed.is_empty());
            assert_eq!(Call::default().decide(&removed).reason(), Call::default().decide(&set([])).reason());
        }
    }
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let set = set([deny("bank/a", everything())]);
    assert_eq!(names(&set.without(&"bank/b".parse().unwrap())), ["bank/a"]);
}
