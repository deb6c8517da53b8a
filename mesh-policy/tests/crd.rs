//! Objects as users write them.

use mesh_policy::{
    Code, ConnectionFacts, Level, PolicySet, Semantics, Verdict,
    crd::{NodePolicies, NodeSettings, read, read_file},
    object::{Action, Extent, MutualTlsMode, PolicyObjects},
    waypoint::{Mesh, Service, ServiceKind, StreamFacts, StreamPolicySet, Target},
};

const BOTH: [Semantics; 2] = [Semantics::Istio, Semantics::Strict];

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: shop, name: rule}}\nspec: {spec}\n"
    )
}

/// The codes and paths of what is wrong.
fn findings(text: &str) -> Vec<(Code, String)> {
    read(text).findings().map(|finding| (finding.code, finding.path.clone())).collect()
}

fn one(text: &str) -> (Code, String) {
    let found = findings(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.into_iter().next().expect("one finding")
}

#[test]
fn reads_every_field_as_written() {
    let text = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  namespace: shop
  name: all
  uid: 6c0c4ba6
  creationTimestamp: "2026-01-31T12:00:00Z"
  annotations: {istio.io/dry-run: "true"}
spec:
  selector: {matchLabels: {app: cart}}
  action: CUSTOM
  provider: {name: asks}
  rules:
  - from:
    - source: {ipBlocks: [192.0.2.0/24], notIpBlocks: [192.0.2.1]}
    - source: {remoteIpBlocks: [198.51.100.0/24], notRemoteIpBlocks: [198.51.100.1]}
    to:
    - operation: {hosts: [a], notHosts: [b], ports: ["80"], notPorts: ["81"], methods: [GET], notMethods: [PUT], paths: [/a], notPaths: [/b]}
    when:
    - {key: "request.headers[x-a]", values: [a], notValues: [b]}
status: {conditions: []}
"#;
    let objects = read(text).into_objects(Semantics::Strict).unwrap();
    let object = &objects.authorization[0];
    assert!(object.is_dry_run());
    assert_eq!(object.action, Action::Custom);
    assert_eq!(object.provider.as_ref().unwrap().name, "asks");
    assert_eq!(object.metadata.creation_timestamp.as_deref(), Some("2026-01-31T12:00:00Z"));
    let rule = &object.rules[0];
    assert_eq!(rule.from[1].not_remote_ip_blocks, ["198.51.100.1"]);
    assert_eq!(rule.to[0].not_paths, ["/b"]);
    assert_eq!(rule.when[0].not_values, ["b"]);
}

#[test]
fn reads_lists_json_and_many_documents() {
    let yaml = policy("{}")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n---\n"
        + "apiVersion: v1\nkind: List\nitems:\n- apiVersion: security.istio.io/v1beta1\n  kind: PeerAuthentication\n  \
           metadata: {namespace: shop, name: tls}\n  spec: {mtls: {mode: STRICT}, selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: DISABLE}}}\n";
    let reading = read(&yaml);
    assert_eq!(reading.others()[0].to_string(), "Service shop/cart");
    let objects = reading.into_objects(Semantics::Strict).unwrap();
    assert_eq!(objects.authorization.len(), 1);
    assert_eq!(objects.peer[0].mtls, MutualTlsMode::Strict);
    assert_eq!(objects.peer[0].port_level_mtls, [(8080, MutualTlsMode::Disable)].into());
    let json = "{\"kind\":\"AuthorizationPolicyList\",\"apiVersion\":\"security.istio.io/v1\",\"items\":[\n\
                \t{\"metadata\":{\"name\":\"a\"},\"spec\":{\"rules\":[{}]}}]}";
    let objects = read(json).into_objects(Semantics::Strict).unwrap();
    assert_eq!(objects.authorization[0].metadata.to_string(), "default/a");
    let request = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: jwt}\nspec:\n  jwtRules:\n  \
                   - {issuer: 'https://issuer.example.org', jwksUri: 'https://issuer.example.org/keys', audiences: [a], \
                   fromHeaders: [{name: x-jwt, prefix: 'Bearer '}], forwardOriginalToken: true, timeout: 5s, \
                   outputClaimToHeaders: [{header: x-sub, claim: sub}]}\n";
    let objects = read(request).into_objects(Semantics::Strict).unwrap();
    let rule = &objects.request[0].jwt_rules[0];
    assert_eq!((rule.from_headers[0].prefix.as_str(), rule.forward_original_token), ("Bearer ", true));
}

