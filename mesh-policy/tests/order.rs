//! Which policies apply, and which of them decides.

mod support;

use mesh_policy::{MissingPolicy, PolicySet, Reason, Scope, Verdict};
use support::*;

fn denied_by(reason: Reason<'_>) -> Option<String> {
    match reason {
        Reason::DeniedBy { policy, .. } => Some(policy.to_string()),
        _ => None,
    }
}

// policy#13
#[test]
fn deny_wins_over_allow() {
    for names in [["bank/a", "bank/b"], ["bank/b", "bank/a"]] {
        let policies = [allow(names[0], everything()), deny(names[1], everything())];
        assert_eq!(verdict(policies, &Call::default()), Verdict::Deny);
    }
}

// policy#14
#[test]
fn one_allow_that_matches_is_enough() {
    let set = set([
        allow("bank/a", vec![vec![vec![ports(&[1])]]]),
        allow("bank/b", vec![vec![vec![ports(&[2])]], vec![vec![ports(&[8080])]]]),
        allow("bank/c", nothing()),
    ]);
    let call = Call::default();
    let Reason::AllowedBy { policy, rule } = call.decide(&set).reason() else {
        panic!("{:?}", call.decide(&set));
    };
    assert_eq!((policy.to_string().as_str(), rule), ("bank/b", 1));
}

// policy#15
#[test]
fn any_enforced_allow_creates_default_deny() {
    let everywhere = [Scope::Global, Scope::Namespace, Scope::WorkloadSelector];
    for scope in everywhere {
        let policies = [scoped(scope, allow("bank/a", vec![vec![vec![ports(&[1])]]]))];
        let call = Call::default().listing(&["bank/a"]);
        assert_eq!(call.decide(&set(policies)).reason(), Reason::NoneAllowed, "{scope:?}");
    }
    assert_eq!(verdict([deny("bank/a", nothing())], &Call::default()), Verdict::Allow);
}

// policy#16, policy#60
#[test]
fn an_allow_in_dry_run_creates_no_default_deny() {
    let set = set([dry_run(allow("bank/a", nothing())), dry_run(allow("bank/b", nothing()))]);
    let call = Call::default();
    let decision = call.decide(&set);
    assert_eq!(decision.reason(), Reason::NoAllowPolicies);
    let would: Vec<_> = decision.dry_run_denials().map(ToString::to_string).collect();
    assert_eq!(would, ["bank/a", "bank/b"]);
}

#[test]
fn an_allow_in_dry_run_is_not_reported_where_it_changes_nothing() {
    let call = Call::default();
    for policies in [
        // One of them would allow.
        vec![dry_run(allow("bank/a", nothing())), dry_run(allow("bank/b", everything()))],
        // An enforced one allows.
        vec![dry_run(allow("bank/a", nothing())), allow("bank/b", everything())],
        // Denied anyway.
        vec![dry_run(allow("bank/a", nothing())), allow("bank/b", nothing())],
        vec![dry_run(allow("bank/a", nothing())), deny("bank/b", everything())],
    ] {
        assert_eq!(call.decide(&set(policies)).dry_run_denials().count(), 0);
    }
}

// policy#17, policy#60
#[test]
fn a_deny_in_dry_run_is_reported_and_does_not_deny() {
    let set = set([
        dry_run(deny("bank/a", everything())),
        dry_run(deny("bank/b", nothing())),
        dry_run(scoped(Scope::Global, deny("root/c", everything()))),
        dry_run(scoped(Scope::WorkloadSelector, deny("root/d", everything()))),
        dry_run(deny("shop/e", everything())),
    ]);
    // Those that apply anyway are reported once.
    let call = Call::default().listing(&["bank/a", "root/c", "root/d"]);
    let decision = call.decide(&set);
    assert_eq!(decision.verdict(), Verdict::Allow);
    let would: Vec<_> = decision.dry_run_denials().map(ToString::to_string).collect();
    assert_eq!(would, ["bank/a", "root/c", "root/d"]);
}

// policy#18
#[test]
fn a_namespace_policy_applies_to_its_namespace() {
    let set = set([deny("bank/a", everything())]);
    assert_eq!(Call::default().decide(&set).verdict(), Verdict::Deny);
    for elsewhere in ["shop", "", "ban", "bank2", "Bank"] {
        assert_eq!(
            Call::default().in_namespace(elsewhere).decide(&set).verdict(),
            Verdict::Allow,
            "{elsewhere}"
        );
    }
}

