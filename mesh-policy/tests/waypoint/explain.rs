//! Decisions with their proof.

use mesh_policy::{
    Semantics::{Istio, Strict},
    object::{Action, Rule, Source},
    waypoint::{Answer, DroppedRule, RuleMiss, RulePart},
};

use crate::support::*;

#[test]
fn the_nearest_allow_comes_first_with_what_misses() {
    let near = Rule {
        from: vec![principals(&["example.org/ns/shop/sa/web"])],
        ..to(vec![paths(&["/items/*", "/cart"]), methods(&["POST"])])
    };
    let set = requests(
        Strict,
        &[
            policy(Action::Allow, "far", vec![from(vec![principals(&["example.org/ns/shop/sa/other"])])]),
            policy(Action::Allow, "near", vec![near]),
            in_dry_run(deny(vec![Rule::default()])),
        ],
    );
    get("/admin?x").with_facts(|facts| {
        let explanation = set.explain(facts, |_| Answer::Allow);
        assert_eq!(
            explanation.to_string(),
            "denied: allow policies exist, but none allowed\n  \
             ALLOW shop/near rule[0] to misses: path is /admin, expected /items/* or /cart; method is GET, expected POST\n  \
             ALLOW shop/far rule[0] from misses: source.principal is example.org/ns/shop/sa/web, \
             expected example.org/ns/shop/sa/other or old.example.org/ns/shop/sa/other\n  \
             dry run: shop/deny-dry-run would deny"
        );
        let nearest = &explanation.policies()[0];
        assert_eq!((nearest.policy().to_string(), nearest.matches()), ("shop/near".to_owned(), false));
        assert_eq!(nearest.rules()[0].matching_parts(), 1);
        let Some(RuleMiss::Part { part: RulePart::To, conditions }) = nearest.rules()[0].miss() else {
            panic!("{nearest:?}")
        };
        assert_eq!(conditions[0].actual(), ["/admin"]);
        assert_eq!((conditions[1].attribute(), conditions[1].expected(), conditions[1].is_negated()), ("method", "POST", false));
        assert_eq!(explanation.policies().len(), 3);
    });
}

#[test]
fn what_decided_comes_first() {
    let set = requests(
        Strict,
        &[
            allow(vec![Rule::default()]),
            policy(Action::Deny, "deny", vec![when_not("request.headers[x-tenant]", &["a"])]),
        ],
    );
    get("/").with_facts(|facts| {
        let explanation = set.explain(facts, |_| Answer::Allow);
        assert_eq!(
            explanation.to_string(),
            "denied: explicitly denied by: shop/deny\n  DENY shop/deny rule[0] matches"
        );
    });
    get("/").with_header("x-tenant", "a").with_facts(|facts| {
        let explanation = set.explain(facts, |_| Answer::Allow);
        assert_eq!(
            explanation.policies()[1].to_string(),
            "DENY shop/deny rule[0] when[0] misses: request.headers[x-tenant] is a, expected not a"
        );
    });
}

