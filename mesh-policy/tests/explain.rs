//! Explanations: what missed, what was expected and seen, the nearest first.

mod support;

use mesh_policy::{
    Actual, Expected, Field, Match, MatchMiss, PolicySet, Reason, Scope, StringMatch, Verdict,
};
use support::*;

fn text(set: &PolicySet, call: &Call) -> String {
    set.explain(&call.facts()).to_string()
}

#[test]
fn names_the_clause_that_missed_with_expected_and_actual() {
    let rules =
        vec![vec![vec![namespaces(vec![exact("shop")])], vec![ports(&[9090, 9091])], vec![ports(&[1])]]];
    let set = set([allow("bank/a", rules)]);
    let call = Call::default();
    let explanation = set.explain(&call.facts());
    assert_eq!(explanation.decision().reason(), Reason::NoneAllowed);
    let [trace] = explanation.policies() else { panic!("{explanation:?}") };
    let [rule] = trace.rules() else { panic!("{trace:?}") };
    assert!(!trace.matches());
    assert_eq!((rule.index(), rule.matching_clauses()), (0, 1));
    let miss = rule.miss().unwrap();
    assert_eq!(miss.index(), 1);
    let [MatchMiss::Field(mismatch)] = miss.matches() else { panic!("{miss:?}") };
    assert_eq!(mismatch.field(), Field::DestinationPort);
    assert_eq!(mismatch.expected(), Expected::Ports(&[9090, 9091]));
    assert_eq!(mismatch.actual(), Actual::Port(8080));
    assert!(!mismatch.is_negated());
}

#[test]
fn the_nearest_allow_comes_first() {
    let near = vec![vec![vec![namespaces(vec![exact("shop")])], vec![ports(&[1])]]];
    let far = vec![vec![vec![namespaces(vec![exact("x")])], vec![ports(&[1])]]];
    let long = vec![[near[0].clone(), near[0].clone()].concat()];
    let both = [far.clone(), near.clone()].concat();
    let set = set([
        allow("bank/empty", nothing()),
        allow("bank/far", far),
        allow("bank/last", vec![vec![vec![ports(&[1])]]]),
        allow("bank/long", long),
        allow("bank/near", both),
        deny("bank/a", nothing()),
        dry_run(allow("bank/b", everything())),
    ]);
    let call = Call::default();
    let explanation = set.explain(&call.facts());
    let order: Vec<_> = explanation.policies().iter().map(|trace| trace.policy().name.name()).collect();
    assert_eq!(order, ["long", "near", "last", "far", "empty", "a", "b"]);
    assert_eq!(explanation.policies()[1].rules()[0].index(), 1);
    assert_eq!(
        explanation.to_string(),
        "denied: allow policies exist, but none allowed\n  \
         ALLOW bank/long rule[0] clause[1] misses: destination port is 8080, expected 1\n  \
         ALLOW bank/near rule[1] clause[1] misses: destination port is 8080, expected 1\n  \
         ALLOW bank/last rule[0] clause[0] misses: destination port is 8080, expected 1\n  \
         and 2 more policies"
    );
}

#[test]
fn a_policy_without_rules_says_so() {
    let text = text(&set([allow("bank/empty", nothing())]), &Call::default());
    assert!(text.ends_with("\n  ALLOW bank/empty has no rules"));
}

#[test]
fn the_policy_that_decided_comes_first() {
    let set = set([
        allow("bank/a", everything()),
        deny("bank/z", vec![vec![vec![ports(&[1])]], vec![vec![ports(&[8080])]]]),
    ]);
    let call = Call::default();
    let explanation = set.explain(&call.facts());
    assert_eq!(explanation.policies()[0].policy().name.to_string(), "bank/z");
    assert_eq!(
        explanation.to_string(),
        "denied: explicitly denied by: bank/z\n  DENY bank/z rule[1] matches"
    );
    assert_eq!(
        text(&set, &call.on_port(80)),
        "allowed: explicitly allowed by: bank/a\n  ALLOW bank/a rule[0] matches"
    );
}

#[test]
fn says_so_when_no_policy_decided() {
    assert_eq!(text(&set([]), &Call::default()), "allowed: no allow policies apply");
    let call = Call::default().listing(&["bank/absent"]);
    assert_eq!(text(&set([]), &call), "denied: policy has not arrived: bank/absent");
}

#[test]
fn policies_in_dry_run_are_told() {
    let set = set([dry_run(deny("bank/trial", everything()))]);
    assert_eq!(
        text(&set, &Call::default()),
        "allowed: no allow policies apply\n  dry run: bank/trial would deny"
    );
}

