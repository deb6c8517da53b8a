//! Policies on streams that are not HTTP.

use mesh_policy::{
    Reason,
    Semantics::{Istio, Strict},
    Verdict,
    object::{Action, Operation, Rule, Source},
    waypoint::{Answer, Step, StreamPolicySet},
};

use crate::support::*;

// policy#63, policy#64, policy#109 and part D 4
#[test]
fn what_a_stream_does_not_have_cannot_allow_it_nor_save_it() {
    let http = || to(vec![paths(&["/admin"])]);
    let with_port = |port: &str| to(vec![Operation { ports: texts(&[port]), ..methods(&["GET"]) }]);
    let beside = || to(vec![ports(&["9000"]), paths(&["/x"])]);
    let header_and_namespace = |namespace: &str| Rule {
        when: vec![condition("source.namespace", &[namespace]), condition("request.headers[x]", &["y"])],
        ..Rule::default()
    };
    let token_and_port = |port: &str| Rule {
        from: vec![Source { request_principals: texts(&["*"]), ..Source::default() }],
        ..to(vec![ports(&[port])])
    };
    for semantics in BOTH {
        for (policy, expected) in [
            (deny(vec![http()]), false),
            (deny(vec![with_port("8080")]), false),
            (deny(vec![with_port("9090")]), true),
            (deny(vec![beside()]), false),
            (deny(vec![header_and_namespace("shop")]), false),
            (deny(vec![header_and_namespace("bank")]), true),
            (deny(vec![token_and_port("8080")]), false),
            (deny(vec![token_and_port("9090")]), true),
            (allow(vec![http()]), false),
            (allow(vec![with_port("8080")]), false),
            (allow(vec![http(), to(vec![ports(&["8080"])])]), true),
            (
                allow(vec![from(vec![Source {
                    not_request_principals: texts(&["*"]),
                    ..Source::default()
                }])]),
                false,
            ),
        ] {
            assert_eq!(
                admits_stream(semantics, std::slice::from_ref(&policy), &get("/")),
                expected,
                "{policy:?}"
            );
        }
    }
}

// CVE-2020-16844: suffixes in identities count on streams as well.
#[test]
fn identities_count_on_streams() {
    for semantics in BOTH {
        let suffix = deny(vec![from(vec![principals(&["*/sa/web"])])]);
        assert!(!admits_stream(semantics, std::slice::from_ref(&suffix), &get("/")));
        assert!(admits_stream(semantics, &[suffix], &get("/").by("spiffe://example.org/ns/shop/sa/other")));
        let namespaces = deny(vec![from(vec![Source { namespaces: texts(&["*op"]), ..Source::default() }])]);
        assert!(!admits_stream(semantics, &[namespaces], &get("/")));
        let remote = allow(vec![when("remote.ip", &["203.0.113.1"])]);
        assert!(admits_stream(semantics, &[remote], &get("/")));
    }
}

// policy#107
#[test]
fn a_provider_of_requests_cannot_be_asked_about_streams() {
    let policies = [custom("http", vec![Rule::default()])];
    let reason = |set: &StreamPolicySet| {
        get("/").with_facts(|facts| set.evaluate_stream(&facts.stream).without_providers().verdict())
    };
    assert_eq!(reason(&streams(Istio, &policies)), Verdict::Allow, "Istio ignores it");
    assert_eq!(reason(&streams(Strict, &policies)), Verdict::Deny);
    let unknown = [custom("missing", vec![Rule::default()])];
    get("/").with_facts(|facts| {
        let set = streams(Istio, &unknown);
        let reason = set.evaluate_stream(&facts.stream).without_providers().reason();
        assert!(matches!(reason, Reason::ProviderUnusable { .. }));
    });
    for semantics in BOTH {
        // By what is left of the rule, which is everything.
        let set = streams(semantics, &[custom("grpc", vec![to(vec![paths(&["/a"])])])]);
        get("/").with_facts(|facts| {
            let Step::Ask(question) = set.evaluate_stream(&facts.stream) else { panic!("nobody is asked") };
            assert_eq!(verdict(question.answer(Answer::Deny), Answer::Deny), Verdict::Deny);
        });
    }
}

#[test]
fn audits_of_streams_are_as_wide_as_denials() {
    let set = streams(Strict, &[policy(Action::Audit, "audit", vec![to(vec![paths(&["/a"])])])]);
    get("/").with_facts(|facts| {
        assert_eq!(set.evaluate_stream(&facts.stream).without_providers().audits().count(), 1);
    });
}
