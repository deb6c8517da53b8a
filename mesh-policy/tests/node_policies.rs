//! What node proxies receive for the objects that users write.

use std::collections::BTreeMap;

use mesh_identity::SpiffeId;
use mesh_policy::{
    Code, ConnectionFacts, MissingPolicy, Policy, PolicyName, PolicySet, Scope, Semantics, Verdict,
    crd::{NodePolicies, NodeSettings, read},
    object::{Extent, MutualTlsMode},
};

fn convert(semantics: Semantics, text: &str) -> NodePolicies {
    let objects = read(text).into_objects(Semantics::Istio).expect("objects");
    NodePolicies::new(&objects, NodeSettings { semantics, ..NodeSettings::default() }).expect("policies")
}

fn authorization(spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: shop, name: rule}}\nspec:\n  {spec}\n"
    )
}

fn one(semantics: Semantics, spec: &str) -> Policy {
    convert(semantics, &authorization(spec)).into_policies().remove(0)
}

fn peer(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

fn labels(app: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), app.to_owned())].into()
}

/// The verdict for a connection to the workload `app=cart` in `shop`, with and without mutual TLS.
fn verdicts(policies: &NodePolicies, port: u16) -> (Verdict, Verdict) {
    let set = PolicySet::builder()
        .missing(MissingPolicy::Skip)
        .policies(policies.policies().to_vec())
        .build()
        .expect("a set");
    let listed = policies.listed_by("shop", &labels("cart"));
    let id: SpiffeId = "spiffe://example.org/ns/shop/sa/web".parse().expect("a value");
    let verdict = |peer| {
        let facts = ConnectionFacts {
            source: "192.0.2.1".parse().expect("a value"),
            peer,
            destination: ([192, 0, 2, 2], port).into(),
            namespace: "shop",
            policies: &listed,
        };
        set.evaluate_connection(&facts).verdict()
    };
    (verdict(Some(&id)), verdict(None))
}

const BOTH: [Semantics; 2] = [Semantics::Istio, Semantics::Strict];
use Verdict::{Allow, Deny};

// policy#51
#[test]
fn an_allow_that_needs_http_is_dropped_and_still_denies() {
    for semantics in BOTH {
        let policies = convert(semantics, &authorization("rules: [{to: [{operation: {paths: [/a]}}]}]"));
        assert!(policies.policies()[0].rules.is_empty());
        assert_eq!(verdicts(&policies, 8080), (Deny, Deny));
    }
}

#[test]
fn what_a_node_proxy_sees_is_converted_as_it_is_written() {
    let text = authorization(
        "rules:\n- from: [{source: {principals: ['example.org/ns/shop/sa/*'], notNamespaces: [bank], ipBlocks: [192.0.2.1]}}]\n  \
         to: [{operation: {ports: ['8080', '8081'], notPorts: ['9090']}}]\n  \
         when: [{key: source.principal, values: ['*']}, {key: destination.ip, values: [192.0.2.0/24], notValues: [192.0.2.9]}]",
    );
    for semantics in BOTH {
        let policies = convert(semantics, &text);
        assert_eq!(policies.policies()[0].rules[0].clauses.len(), 4);
        assert_eq!(verdicts(&policies, 8080), (Allow, Deny), "{semantics}");
        assert_eq!(verdicts(&policies, 8082), (Deny, Deny), "{semantics}");
    }
}

// policy#52
#[test]
fn a_deny_of_ports_and_methods_denies_the_ports() {
    for semantics in BOTH {
        let policies = convert(
            semantics,
            &authorization("action: DENY\nrules: [{to: [{operation: {ports: ['8080'], methods: [GET]}}]}]"),
        );
        assert_eq!(verdicts(&policies, 8080), (Deny, Deny));
        assert_eq!(verdicts(&policies, 8081), (Allow, Allow));
    }
}

// policy#53
#[test]
fn a_deny_of_methods_does_nothing_in_istio_and_denies_all_in_strict() {
    let text = authorization("action: DENY\nrules: [{to: [{operation: {methods: [GET]}}]}]");
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 8080), (Allow, Allow));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 8080), (Deny, Deny));
}

// policy#54
#[test]
fn a_deny_with_one_condition_of_each_kind_never_matches_in_istio() {
    let text = authorization(
        "action: DENY\nrules:\n- when:\n  - {key: source.namespace, values: [shop]}\n  \
         - {key: connection.sni, values: [a]}",
    );
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 8080), (Allow, Allow));
    // What can be seen decides.
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 8080), (Deny, Allow));
}

