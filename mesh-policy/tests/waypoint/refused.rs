//! What strict semantics refuses, and what Istio makes of it.

use mesh_policy::{
    Code, Level,
    Semantics::Istio,
    Verdict,
    object::{
        Action, AuthorizationPolicy, Condition, Operation, Provider, Rule, Selector, Source, TargetRef,
    },
    waypoint::{Answer, RequestPolicySet, StreamPolicySet},
};

use crate::support::*;

// policy#36, policy#38, policy#74, policy#102 and part D 2, 3
#[test]
fn each_problem_is_refused_where_it_is() {
    let source = |source: Source| {
        deny(vec![from(vec![Source { namespaces: texts(&["x"]), ..Source::default() }, source])])
    };
    let operation = |operation: Operation| deny(vec![Rule::default(), to(vec![operation])]);
    let when = |key: &str, values: &[&str]| deny(vec![when(key, values)]);
    let with = |change: fn(&mut AuthorizationPolicy)| {
        let mut policy = deny(vec![Rule::default()]);
        change(&mut policy);
        policy
    };
    for (policy, code, path, value) in [
        (
            source(Source { ip_blocks: texts(&["192.0.2.1", "192.0.2.300"]), ..Source::default() }),
            Code::BadAddress,
            "spec.rules[0].from[1].source.ipBlocks[1]",
            "192.0.2.300",
        ),
        (
            source(Source { not_remote_ip_blocks: texts(&["::ffff:192.0.2.1"]), ..Source::default() }),
            Code::MappedAddress,
            "spec.rules[0].from[1].source.notRemoteIpBlocks[0]",
            "::ffff:192.0.2.1",
        ),
        (
            source(principals(&["example.org/ns/a/ns/b/sa/c"])),
            Code::PrincipalParts,
            "spec.rules[0].from[1].source.principals[0]",
            "example.org/ns/a/ns/b/sa/c",
        ),
        (
            source(principals(&["*a*"])),
            Code::InnerWildcard,
            "spec.rules[0].from[1].source.principals[0]",
            "*a*",
        ),
        (
            source(Source { service_accounts: texts(&["shop/*"]), ..Source::default() }),
            Code::ServiceAccountForm,
            "spec.rules[0].from[1].source.serviceAccounts[0]",
            "shop/*",
        ),
        (
            source(Source { not_service_accounts: texts(&["a/b/c"]), ..Source::default() }),
            Code::ServiceAccountForm,
            "spec.rules[0].from[1].source.notServiceAccounts[0]",
            "a/b/c",
        ),
        (
            source(Source { trust_domains: texts(&["example.org/ns"]), ..Source::default() }),
            Code::TrustDomainForm,
            "spec.rules[0].from[1].source.trustDomains[0]",
            "example.org/ns",
        ),
        (
            source(Source { request_principals: texts(&["*/*"]), ..Source::default() }),
            Code::RequestPrincipalForm,
            "spec.rules[0].from[1].source.requestPrincipals[0]",
            "*/*",
        ),
        (source(Source::default()), Code::EmptySource, "spec.rules[0].from[1].source", ""),
        (operation(ports(&["65616"])), Code::BadPort, "spec.rules[1].to[0].operation.ports[0]", "65616"),
        (
            operation(Operation { not_ports: texts(&["http"]), ..Operation::default() }),
            Code::BadPort,
            "spec.rules[1].to[0].operation.notPorts[0]",
            "http",
        ),
        (
            operation(paths(&["/foo/{*}.txt"])),
            Code::BadTemplate,
            "spec.rules[1].to[0].operation.paths[0]",
            "/foo/{*}.txt",
        ),
        (operation(hosts(&["a*b"])), Code::InnerWildcard, "spec.rules[1].to[0].operation.hosts[0]", "a*b"),
        (operation(methods(&["GET", ""])), Code::EmptyValue, "spec.rules[1].to[0].operation.methods[1]", ""),
        (operation(Operation::default()), Code::EmptyOperation, "spec.rules[1].to[0].operation", ""),
        (when("source.ips", &["x"]), Code::UnknownKey, "spec.rules[0].when[0].key", "source.ips"),
        (
            when("request.headers[x", &["x"]),
            Code::KeyBrackets,
            "spec.rules[0].when[0].key",
            "request.headers[x",
        ),
        (
            when("request.headers[a b]", &["x"]),
            Code::HeaderName,
            "spec.rules[0].when[0].key",
            "request.headers[a b]",
        ),
        (when("source.ip", &[]), Code::WithoutValues, "spec.rules[0].when[0]", ""),
        (when("connection.sni", &["*a*"]), Code::InnerWildcard, "spec.rules[0].when[0].values[0]", "*a*"),
        (deny(vec![]), Code::DenyWithoutRules, "spec", ""),
        (custom("", vec![Rule::default()]), Code::ProviderName, "spec.provider.name", ""),
        (custom("missing", vec![Rule::default()]), Code::ProviderUnknown, "spec.provider.name", "missing"),
        (
            custom("grpc", vec![from(vec![principals(&["*"])])]),
            Code::CustomAttribute,
            "spec.rules[0].from[0].source.principals",
            "",
        ),
        (
            with(|policy| policy.provider = Some(Provider { name: "grpc".to_owned() })),
            Code::ProviderWithoutCustom,
            "spec.provider.name",
            "grpc",
        ),
        (with(|policy| policy.selector = Some(Selector::default())), Code::SeveralTargets, "spec", ""),
        (with(|policy| policy.target_ref = Some(service("x"))), Code::SeveralTargets, "spec", ""),
        (
            with(|policy| policy.target_refs = vec![TargetRef { kind: "Pod".to_owned(), ..service("x") }]),
            Code::TargetForm,
            "spec.targetRefs[0]",
            "/Pod x",
        ),
        (
            with(|policy| {
                policy.target_refs = vec![TargetRef { namespace: "bank".to_owned(), ..service("x") }]
            }),
            Code::TargetNamespace,
            "spec.targetRefs[0].namespace",
            "bank",
        ),
        (
            with(|policy| {
                policy.metadata.annotations.insert("istio.io/dry-run".to_owned(), "yes".to_owned());
            }),
            Code::DryRunForm,
            "metadata.annotations[istio.io/dry-run]",
            "yes",
        ),
    ] {
        let error = refusal(&policy);
        let finding = &error.findings()[0];
        let found = (finding.code, finding.path.as_str(), finding.value.as_deref().unwrap_or_default());
        assert_eq!(found, (code, path, value));
        assert_eq!((&finding.object.name, finding.level), (&policy.metadata.name, Level::Refused));
        assert_eq!(StreamPolicySet::strict(mesh()).insert(&policy).unwrap_err(), error, "at both points");
        assert!(
            RequestPolicySet::istio(mesh()).insert(&policy).is_ok(),
            "Istio takes everything: {policy:?}"
        );
    }
}

