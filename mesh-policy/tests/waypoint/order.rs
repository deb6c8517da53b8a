//! Actions, and the order they decide in.

use mesh_policy::{
    Reason,
    Semantics::{Istio, Strict},
    Verdict,
    object::{Action, Rule},
    waypoint::{Answer, DENIED_BODY, Mesh, RequestPolicySet, Step},
};

use crate::support::*;

fn everything() -> Vec<Rule> {
    vec![Rule::default()]
}

// policy#1 to policy#5, policy#13 to policy#15 at requests
#[test]
fn deny_wins_and_allow_denies_the_rest() {
    for semantics in BOTH {
        assert!(admits(semantics, &[], &get("/")));
        assert!(!admits(semantics, &[allow(vec![])], &get("/")), "an ALLOW without rules denies everything");
        assert!(admits(semantics, &[allow(everything())], &get("/").by("")));
        assert!(!admits(semantics, &[deny(everything()), allow(everything())], &get("/")));
        let (a, b) = (
            policy(Action::Allow, "a", vec![to(vec![paths(&["/a"])])]),
            policy(Action::Allow, "b", vec![to(vec![paths(&["/b"])])]),
        );
        assert!(admits(semantics, &[a.clone(), b.clone()], &get("/b")));
        assert!(!admits(semantics, &[a, b], &get("/c")));
    }
    assert!(admits(Istio, &[deny(vec![])], &get("/")), "a DENY without rules does nothing");
}

// policy#62
#[test]
fn audit_never_decides() {
    for semantics in BOTH {
        let audit = policy(Action::Audit, "audit", everything());
        let set = requests(semantics, &[audit]);
        get("/").with_facts(|facts| {
            let decision = set.evaluate_request(facts).without_providers();
            assert_eq!(decision.reason(), Reason::NoAllowPolicies);
            assert_eq!(
                decision.audits().map(|(name, rule)| (name.to_string(), rule)).collect::<Vec<_>>(),
                [("shop/audit".to_owned(), 0)]
            );
        });
    }
}

// policy#16, policy#17, policy#60, policy#104
#[test]
fn dry_run_only_reports() {
    for semantics in BOTH {
        let set = requests(
            semantics,
            &[
                in_dry_run(deny(everything())),
                in_dry_run(allow(vec![])),
                in_dry_run(custom("grpc", everything())),
            ],
        );
        get("/").with_facts(|facts| {
            let Step::Decided(decision) = set.evaluate_request(facts) else { panic!("a provider is asked") };
            assert_eq!(decision.reason(), Reason::NoAllowPolicies);
            let denials: Vec<_> = decision.dry_run_denials().map(ToString::to_string).collect();
            assert_eq!(denials, ["shop/deny-dry-run", "shop/allow-dry-run"]);
        });
    }
}

// policy#61
#[test]
fn a_provider_may_deny_and_cannot_allow() {
    for semantics in BOTH {
        let policies = [custom("grpc", everything()), allow(everything())];
        let set = requests(semantics, &policies);
        get("/").with_facts(|facts| {
            let Step::Ask(question) = set.evaluate_request(facts) else { panic!("nobody is asked") };
            assert_eq!(
                (question.provider(), question.policy().to_string(), question.rule()),
                ("grpc", "shop/custom-grpc".to_owned(), 0)
            );
            assert_eq!(verdict(question.answer(Answer::Deny), Answer::Allow), Verdict::Deny);
            assert_eq!(verdict(question.answer(Answer::Allow), Answer::Allow), Verdict::Allow);
        });
        let denied = [custom("grpc", everything()), deny(everything())];
        assert!(!admits(semantics, &denied, &get("/")), "a provider does not bypass DENY");
        let elsewhere = [custom("grpc", vec![to(vec![paths(&["/a"])])])];
        let set = requests(semantics, &elsewhere);
        get("/b").with_facts(|facts| assert!(matches!(set.evaluate_request(facts), Step::Decided(_))));
    }
}

// policy#101
#[test]
fn no_answer_denies_unless_the_provider_fails_open() {
    for semantics in BOTH {
        for (provider, expected) in [("grpc", Verdict::Deny), ("open", Verdict::Allow)] {
            let set = requests(semantics, &[custom(provider, everything())]);
            get("/").with_facts(|facts| {
                assert_eq!(verdict(set.evaluate_request(facts), Answer::Failed), expected, "{provider}");
                let decision = set.evaluate_request(facts).without_providers();
                assert!(matches!(decision.reason(), Reason::ProviderFailed { .. }), "{provider}");
            });
        }
    }
}

// policy#100
#[test]
fn an_unknown_provider_denies_what_matches() {
    let bad = custom("missing", vec![to(vec![paths(&["/a"])])]);
    let set = requests(Istio, std::slice::from_ref(&bad));
    reason_of(&set, &get("/a"), |reason| {
        assert!(matches!(reason, Reason::ProviderUnusable { provider: "missing", .. }))
    });
    reason_of(&set, &get("/b"), |reason| assert_eq!(reason, Reason::NoAllowPolicies));
    let mut closed = RequestPolicySet::strict(mesh());
    assert!(closed.insert_closed(&bad).is_some());
    reason_of(&closed, &get("/a"), |reason| assert!(matches!(reason, Reason::ProviderUnusable { .. })));
}

#[test]
fn several_providers_are_asked_in_the_order_of_their_names() {
    let policies = [custom("open", everything()), custom("grpc", everything()), custom("http", everything())];
    let set = requests(Strict, &policies);
    get("/").with_facts(|facts| {
        let mut asked = Vec::new();
        let mut step = set.evaluate_request(facts);
        while let Step::Ask(question) = step {
            asked.push(question.provider());
            step = question.answer(Answer::Allow);
        }
        assert_eq!(asked, ["grpc", "http", "open"]);
    });
    // Istio denies unless told otherwise.
    let set = requests(Istio, &policies);
    reason_of(&set, &get("/"), |reason| assert!(matches!(reason, Reason::ProviderUnusable { .. })));
    let several = Mesh { multiple_providers: true, ..mesh() };
    let set = RequestPolicySet::istio(several).replaced(&policies).unwrap();
    get("/")
        .with_facts(|facts| assert_eq!(verdict(set.evaluate_request(facts), Answer::Allow), Verdict::Allow));
}

// part B2: Istio asks providers before it validates tokens.
#[test]
fn providers_are_asked_before_tokens_are_known() {
    let rule = when_not("request.auth.principal", &["*"]);
    let set = requests(Istio, &[custom("grpc", vec![rule])]);
    let call = get("/").with_claims(&token("iss", "sub"));
    call.with_facts(|facts| assert!(matches!(set.evaluate_request(facts), Step::Ask(_))));
}

// policy#103
#[test]
fn denials_are_named_by_the_smallest_policy() {
    assert_eq!(DENIED_BODY, "RBAC: access denied");
    let set = requests(
        Strict,
        &[
            policy(Action::Deny, "b", everything()),
            policy(Action::Deny, "a", vec![to(vec![paths(&["/x"])]), Rule::default()]),
        ],
    );
    reason_of(&set, &get("/"), |reason| {
        assert_eq!((reason.policy().unwrap().to_string(), reason.rule()), ("shop/a".to_owned(), Some(1)));
    });
}