// policy#55
#[test]
fn wildcards_say_how_to_compare() {
    for semantics in BOTH {
        let policy = one(semantics, "rules: [{from: [{source: {namespaces: ['*', 'x*', '*x', 'x']}}]}]");
        let found: Vec<_> =
            policy.rules[0].clauses[0].matches[0].namespaces.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(found, ["Presence", r#"Prefix("x")"#, r#"Suffix("x")"#, r#"Exact("x")"#]);
    }
    // Of two, Istio counts the first.
    let spec = "rules: [{from: [{source: {namespaces: ['*x*']}}]}]";
    let istio = one(Semantics::Istio, spec);
    assert_eq!(format!("{:?}", istio.rules[0].clauses[0].matches[0].namespaces), r#"[Suffix("x*")]"#);
    assert!(one(Semantics::Strict, spec).rules.is_empty(), "waypoints take it for a wildcard at either end");
}

// policy#56
#[test]
fn a_service_account_alone_is_in_the_namespace_of_the_policy() {
    for semantics in BOTH {
        let policy = one(semantics, "rules: [{from: [{source: {serviceAccounts: [web, bank/teller]}}]}]");
        let found: Vec<_> =
            policy.rules[0].clauses[0].matches[0].service_accounts.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["shop/web", "bank/teller"]);
    }
}

// policy#57
#[test]
fn trust_domains_alone_never_match_in_istio_and_are_prefixes_in_strict() {
    let text = authorization("rules: [{from: [{source: {trustDomains: [example.org]}}]}]");
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 80), (Deny, Deny));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 80), (Allow, Deny));
    let other = authorization("rules: [{from: [{source: {trustDomains: [example.com]}}]}]");
    assert_eq!(verdicts(&convert(Semantics::Strict, &other), 80), (Deny, Deny));
}

// policy#57
#[test]
fn trust_domains_beside_namespaces_do_not_widen_a_strict_allow() {
    let text =
        authorization("rules: [{from: [{source: {trustDomains: [example.com], namespaces: [shop]}}]}]");
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 80), (Allow, Deny));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 80), (Deny, Deny));
    // A suffix has no layer 4 form: the rule goes, rather than the restriction.
    let suffix = authorization("rules: [{from: [{source: {trustDomains: ['*.org'], namespaces: [shop]}}]}]");
    assert_eq!(verdicts(&convert(Semantics::Strict, &suffix), 80), (Deny, Deny));
    let deny = authorization(
        "action: DENY\nrules: [{from: [{source: {trustDomains: ['*.com'], namespaces: [shop]}}]}]",
    );
    assert_eq!(verdicts(&convert(Semantics::Strict, &deny), 80), (Deny, Allow));
}

// policy#58, policy#59, policy#60
#[test]
fn what_a_node_proxy_cannot_enforce_is_not_sent() {
    for spec in [
        "targetRefs: [{kind: Service, name: cart}]\nrules: [{}]",
        "targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: way}\nrules: [{}]",
        "action: AUDIT\nrules: [{}]",
        "action: CUSTOM\nprovider: {name: asks}\nrules: [{}]",
    ] {
        for semantics in BOTH {
            assert!(convert(semantics, &authorization(spec)).policies().is_empty(), "{spec}");
        }
    }
    let dry = authorization("action: DENY\nrules: [{}]")
        .replace("name: rule", "name: rule, annotations: {istio.io/dry-run: 'true'}");
    assert!(convert(Semantics::Istio, &dry).policies().is_empty());
    let objects = read(&dry).into_objects(Semantics::Strict).unwrap();
    let sent = NodePolicies::new(&objects, NodeSettings { dry_run: true, ..NodeSettings::default() })
        .expect("policies");
    assert!(sent.policies()[0].dry_run);
    assert_eq!(verdicts(&sent, 80), (Allow, Allow));
}

// policy#109
#[test]
fn a_deny_from_what_only_http_knows_never_matches_in_istio() {
    let text = authorization(
        "action: DENY\nrules: [{from: [{source: {requestPrincipals: ['*']}}], to: [{operation: {ports: ['8080']}}]}]",
    );
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 8080), (Allow, Allow));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 8080), (Deny, Deny));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 8081), (Allow, Allow));
}