#[test]
fn an_unknown_field_is_never_ignored_silently() {
    let text = policy("{rules: [{form: [{source: {namespaces: [shop]}}]}]}");
    let reading = read(&text);
    let finding = reading.findings().next().unwrap().clone();
    assert_eq!((finding.code, finding.path.as_str()), (Code::UnknownField, "spec.rules[0].form"));
    assert_eq!(finding.instead, "write `from`");
    assert_eq!(finding.object.to_string(), "AuthorizationPolicy shop/rule");
    assert!(reading.clone().into_objects(Semantics::Strict).is_err());
    // The API server drops it, and the rule matches everything.
    assert_eq!(reading.into_objects(Semantics::Istio).unwrap().authorization[0].rules[0].from, []);
    for spec in [
        "{rule: [{}]}",
        "{rules: [{from: [{source: {namespace: [a]}}]}]}",
        "{rules: [{to: [{operations: {ports: ['1']}}]}]}",
    ] {
        assert!(findings(&policy(spec)).iter().any(|(code, _)| *code == Code::UnknownField), "{spec}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_both() {
    for (text, code, path) in [
        (policy("{action: DNEY, rules: [{}]}"), Code::UnknownValue, "spec.action"),
        (policy("{action: deny, rules: [{}]}"), Code::UnknownValue, "spec.action"),
        (
            policy("{rules: [{to: [{operation: {ports: [80]}}]}]}"),
            Code::WrongType,
            "spec.rules[0].to[0].operation.ports[0]",
        ),
        (
            policy("{rules: [{from: [{source: {namespaces: shop}}]}]}"),
            Code::WrongType,
            "spec.rules[0].from[0].source.namespaces",
        ),
        (policy("{rules: [null]}"), Code::WrongType, "spec.rules[0]"),
        (policy("[]"), Code::WrongType, "spec"),
        (
            policy("{}").replace("security.istio.io/v1", "security.istio.io/v1alpha1"),
            Code::ApiVersion,
            "apiVersion",
        ),
        (policy("{}").replace("apiVersion: security.istio.io/v1\n", ""), Code::ApiVersion, "apiVersion"),
        (policy("{}").replace(", name: rule", ""), Code::Nameless, "metadata"),
        (policy("{rules: [{}]").replace("}\n", "\n"), Code::Syntax, ""),
        ("just text".into(), Code::NotAnObject, ""),
        ("- a\n- b\n".into(), Code::NotAnObject, ""),
    ] {
        assert_eq!(one(&text), (code, path.to_owned()), "{text}");
        for semantics in BOTH {
            assert_eq!(read(&text).into_objects(semantics).unwrap_err().findings()[0].code, code);
        }
    }
}

#[test]
fn names_document_and_line() {
    let text =
        policy("{}") + "---\n# a comment\n\n" + &policy("{action: NO}").replace("name: rule", "name: other");
    let reading = read(&text);
    let finding = reading.findings().next().unwrap();
    let place = finding.place.as_ref().unwrap();
    assert_eq!((place.document, place.line), (2, 5));
    assert_eq!(
        finding.to_string(),
        "document 2, line 5: AuthorizationPolicy shop/other: spec.action \"NO\": the value is not one of those known; \
         write ALLOW, DENY, AUDIT or CUSTOM"
    );
}

#[test]
fn a_file_is_named_with_the_line() {
    let text = policy("{action: NO}") + "---\n" + &policy("{}").replace("name: rule", "name: other");
    let reading = read_file("mesh.yaml", &text);
    let places: Vec<_> = reading.places().map(|(object, place)| (object.name, place.to_string())).collect();
    assert_eq!(places, [("rule".into(), "mesh.yaml:1".into()), ("other".into(), "mesh.yaml:5".into())]);
    assert!(reading.findings().all(|finding| finding.to_string().starts_with("mesh.yaml:1: Auth")));
    let refused: Vec<_> = reading.refused(Semantics::Istio).collect();
    assert_eq!((refused.len(), &*refused[0].0.name, refused[0].1[0].code), (1, "rule", Code::UnknownValue));
    // Of what is not even an object.
    let broken = read_file("b.yaml", "a: 1\n---\nb: [");
    let shown: Vec<_> =
        broken.findings().map(|finding| finding.place.as_ref().unwrap().to_string()).collect();
    // The error is where the text ends.
    assert_eq!(shown, ["b.yaml:1", "b.yaml:4"]);
}

#[test]
fn two_objects_of_one_name_are_refused() {
    let text = policy("{}") + "---\n" + &policy("{action: DENY, rules: [{}]}");
    for semantics in BOTH {
        assert_eq!(read(&text).into_objects(semantics).unwrap_err().findings()[0].code, Code::Duplicate);
        assert_eq!(read(&text).fail_closed(semantics).unwrap_err().findings()[0].code, Code::Duplicate);
        // Each of the two is told.
        let mut both = read_file("one.yaml", &policy("{}"));
        both.extend(read_file("two.yaml", &policy("{}")));
        let error = both.into_objects(semantics).unwrap_err();
        let finding = &error.findings()[0];
        assert_eq!(finding.place.as_ref().unwrap().file.as_deref(), Some("two.yaml"));
        assert!(finding.problem.ends_with(": one.yaml:1"), "{}", finding.problem);
    }
}

// policy B9, policy#37, policy#38, policy#74, policy#102
#[test]
fn strict_refuses_what_admission_does() {
    let source = |source: &str| format!("{{rules: [{{from: [{{source: {source}}}]}}]}}");
    let operation = |operation: &str| format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}");
    let when = |condition: &str| format!("{{rules: [{{when: [{condition}]}}]}}");
    let custom = |rule: &str| format!("{{action: CUSTOM, provider: {{name: asks}}, rules: [{rule}]}}");
    for (spec, code, path) in [
        ("{action: DENY}".to_owned(), Code::DenyWithoutRules, "spec"),
        ("{action: CUSTOM, provider: {name: asks}}".into(), Code::CustomWithoutRules, "spec"),
        ("{action: CUSTOM, rules: [{}]}".into(), Code::CustomWithoutProvider, "spec"),
        (
            "{action: CUSTOM, provider: {name: Asks.Me}, rules: [{}]}".into(),
            Code::ProviderName,
            "spec.provider.name",
        ),
        ("{provider: {name: asks}}".into(), Code::ProviderWithoutCustom, "spec.provider.name"),
        ("{rules: [{from: []}]}".into(), Code::EmptyList, "spec.rules[0].from"),
        ("{rules: [{to: []}]}".into(), Code::EmptyList, "spec.rules[0].to"),
        ("{rules: [{from: [{}]}]}".into(), Code::EmptySource, "spec.rules[0].from[0].source"),
        ("{rules: [{to: [{operation: {}}]}]}".into(), Code::EmptyOperation, "spec.rules[0].to[0].operation"),
        (
            source("{serviceAccounts: [a], namespaces: [b]}"),
            Code::ServiceAccountsMixed,
            "spec.rules[0].from[0].source",
        ),
        (
            source("{serviceAccounts: ['a*']}"),
            Code::ServiceAccountForm,
            "spec.rules[0].from[0].source.serviceAccounts[0]",
        ),
        (source("{ipBlocks: [10.0.0.0/33]}"), Code::BadAddress, "spec.rules[0].from[0].source.ipBlocks[0]"),
        (
            source("{trustDomains: [a/b]}"),
            Code::TrustDomainForm,
            "spec.rules[0].from[0].source.trustDomains[0]",
        ),
        (source("{principals: ['']}"), Code::EmptyValue, "spec.rules[0].from[0].source.principals[0]"),
        (operation("{ports: ['80', '65616']}"), Code::BadPort, "spec.rules[0].to[0].operation.ports[1]"),
        (operation("{paths: ['/a/{*}.txt']}"), Code::BadTemplate, "spec.rules[0].to[0].operation.paths[0]"),
        (when("{key: source.serviceaccount, values: [a]}"), Code::UnknownKey, "spec.rules[0].when[0].key"),
        (when("{key: destination.namespace, values: [a]}"), Code::UnknownKey, "spec.rules[0].when[0].key"),
        (when("{key: source.ip}"), Code::WithoutValues, "spec.rules[0].when[0]"),
        (when("{key: source.ip, values: [x]}"), Code::BadAddress, "spec.rules[0].when[0].values[0]"),
        (
            custom("{from: [{source: {principals: [a]}}]}"),
            Code::CustomAttribute,
            "spec.rules[0].from[0].source.principals",
        ),
        (
            custom("{when: [{key: 'request.auth.claims[a]', values: [b]}]}"),
            Code::CustomAttribute,
            "spec.rules[0].when[0].key",
        ),
        ("{selector: {}, targetRefs: [{kind: Service, name: a}]}".into(), Code::SeveralTargets, "spec"),
        ("{targetRefs: [{kind: Pod, name: a}]}".into(), Code::TargetForm, "spec.targetRefs[0]"),
        (
            "{targetRefs: [{kind: Service, name: a, namespace: b}]}".into(),
            Code::TargetNamespace,
            "spec.targetRefs[0].namespace",
        ),
        (
            "{selector: {matchLabels: {app: 'a*'}}}".into(),
            Code::SelectorForm,
            "spec.selector.matchLabels.app",
        ),
    ] {
        let text = policy(&spec);
        assert_eq!(one(&text), (code, path.to_owned()), "{spec}");
        assert_eq!(code.level(), Level::Refused);
        assert!(read(&text).into_objects(Semantics::Strict).is_err(), "{spec}");
        assert!(read(&text).into_objects(Semantics::Istio).is_ok(), "{spec}");
    }
    let dry = policy("{}").replace("name: rule", "name: rule, annotations: {istio.io/dry-run: 'yes'}");
    assert_eq!(one(&dry).0, Code::DryRunForm);
    let peer = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {portLevelMtls: {80: {mode: STRICT}}}\n";
    assert_eq!(one(peer).0, Code::PortLevelWithoutSelector);
}

// An action that is lost may have been a DENY, and a target that is lost anything.
#[test]
fn what_may_have_been_a_deny_fails_closed_as_one() {
    let other = policy("{rules: [{}]}").replace("name: rule", "name: everybody");
    for text in [
        policy("{Action: DENY, rules: [{}]}"),
        policy("{acton: DENY, rules: [{}]}"),
        policy("[{action: DENY}]"),
        policy("DENY"),
        policy("{action: 1, rules: [{}]}"),
        policy("{action: DENY, rules: [{}]}").replace("spec:", "spce:"),
        policy("{action: DENY, targetRefs: {kind: Service, name: cart}, rules: [{}]}"),
        policy("{action: DENY, targetRefs: [{kind: Servce, name: cart}], rules: [{}]}"),
        policy("{action: DENY, targetRfs: [{kind: Service, name: cart}], rules: [{}]}"),
        policy(
            "{action: DENY, selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: cart}], rules: [{}]}",
        ),
    ] {
        let both = text.clone() + "---\n" + &other;
        assert!(read(&both).into_objects(Semantics::Strict).is_err(), "{text}");
        let objects = read(&both).fail_closed(Semantics::Strict).expect(&text);
        let at_node = NodePolicies::new(&objects, NodeSettings::default()).expect(&text);
        let set = PolicySet::builder().policies(at_node.into_policies()).build().expect(&text);
        let facts = ConnectionFacts {
            source: "192.0.2.1".parse().unwrap(),
            peer: None,
            destination: "192.0.2.2:80".parse().unwrap(),
            namespace: "shop",
            policies: &[],
        };
        assert_eq!(set.evaluate_connection(&facts).verdict(), Verdict::Deny, "{text}");
        // A selector is not for waypoints, so what is lost there is lost for them only if it may have been a target.
        if text.contains("action: 1") {
            continue;
        }
        let set =
            StreamPolicySet::strict(Mesh::new("example.org")).replaced(&objects.authorization).expect(&text);
        let service = Service { kind: ServiceKind::Service, namespace: "shop", name: "cart" };
        for (namespace, service, expected) in [
            ("shop", Some(service), Verdict::Deny),
            ("infra", Some(service), Verdict::Deny),
            ("shop", None, Verdict::Deny),
            ("infra", None, Verdict::Allow),
        ] {
            let facts = StreamFacts {
                target: Target::Waypoint { namespace, name: "waypoint", service },
                source: "192.0.2.1".parse().unwrap(),
                remote: "192.0.2.1".parse().unwrap(),
                peer: None,
                destination: "192.0.2.2:80".parse().unwrap(),
                sni: None,
                metadata: &[],
            };
            let decision = set.evaluate_stream(&facts).without_providers();
            assert_eq!(decision.verdict(), expected, "{text} at {namespace} {service:?}");
            // So does one that is compiled from what was written.
            let root = text.replace("namespace: shop", "namespace: istio-system");
            let objects = read(&(root + "---\n" + &other)).fail_closed(Semantics::Strict).expect(&text);
            let set = set.replaced(&objects.authorization).expect(&text);
            let decision = set.evaluate_stream(&facts).without_providers();
            assert_eq!(decision.verdict(), Verdict::Deny, "in the root namespace, everywhere: {text}");
        }
    }
}

#[test]
fn a_mis_spelled_kind_or_group_is_not_passed_over() {
    let deny = policy("{action: DENY, rules: [{}]}");
    for (text, code) in [
        (deny.replace("kind: AuthorizationPolicy", "kind: AuthorizationPolcy"), Code::UnknownKind),
        (deny.replace("security.istio.io/v1", "security.istio/v1"), Code::ApiVersion),
        (deny.replace("security.istio.io/v1", "security.istio.io.v1"), Code::ApiVersion),
        (deny.replace("security.istio.io/v1", "v1"), Code::ApiVersion),
    ] {
        assert_eq!(one(&text).0, code, "{text}");
        assert!(read(&text).into_objects(Semantics::Strict).is_err(), "{text}");
    }
    let linkerds = deny.replace("security.istio.io/v1", "policy.linkerd.io/v1alpha1");
    assert_eq!(read(&linkerds).others().len(), 1);
    assert!(findings(&linkerds).is_empty());
}

#[test]
fn a_document_behind_the_end_of_another_counts() {
    let text =
        policy("{}") + "...\n" + &policy("{action: DENY, rules: [{}]}").replace("name: rule", "name: deny");
    assert_eq!(read(&text).into_objects(Semantics::Strict).unwrap().authorization.len(), 2);
}

fn fail_closed(spec: &str) -> PolicyObjects {
    let text = policy(spec);
    assert!(read(&text).into_objects(Semantics::Strict).is_err(), "{spec}");
    read(&text).fail_closed(Semantics::Strict).expect("objects that fail closed")
}

#[test]
fn a_broken_object_fails_closed_on_request() {
    let allow =
        fail_closed("{selector: {matchLabels: {a: b}}, rules: [{to: [{operation: {ports: [http]}}]}]}");
    let allow = &allow.authorization[0];
    assert_eq!((allow.action, allow.rules.len()), (Action::Allow, 0));
    assert!(allow.selector.is_some());
    for spec in [
        "{action: DENY, rules: [{to: [{operation: {ports: [http]}}]}]}",
        "{action: CUSTOM, provider: {name: asks}, rules: [{when: [{key: no, values: [a]}]}]}",
        "{action: DNEY, rules: [{to: [{operation: {ports: ['80']}}]}]}",
    ] {
        let deny = fail_closed(spec);
        let deny = &deny.authorization[0];
        assert_eq!((deny.action, deny.rules.len()), (Action::Deny, 1), "{spec}");
        assert_eq!(deny.rules[0], Default::default());
    }
    assert!(fail_closed("{action: AUDIT, rules: [{form: []}]}").authorization.is_empty());
    // Whom a broken selector meant cannot be told.
    let all = fail_closed("{action: DENY, selector: {matchLabels: [a]}, rules: [{}]}");
    assert!(all.authorization[0].selector.is_none() && all.authorization[0].extent == Extent::Written);
    // Nor what an unreadable document held.
    for text in
        ["a: [", "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nspec: {action: DENY}\n"]
    {
        assert!(read(text).fail_closed(Semantics::Istio).is_err(), "{text}");
    }
}