// policy#19
#[test]
fn a_global_policy_applies_everywhere() {
    let set = set([scoped(Scope::Global, deny("root/a", everything()))]);
    for namespace in ["bank", "shop", "root", ""] {
        assert_eq!(
            Call::default().in_namespace(namespace).decide(&set).verdict(),
            Verdict::Deny,
            "{namespace}"
        );
    }
}

// policy#20
#[test]
fn a_selector_policy_applies_where_it_is_listed() {
    let set = set([
        scoped(Scope::WorkloadSelector, deny("bank/a", everything())),
        scoped(Scope::WorkloadSelector, deny("root/b", nothing())),
    ]);
    assert_eq!(Call::default().decide(&set).verdict(), Verdict::Allow);
    assert_eq!(Call::default().listing(&["root/b"]).decide(&set).verdict(), Verdict::Allow);
    for namespace in ["bank", "shop"] {
        let call = Call::default().in_namespace(namespace).listing(&["root/b", "bank/a"]);
        assert_eq!(call.decide(&set).verdict(), Verdict::Deny, "{namespace}");
    }
}

#[test]
fn a_workload_may_list_the_namespace_policy_of_another_namespace() {
    let set = set([deny("shop/a", everything())]);
    assert_eq!(Call::default().listing(&["shop/a"]).decide(&set).verdict(), Verdict::Deny);
}

// policy#21, policy#108
#[test]
fn a_listed_policy_that_is_missing_denies_and_is_named() {
    let call = Call::default().listing(&["bank/z", "bank/here", "bank/b"]);
    for policies in [vec![], vec![allow("bank/here", everything())]] {
        let set = set(policies);
        let decision = call.decide(&set);
        assert_eq!(decision.verdict(), Verdict::Deny);
        assert_eq!(decision.missing_policy().unwrap().to_string(), "bank/b");
        assert_eq!(decision.reason().to_string(), "policy has not arrived: bank/b");
    }
}

// policy#21
#[test]
fn a_known_deny_is_named_before_a_missing_policy() {
    let set = set([deny("bank/here", everything())]);
    let call = Call::default().listing(&["bank/absent"]);
    let decision = call.decide(&set);
    assert_eq!(denied_by(decision.reason()).unwrap(), "bank/here");
    assert_eq!(decision.missing_policy(), None);
}

// policy#21
#[test]
fn a_missing_policy_is_skipped_on_request() {
    let build = |policy| PolicySet::builder().missing(MissingPolicy::Skip).policies(policy).build().unwrap();
    let call = Call::default().listing(&["bank/absent"]);
    assert_eq!(call.decide(&build(None)).reason(), Reason::NoAllowPolicies);
    assert_eq!(call.decide(&build(Some(allow("bank/a", nothing())))).reason(), Reason::NoneAllowed);
    assert_eq!(call.decide(&build(Some(allow("bank/a", everything())))).verdict(), Verdict::Allow);
}

// policy#47
#[test]
fn the_smallest_name_is_named() {
    let global = |name| scoped(Scope::Global, deny(name, everything()));
    let selected = |name| scoped(Scope::WorkloadSelector, deny(name, everything()));
    let call = Call::default().listing(&["zoo/s", "aaa/s", "bank/b"]);
    for (policies, smallest) in [
        (vec![deny("bank/c", everything()), deny("bank/b", everything())], "bank/b"),
        (vec![deny("bank/b", everything()), global("aaa/g"), selected("zoo/s"), selected("aaa/s")], "aaa/g"),
        (vec![deny("bank/b", everything()), selected("zoo/s"), selected("aaa/s")], "aaa/s"),
        (vec![deny("bank/b", nothing()), deny("bank/c", everything()), global("root/g")], "bank/c"),
    ] {
        let mut set = PolicySet::empty(MissingPolicy::Skip);
        policies.into_iter().for_each(|policy| set.insert(policy));
        assert_eq!(denied_by(call.decide(&set).reason()).as_deref(), Some(smallest));
    }
}

#[test]
fn the_texts_of_denials_are_the_ones_operators_know() {
    let call = Call::default();
    let text = |policy| call.decide(&set([policy])).reason().to_string();
    assert_eq!(text(deny("bank/a", everything())), "explicitly denied by: bank/a");
    assert_eq!(text(allow("bank/a", nothing())), "allow policies exist, but none allowed");
}