// policy#36, policy#38: Istio skips what it cannot use, and an ALLOW becomes wider.
#[test]
fn unusable_values_widen_nothing_in_strict() {
    let spec =
        "rules: [{from: [{source: {ipBlocks: [nonsense]}}], to: [{operation: {ports: ['8080', '65616']}}]}]";
    let istio = one(Semantics::Istio, spec);
    assert_eq!(istio.rules[0].clauses[0].matches[0].destination_ports, [8080]);
    assert!(istio.rules[0].clauses[1].matches[0].source_ips.is_empty());
    let objects = read(&authorization(spec)).into_objects(Semantics::Istio).expect("objects");
    let error = NodePolicies::new(&objects, NodeSettings::default()).expect_err("refused");
    let codes: Vec<_> = error.findings().iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::BadAddress, Code::BadPort]);
}

// What layer 4 cannot say is left out of a strict DENY, which then denies at least as much, and out of a strict ALLOW
// its alternative is.
#[test]
fn what_cannot_be_said_never_narrows_a_strict_deny() {
    for (source, denies_cart, denies_plaintext) in [
        ("{trustDomains: [example.net, '*.org']}", true, true),
        ("{trustDomains: ['ex*org']}", true, true),
        ("{trustDomains: [example.net]}", false, false),
        ("{notTrustDomains: [example.org, '*.net']}", false, true),
        ("{namespaces: [bank, 's*p']}", true, true),
        ("{namespaces: [bank]}", false, false),
        ("{notNamespaces: ['s*p']}", true, true),
        ("{namespaces: ['s*p'], ipBlocks: [198.51.100.0/24]}", false, false),
        ("{namespaces: ['s*p'], ipBlocks: [192.0.2.0/24]}", true, true),
        ("{trustDomains: ['*.org'], principals: ['example.org/*']}", true, false),
    ] {
        let verdict = |denies| if denies { Deny } else { Allow };
        let text = authorization(&format!("action: DENY\nrules: [{{from: [{{source: {source}}}]}}]"));
        let expected = (verdict(denies_cart), verdict(denies_plaintext));
        assert_eq!(verdicts(&convert(Semantics::Strict, &text), 80), expected, "{source}");
        let text = text.replace("DENY", "ALLOW");
        let policies = convert(Semantics::Strict, &text);
        let is_said = !source.contains("'*.") && !source.contains("x*o") && !source.contains("s*p");
        assert_eq!(!policies.policies()[0].rules.is_empty(), is_said, "{source}");
    }
}

// policy#74 of identities: what node proxies would take literally is refused.
#[test]
fn strict_refuses_what_a_node_proxy_takes_for_nobody() {
    for (spec, code) in [
        ("rules: [{from: [{source: {principals: ['*/ns/evil/*']}}]}]", Code::InnerWildcard),
        ("rules: [{from: [{source: {principals: [a/ns/b/ns/c/sa/d]}}]}]", Code::PrincipalParts),
        ("rules: [{from: [{source: {ipBlocks: ['::ffff:10.9.9.9']}}]}]", Code::MappedAddress),
        ("selector: {}\nrules: [{}]", Code::SelectorEmpty),
    ] {
        let text = authorization(&format!("action: DENY\n{spec}"));
        let refused = read(&text).into_objects(Semantics::Strict).expect_err(spec);
        assert_eq!(refused.findings()[0].code, code, "{spec}");
        let objects = read(&text).into_objects(Semantics::Istio).expect(spec);
        assert!(NodePolicies::new(&objects, NodeSettings::default()).is_err(), "{spec}");
        let istio = NodeSettings { semantics: Semantics::Istio, ..NodeSettings::default() };
        assert!(NodePolicies::new(&objects, istio).is_ok(), "{spec}");
    }
}

#[test]
fn a_policy_cannot_take_the_name_of_a_converted_one() {
    let text = peer("shop", "a", "{mtls: {mode: STRICT}}")
        + "---\n"
        + &authorization("rules: [{}]")
            .replace("namespace: shop", "namespace: istio-system")
            .replace("name: rule", "name: istio_converted_static_strict");
    let objects = read(&text).into_objects(Semantics::Istio).expect("objects");
    for semantics in BOTH {
        let settings = NodeSettings { semantics, ..NodeSettings::default() };
        let error = NodePolicies::new(&objects, settings).expect_err("two of one name");
        assert_eq!(error.findings()[0].code, Code::Duplicate);
    }
}