// What is shown of an identity is the part that the policy is about.
#[test]
fn expected_and_actual_are_of_one_kind() {
    let source = |field: &str| {
        let values = vec!["x".to_owned()];
        let source = match field {
            "namespace" => Source { namespaces: values, ..Source::default() },
            "account" => Source { service_accounts: values, ..Source::default() },
            "domain" => Source { trust_domains: values, ..Source::default() },
            _ => Source { principals: values, ..Source::default() },
        };
        from(vec![source])
    };
    let miss = |semantics, field: &str, peer: &str| {
        let set = requests(semantics, &[allow(vec![source(field)])]);
        get("/").by(peer).with_facts(|facts| {
            let explanation = set.explain(facts, |_| Answer::Allow);
            let Some(RuleMiss::Part { conditions, .. }) = explanation.policies()[0].rules()[0].miss() else {
                panic!("{explanation:?}")
            };
            let one = &conditions[0];
            (one.actual().to_vec(), one.unseen_in().map(str::to_owned), one.to_string())
        })
    };
    let cart = "spiffe://example.org/ns/shop/sa/cart";
    for semantics in [Istio, Strict] {
        assert_eq!(miss(semantics, "namespace", cart).0, ["shop"]);
        assert_eq!(miss(semantics, "account", cart).0, ["shop/cart"]);
        assert_eq!(miss(semantics, "domain", cart).0, ["example.org"]);
        assert_eq!(miss(semantics, "principal", cart).0, ["example.org/ns/shop/sa/cart"]);
    }
    // Of another form, Istio finds several, and Strict says that there is nothing to see.
    let odd = "spiffe://example.org/ns/a/ns/b/sa/c";
    assert_eq!(miss(Istio, "namespace", odd).0, ["a", "b"]);
    let (actual, unseen, shown) = miss(Strict, "namespace", odd);
    assert_eq!((actual.is_empty(), unseen.as_deref()), (true, Some(odd)));
    assert_eq!(shown, format!("source.namespace is not known of {odd}, expected x"));
    assert_eq!(miss(Strict, "domain", odd).0, ["example.org"]);
}

#[test]
fn dropped_rules_say_why() {
    let set = requests(Istio, &[allow(vec![when("source.ips", &["x"]), to(vec![ports(&["x"])])])]);
    get("/").with_facts(|facts| {
        let explanation = set.explain(facts, |_| Answer::Allow);
        let misses: Vec<_> =
            explanation.policies()[0].rules().iter().map(|rule| rule.miss().cloned()).collect();
        assert_eq!(
            misses,
            [DroppedRule::UnknownKey, DroppedRule::UnusableValue]
                .map(|dropped| Some(RuleMiss::Dropped(dropped)))
        );
    });
    let set = streams(Strict, &[allow(vec![to(vec![paths(&["/a"])])])]);
    get("/").with_facts(|facts| {
        let explanation = set.explain(&facts.stream, |_| Answer::Allow);
        assert_eq!(
            explanation.to_string(),
            "denied: allow policies exist, but none allowed\n  \
             ALLOW shop/allow rule[0] never matches: streams have no attributes of requests"
        );
    });
}

#[test]
fn providers_are_part_of_the_proof() {
    let set = requests(Strict, &[custom("grpc", vec![to(vec![paths(&["/a"])])])]);
    get("/a").with_facts(|facts| {
        let explanation = set.explain(facts, |_| Answer::Deny);
        assert_eq!(
            explanation.to_string(),
            "denied: explicitly denied by: shop/custom-grpc, which asked grpc\n  CUSTOM shop/custom-grpc rule[0] matches"
        );
    });
}

#[cfg(feature = "crd")]
#[test]
fn the_proof_is_data_as_well() {
    let set = requests(
        Strict,
        &[
            policy(Action::Allow, "allow", vec![to(vec![paths(&["/a"])])]),
            policy(Action::Audit, "audit", vec![Rule::default()]),
        ],
    );
    get("/b").with_facts(|facts| {
        let found = serde_json::to_value(set.explain(facts, |_| Answer::Allow)).unwrap();
        assert_eq!(
            found,
            serde_json::json!({
                "verdict": "deny",
                "reason": { "kind": "noneAllowed" },
                "dryRunDenials": [],
                "audits": [{ "policy": "shop/audit", "rule": 0 }],
                "policies": [
                    { "policy": "shop/allow", "action": "ALLOW", "dryRun": false, "isBroken": false, "rules": [{
                        "index": 0, "matching": 0, "missed": 1, "miss": { "part": { "part": "to", "conditions": [
                            { "attribute": "path", "negated": false, "expected": "/a", "actual": ["/b"] },
                        ] } },
                    }] },
                    { "policy": "shop/audit", "action": "AUDIT", "dryRun": false, "isBroken": false, "rules": [
                        { "index": 0, "matching": 0, "missed": 0, "miss": null },
                    ] },
                ],
            })
        );
    });
}