// part D 2: an unusable value in a DENY vanishes, in an ALLOW it takes its rule along.
#[test]
fn istio_widens_denials_and_drops_allowances() {
    for (values, denied, allowed) in [
        (&["65616"][..], true, false),
        (&["65616", "9090"], false, false),
        (&["65616", "8080"], true, false),
        (&["8080"], true, true),
    ] {
        assert_eq!(!admits(Istio, &[deny(vec![to(vec![ports(values)])])], &get("/")), denied, "{values:?}");
        assert_eq!(admits(Istio, &[allow(vec![to(vec![ports(values)])])], &get("/")), allowed, "{values:?}");
    }
    let negated = deny(vec![from(vec![Source { not_ip_blocks: texts(&["bad"]), ..Source::default() }])]);
    assert!(!admits(Istio, &[negated], &get("/")));
}

// part D 3
#[test]
fn istio_drops_a_rule_with_an_unknown_key() {
    let rule = || Rule { when: vec![condition("source.ips", &["x"])], ..to(vec![paths(&["/a"])]) };
    assert!(admits(Istio, &[deny(vec![rule()])], &get("/a")));
    assert!(!admits(Istio, &[allow(vec![rule()])], &get("/a")));
    let without = Condition { key: "source.ip".to_owned(), ..Condition::default() };
    assert!(!admits(Istio, &[deny(vec![Rule { when: vec![without], ..Rule::default() }])], &get("/")));
}

#[test]
fn the_last_good_policy_stays_when_the_next_is_refused() {
    let mut set = RequestPolicySet::strict(mesh());
    set.insert(&deny(vec![to(vec![paths(&["/a"])])])).unwrap();
    let refused = deny(vec![to(vec![ports(&["x"])])]);
    assert!(set.insert(&refused).is_err());
    assert!(set.replaced([&refused]).is_err());
    for (path, expected) in [("/a", true), ("/b", false)] {
        reason_of(&set, &get(path), |reason| assert_eq!(reason.policy().is_some(), expected, "{path}"));
    }
    assert_eq!(
        set.replaced([&allow(vec![]), &allow(vec![])]).unwrap_err().findings()[0].code,
        Code::Duplicate
    );
}

#[test]
fn what_is_refused_can_be_closed() {
    for (action, expected) in
        [(Action::Allow, Verdict::Deny), (Action::Deny, Verdict::Deny), (Action::Audit, Verdict::Allow)]
    {
        let mut set = RequestPolicySet::strict(mesh());
        let broken = policy(action, "broken", vec![to(vec![ports(&["8080", "x"])])]);
        assert!(set.insert_closed(&broken).is_some());
        get("/").with_facts(|facts| {
            assert_eq!(verdict(set.evaluate_request(facts), Answer::Allow), expected, "{action}")
        });
        let elsewhere = Call { place: waypoint(Some("other")), ..get("/") };
        elsewhere.with_facts(|facts| {
            assert_eq!(verdict(set.evaluate_request(facts), Answer::Allow), Verdict::Allow, "{action}");
        });
    }
}