#[test]
fn an_alternative_that_cannot_be_seen_takes_its_rule_out_of_an_allow() {
    let text = authorization(
        "rules: [{to: [{operation: {ports: ['80']}}, {operation: {ports: ['81'], methods: [GET]}}]}]",
    );
    assert_eq!(verdicts(&convert(Semantics::Istio, &text), 80), (Deny, Deny));
    assert_eq!(verdicts(&convert(Semantics::Strict, &text), 80), (Deny, Deny));
}

#[test]
fn scope_follows_selector_and_namespace() {
    let text = authorization("rules: [{}]");
    assert_eq!(convert(Semantics::Strict, &text).policies()[0].scope, Scope::Namespace);
    let root = text.replace("namespace: shop", "namespace: istio-system");
    assert_eq!(convert(Semantics::Strict, &root).policies()[0].scope, Scope::Global);
    let selects = authorization("selector: {matchLabels: {app: cart}}\nrules: [{}]");
    assert_eq!(convert(Semantics::Strict, &selects).policies()[0].scope, Scope::WorkloadSelector);
}

// kubernetes#85, kubernetes#87
#[test]
fn selectors_attach_by_labels() {
    let selects =
        |labels: &str| authorization(&format!("selector: {{matchLabels: {labels}}}\nrules: [{{}}]"));
    let name: PolicyName = "shop/rule".parse().unwrap();
    for semantics in BOTH {
        let policies = convert(semantics, &selects("{app: cart}"));
        assert_eq!(policies.listed_by("shop", &labels("cart")), std::slice::from_ref(&name));
        assert!(policies.listed_by("shop", &labels("web")).is_empty());
        assert!(policies.listed_by("bank", &labels("cart")).is_empty());
        let root = selects("{app: cart}").replace("namespace: shop", "namespace: istio-system");
        assert_eq!(convert(semantics, &root).listed_by("bank", &labels("cart")).len(), 1);
    }
    // An empty selector attaches to nobody.
    assert!(convert(Semantics::Istio, &selects("{}")).listed_by("shop", &labels("cart")).is_empty());
    let none = BTreeMap::new();
    assert_eq!(convert(Semantics::Istio, &selects("{app: cart}")).listed_by("shop", &none), [name]);
    assert!(convert(Semantics::Strict, &selects("{app: cart}")).listed_by("shop", &none).is_empty());
}

// policy#40
#[test]
fn strict_mode_asks_for_mutual_tls() {
    for semantics in BOTH {
        let policies = convert(semantics, &peer("shop", "default", "{mtls: {mode: STRICT}}"));
        assert_eq!(verdicts(&policies, 80), (Allow, Deny));
        assert_eq!(policies.policies()[0].name.to_string(), "istio-system/istio_converted_static_strict");
    }
}

/// A PeerAuthentication of a workload.
fn of_workload(spec: &str) -> String {
    peer("shop", "cart", &format!("{{selector: {{matchLabels: {{app: cart}}}}, {spec}}}"))
}

// policy#41, policy#44
#[test]
fn ports_are_exempt_from_strict_mode() {
    for semantics in BOTH {
        let text = of_workload(
            "mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}, 9090: {mode: DISABLE}}",
        );
        let policies = convert(semantics, &text);
        assert_eq!(verdicts(&policies, 8080), (Allow, Allow));
        assert_eq!(verdicts(&policies, 9090), (Allow, Allow));
        assert_eq!(verdicts(&policies, 8081), (Allow, Deny));
        let listed = policies.listed_by("shop", &labels("cart"));
        assert_eq!(listed, ["shop/converted_peer_authentication_cart".parse().unwrap()]);
    }
}

// policy#42, policy#43
#[test]
fn single_ports_are_strict() {
    for semantics in BOTH {
        let text = of_workload(
            "mtls: {mode: PERMISSIVE}, portLevelMtls: {8443: {mode: STRICT}, 9443: {mode: STRICT}}",
        );
        let policies = convert(semantics, &text);
        assert_eq!(verdicts(&policies, 8443), (Allow, Deny));
        assert_eq!(verdicts(&policies, 9443), (Allow, Deny));
        assert_eq!(verdicts(&policies, 8080), (Allow, Allow));
    }
}