#[test]
fn every_field_reads_well() {
    let range = || vec!["198.51.100.0/24".parse().unwrap()];
    for (one, expected) in [
        (
            principals(vec![exact("x"), prefix("y")]),
            "principal is example.org/ns/shop/sa/cart, expected x or y*",
        ),
        (
            not_principals(vec![StringMatch::Presence]),
            "principal is example.org/ns/shop/sa/cart, expected not *",
        ),
        (namespaces(vec![suffix("x")]), "namespace is shop, expected *x"),
        (
            Match { service_accounts: vec![account("bank", "till")], ..Match::default() },
            "service account is shop/cart, expected bank/till",
        ),
        (
            Match { source_ips: range(), ..Match::default() },
            "source address is 192.0.2.1, expected 198.51.100.0/24",
        ),
        (
            Match { destination_ips: range(), ..Match::default() },
            "destination address is 192.0.2.2, expected 198.51.100.0/24",
        ),
        (not_ports(&[1, 8080]), "destination port is 8080, expected not 1 or 8080"),
        (ports(&[1, 2, 3, 4, 5, 6]), "destination port is 8080, expected 1 or 2 or 3 or 4 or 2 more"),
        (Match::default(), "a match without fields never matches"),
    ] {
        let set = set([allow("bank/a", vec![vec![vec![one]]])]);
        let text = text(&set, &Call::default());
        assert_eq!(text.split_once("misses: ").unwrap().1, expected);
    }
}

#[test]
fn a_peer_without_identity_is_told_apart() {
    let set = set([allow("bank/a", vec![vec![vec![namespaces(vec![exact("shop")]), ports(&[1])]]])]);
    assert!(text(&set, &Call::plaintext()).ends_with(
        "clause[0] misses: namespace is absent (no verified identity), expected shop; \
         destination port is 8080, expected 1"
    ));
}

#[test]
fn long_lists_are_cut_in_text_only() {
    let many = |count: usize| (0..count).map(|_| ports(&[1])).collect::<Vec<_>>();
    let policies = (0..5).map(|index| allow(&format!("bank/p{index}"), vec![vec![many(5)]]));
    let set = set(policies);
    let call = Call::default();
    let explanation = set.explain(&call.facts());
    assert_eq!(explanation.policies().len(), 5);
    assert_eq!(explanation.policies()[0].rules()[0].miss().unwrap().matches().len(), 5);
    let text = explanation.to_string();
    assert_eq!(text.lines().count(), 5);
    assert!(text.ends_with("\n  and 2 more policies"));
    assert!(text.contains("; and 2 more\n"));
}

#[test]
fn a_policy_that_is_listed_too_is_told_once() {
    let set = set([
        deny("bank/a", nothing()),
        scoped(Scope::Global, deny("root/b", nothing())),
        scoped(Scope::WorkloadSelector, deny("root/c", nothing())),
        deny("shop/d", nothing()),
    ]);
    let call = Call::default().listing(&["bank/a", "root/c", "root/b", "root/c"]);
    let explanation = set.explain(&call.facts());
    let names: Vec<_> = explanation.policies().iter().map(|trace| trace.policy().name.name()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(explanation.decision().verdict(), Verdict::Allow);
}

#[cfg(feature = "crd")]
#[test]
fn the_proof_is_data_as_well() {
    let set = set([
        allow(
            "bank/near",
            vec![vec![vec![principals(vec![exact("example.org/ns/shop/sa/cart")])], vec![ports(&[9090])]]],
        ),
        allow("bank/far", vec![vec![vec![namespaces(vec![prefix("ba"), exact("x")]), Match::default()]]]),
        dry_run(deny("bank/trial", everything())),
    ]);
    let call = Call::default();
    let found = serde_json::to_value(set.explain(&call.facts())).unwrap();
    assert_eq!(
        found,
        serde_json::json!({
            "verdict": "deny",
            "reason": { "kind": "noneAllowed" },
            "dryRunDenials": ["bank/trial"],
            "policies": [
                { "policy": "bank/near", "action": "ALLOW", "dryRun": false, "matches": false, "rules": [{
                    "index": 0, "matching": 1, "miss": { "clause": 1, "matches": [
                        { "field": "destinationPort", "negated": false, "expected": [9090], "actual": 8080 },
                    ] },
                }] },
                { "policy": "bank/far", "action": "ALLOW", "dryRun": false, "matches": false, "rules": [{
                    "index": 0, "matching": 0, "miss": { "clause": 0, "matches": [
                        { "field": "namespace", "negated": false, "expected": ["ba*", "x"], "actual": "shop" },
                        null,
                    ] },
                }] },
                { "policy": "bank/trial", "action": "DENY", "dryRun": true, "matches": true, "rules": [
                    { "index": 0, "matching": 0, "miss": null },
                ] },
            ],
        })
    );
}