// policy#45
#[test]
fn a_namespace_overrides_the_mesh_unless_it_says_nothing() {
    let mesh = peer("istio-system", "default", "{mtls: {mode: STRICT}}");
    for (spec, plaintext) in [
        ("{mtls: {mode: PERMISSIVE}}", Allow),
        ("{mtls: {mode: DISABLE}}", Allow),
        ("{mtls: {mode: UNSET}}", Deny),
        ("{}", Deny),
    ] {
        for semantics in BOTH {
            let policies = convert(semantics, &(mesh.clone() + &peer("shop", "default", spec)));
            assert_eq!(verdicts(&policies, 80), (Allow, plaintext), "{spec}");
        }
    }
}

// policy#46
#[test]
fn the_oldest_wins() {
    let aged = |name: &str, mode: &str, time: &str| {
        peer("shop", name, &format!("{{mtls: {{mode: {mode}}}}}"))
            .replace(&format!("name: {name}"), &format!("name: {name}, creationTimestamp: '{time}'"))
    };
    for semantics in BOTH {
        let text =
            aged("a", "STRICT", "2026-02-01T00:00:00Z") + &aged("b", "PERMISSIVE", "2026-01-01T00:00:00Z");
        assert_eq!(verdicts(&convert(semantics, &text), 80), (Allow, Allow));
        // The same instant in another zone, one second older.
        let text = aged("a", "STRICT", "2026-01-01T00:59:59+01:00")
            + &aged("b", "PERMISSIVE", "2026-01-01T00:00:00Z");
        assert_eq!(verdicts(&convert(semantics, &text), 80), (Allow, Deny));
    }
}

// policy A7: the rows with an unset mode.
#[test]
fn unset_modes_take_the_parents() {
    let strict = peer("shop", "default", "{mtls: {mode: STRICT}}");
    for semantics in BOTH {
        let with = |ports: &str| {
            convert(semantics, &(strict.clone() + &of_workload(&format!("portLevelMtls: {ports}"))))
        };
        assert_eq!(verdicts(&with("{8080: {mode: PERMISSIVE}}"), 8080), (Allow, Allow));
        assert_eq!(verdicts(&with("{8080: {mode: PERMISSIVE}}"), 8081), (Allow, Deny));
        // DISABLE is no exception where the mode is inherited.
        assert_eq!(verdicts(&with("{8080: {mode: DISABLE}}"), 8080), (Allow, Deny));
        assert_eq!(verdicts(&with("{8080: {mode: STRICT}}"), 8081), (Allow, Deny));
        let open = convert(semantics, &of_workload("portLevelMtls: {8080: {mode: STRICT}}"));
        assert_eq!(verdicts(&open, 8080), (Allow, Deny));
        assert_eq!(verdicts(&open, 8081), (Allow, Allow));
    }
}

// policy#108
#[test]
fn istio_lists_a_derived_policy_that_it_never_makes() {
    let text = peer("istio-system", "default", "{mtls: {mode: STRICT}}")
        + &peer("shop", "default", "{mtls: {mode: UNSET}}")
        + &of_workload("portLevelMtls: {8080: {mode: PERMISSIVE}}");
    let name: PolicyName = "shop/converted_peer_authentication_cart".parse().unwrap();
    let istio = convert(Semantics::Istio, &text);
    assert_eq!(istio.listed_by("shop", &labels("cart")), std::slice::from_ref(&name));
    assert_eq!(istio.missing("shop", &labels("cart")), [name].into());
    // Whoever skips what is missing enforces nothing.
    assert_eq!(verdicts(&istio, 8081), (Allow, Allow));
    let strict = convert(Semantics::Strict, &text);
    assert!(strict.missing("shop", &labels("cart")).is_empty());
    assert_eq!(verdicts(&strict, 8081), (Allow, Deny));
    assert_eq!(verdicts(&strict, 8080), (Allow, Allow));
}

#[test]
fn selectors_in_the_root_namespace_select_nobody() {
    let text = peer("istio-system", "x", "{selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}}");
    let policies = convert(Semantics::Istio, &text);
    assert_eq!(verdicts(&policies, 80), (Allow, Allow));
    assert_eq!(policies.mutual_tls("shop", &labels("cart")).mode, MutualTlsMode::Permissive);
    let objects = read(&text).into_objects(Semantics::Strict).expect("objects");
    let error = NodePolicies::new(&objects, NodeSettings::default()).expect_err("refused");
    assert_eq!(error.findings()[0].code, Code::RootSelector);
    // An empty one is for that namespace alone in Istio's reading.
    let text = peer("istio-system", "x", "{selector: {}, mtls: {mode: STRICT}}");
    let istio = convert(Semantics::Istio, &text);
    assert_eq!(istio.mutual_tls("shop", &labels("cart")).mode, MutualTlsMode::Permissive);
    assert_eq!(istio.mutual_tls("istio-system", &labels("cart")).mode, MutualTlsMode::Strict);
    assert_eq!(
        convert(Semantics::Strict, &text).mutual_tls("shop", &labels("cart")).mode,
        MutualTlsMode::Strict
    );
}

// Several objects share what the wire has one name for.
#[test]
fn a_listed_policy_is_known_by_the_object_that_asks_for_it() {
    let text = peer("istio-system", "mesh", "{mtls: {mode: STRICT}}")
        + &peer("shop", "unset", "{mtls: {mode: UNSET}}")
        + &peer("bank", "own", "{mtls: {mode: STRICT}}")
        + &peer("bank", "some", "{selector: {matchLabels: {app: till}}, mtls: {mode: STRICT}}")
        + &peer(
            "bank",
            "port",
            "{selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: PERMISSIVE}}}",
        );
    for semantics in [Semantics::Istio, Semantics::Strict] {
        let policies = convert(semantics, &text);
        let source = |namespace: &str, app: &str| {
            let labels = labels(app);
            let listed = policies.listed_by(namespace, &labels);
            let [name] = listed.as_slice() else { panic!("{listed:?}") };
            let found = policies.converted_from(name, namespace, &labels).expect("known");
            (name.name().to_owned(), found.to_string())
        };
        let strict = "istio_converted_static_strict".to_owned();
        assert_eq!(source("shop", "cart"), (strict.clone(), "PeerAuthentication istio-system/mesh".into()));
        assert_eq!(source("bank", "cart"), (strict.clone(), "PeerAuthentication bank/own".into()));
        assert_eq!(source("bank", "till"), (strict.clone(), "PeerAuthentication bank/some".into()));
        let port = "converted_peer_authentication_port".to_owned();
        assert_eq!(source("bank", "web"), (port, "PeerAuthentication bank/port".into()));
        // Not of a workload that does not list it, nor of an AuthorizationPolicy.
        let name = "bank/converted_peer_authentication_port".parse().unwrap();
        assert_eq!(policies.converted_from(&name, "bank", &labels("cart")), None);
        assert_eq!(policies.converted_from(&"bank/rule".parse().unwrap(), "bank", &labels("cart")), None);
    }
}

// For questions about a destination of which nothing is known.
#[test]
fn objects_for_all_apply_to_every_workload_under_their_own_names() {
    let text = authorization(
        "{selector: {matchLabels: {app: till}}, action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}",
    );
    let text = text.replace("spec:\n  ", "spec: ")
        + &peer("bank", "mutual", "{selector: {matchLabels: {app: till}}, mtls: {mode: STRICT}}");
    let mut objects = read(&text).into_objects(Semantics::Strict).expect("objects");
    for semantics in [Semantics::Istio, Semantics::Strict] {
        let settings = NodeSettings { semantics, ..NodeSettings::default() };
        let written = NodePolicies::new(&objects, settings.clone()).expect("policies");
        assert!(written.listed_by("other", &labels("cart")).is_empty());
        objects.peer.iter_mut().for_each(|one| one.extent = Extent::Mesh);
        objects.authorization.iter_mut().for_each(|one| one.extent = Extent::Mesh);
        let all = NodePolicies::new(&objects, settings).expect("policies");
        let listed = all.listed_by("other", &labels("cart"));
        assert_eq!(listed.len(), 1, "{listed:?}");
        let found = all.converted_from(&listed[0], "other", &labels("cart"));
        assert_eq!(found.expect("known").to_string(), "PeerAuthentication bank/mutual");
        let denies = all.policies().iter().find(|policy| policy.name.name() == "rule").expect("sent");
        assert_eq!(denies.scope, Scope::Global);
        objects.peer.iter_mut().for_each(|one| one.extent = Extent::Written);
        objects.authorization.iter_mut().for_each(|one| one.extent = Extent::Written);
    }
}
