//! What lint says about objects, each code at least once.

use std::collections::{BTreeMap, BTreeSet};

use mesh_policy::{
    Code, Level, Semantics,
    crd::read,
    lint::{KnownService, KnownWorkload, Surroundings, lint},
    waypoint::{ExtensionProvider, Mesh, PathNormalization, ProviderProtocol},
};

fn surroundings(semantics: Semantics) -> Surroundings {
    let mut mesh = Mesh::new("example.org");
    let http = ExtensionProvider { protocol: ProviderProtocol::Http, fail_open: false };
    mesh.providers.insert("asks".into(), http);
    let workload = |labels: &[(&str, &str)], behind_waypoint| KnownWorkload {
        namespace: "shop".into(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ports: vec![8080],
        behind_waypoint,
    };
    let service = |name: &str, has_waypoint, has_tcp| KnownService {
        namespace: "shop".into(),
        name: name.into(),
        is_entry: false,
        has_waypoint,
        has_tcp,
    };
    Surroundings {
        semantics,
        workloads: Some(vec![
            workload(&[("app", "cart")], false),
            workload(&[("app", "web")], true),
            workload(&[], false),
        ]),
        services: Some(vec![
            service("cart", true, false),
            service("bare", false, false),
            service("db", true, true),
        ]),
        gateways: Some(vec![("shop".into(), "waypoint".into())]),
        ..Surroundings::new(mesh)
    }
}

fn document(kind: &str, metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: shop, name: rule{metadata}}}\nspec: {spec}\n"
    )
}

fn policy(spec: &str) -> String {
    document("AuthorizationPolicy", "", spec)
}

fn found(text: &str, surroundings: &Surroundings) -> Vec<(Code, String)> {
    let objects = read(text).into_objects(Semantics::Istio).expect("objects");
    lint(&objects, surroundings).into_iter().map(|finding| (finding.code, finding.path)).collect()
}

/// A policy that is enforced at the waypoint of a service whose ports are all HTTP.
fn at_waypoint(action: &str, rule: &str) -> String {
    policy(&format!(
        "{{action: {action}, targetRefs: [{{group: '', kind: Service, name: cart}}], rules: [{rule}]}}"
    ))
}

fn allow(rule: &str) -> String {
    at_waypoint("ALLOW", rule)
}

fn source(source: &str) -> String {
    allow(&format!("{{from: [{{source: {source}}}]}}"))
}

fn operation(operation: &str) -> String {
    allow(&format!("{{to: [{{operation: {operation}}}]}}"))
}

fn when(condition: &str) -> String {
    allow(&format!("{{when: [{condition}]}}"))
}

fn at_node(rule: &str) -> String {
    policy(&format!("{{rules: [{rule}]}}"))
}

fn cases() -> Vec<(String, Code, &'static str)> {
    use Code::*;
    let in_source = |field: &str, text: &str| source(&format!("{{{field}: ['{text}']}}"));
    let deny = |rule: &str| at_waypoint("DENY", rule);
    let deny_at_node = |rule: &str| policy(&format!("{{action: DENY, rules: [{rule}]}}"));
    let peer = |spec: &str| document("PeerAuthentication", "", spec);
    vec![
        (
            in_source("principals", "spiffe://example.org/ns/a/sa/b"),
            PrincipalScheme,
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (
            in_source("principals", "example.org/a/b"),
            PrincipalForm,
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (
            in_source("notPrincipals", "example.com/ns/a/sa/b"),
            PrincipalForeign,
            "spec.rules[0].from[0].source.notPrincipals[0]",
        ),
        (
            in_source("principals", "cluster.local/ns/a/sa/b"),
            ClusterLocal,
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (in_source("namespaces", "a/b"), NamespaceForm, "spec.rules[0].from[0].source.namespaces[0]"),
        (in_source("namespaces", "a*b"), NamespaceWildcard, "spec.rules[0].from[0].source.namespaces[0]"),
        (in_source("principals", "*a*"), InnerWildcard, "spec.rules[0].from[0].source.principals[0]"),
        (
            when("{key: 'request.headers[x]', values: ['a*b']}"),
            LiteralWildcard,
            "spec.rules[0].when[0].values[0]",
        ),
        (when("{key: 'request.auth.claims[a]b]', values: [x]}"), ClaimBrackets, "spec.rules[0].when[0].key"),
        (operation("{ports: ['65616']}"), BadPort, "spec.rules[0].to[0].operation.ports[0]"),
        (operation("{hosts: ['https://example.org/']}"), HostForm, "spec.rules[0].to[0].operation.hosts[0]"),
        (operation("{hosts: [exämple.org]}"), HostForm, "spec.rules[0].to[0].operation.hosts[0]"),
        (
            deny("{to: [{operation: {hosts: [example.org]}}]}"),
            HostPort,
            "spec.rules[0].to[0].operation.hosts[0]",
        ),
        (operation("{methods: [get]}"), MethodCase, "spec.rules[0].to[0].operation.methods[0]"),
        (operation("{paths: ['/a?b=c']}"), PathForm, "spec.rules[0].to[0].operation.paths[0]"),
        (operation("{paths: ['/a/../b*']}"), PathNotNormal, "spec.rules[0].to[0].operation.paths[0]"),
        (
            deny("{to: [{operation: {paths: [/admin]}}]}"),
            PathSlashes,
            "spec.rules[0].to[0].operation.paths[0]",
        ),
        (
            deny("{to: [{operation: {paths: ['/admin/{**}']}}]}"),
            PathRest,
            "spec.rules[0].to[0].operation.paths[0]",
        ),
        (operation("{paths: ['/foo/{**}/']}"), PathRestSlash, "spec.rules[0].to[0].operation.paths[0]"),
        (
            when("{key: connection.sni, values: [Example.org]}"),
            ServerNameCase,
            "spec.rules[0].when[0].values[0]",
        ),
        (in_source("ipBlocks", "::ffff:10.9.9.9"), MappedAddress, "spec.rules[0].from[0].source.ipBlocks[0]"),
        (in_source("ipBlocks", "10.9.9.9/8"), HostBits, "spec.rules[0].from[0].source.ipBlocks[0]"),
        (
            in_source("requestPrincipals", "https://issuer*"),
            RequestPrincipalForm,
            "spec.rules[0].from[0].source.requestPrincipals[0]",
        ),
        (
            in_source("requestPrincipals", "*/*"),
            RequestPrincipalForm,
            "spec.rules[0].from[0].source.requestPrincipals[0]",
        ),
        (
            in_source("requestPrincipals", "plain"),
            RequestPrincipalForm,
            "spec.rules[0].from[0].source.requestPrincipals[0]",
        ),
        (
            when("{key: 'request.auth.claims[admin]', values: ['true']}"),
            ClaimNotText,
            "spec.rules[0].when[0].values[0]",
        ),
        (
            when("{key: 'request.headers[x-a]', values: ['a,b']}"),
            HeaderComma,
            "spec.rules[0].when[0].values[0]",
        ),
        (operation("{ports: ['0']}"), PortZero, "spec.rules[0].to[0].operation.ports[0]"),
        (
            at_node("{to: [{operation: {ports: ['80']}}]}"),
            ServicePort,
            "spec.rules[0].to[0].operation.ports[0]",
        ),
        (at_node("{to: [{operation: {methods: [GET]}}]}"), AllowNeedsRequest, "spec.rules[0]"),
        (deny_at_node("{to: [{operation: {methods: [GET]}}]}"), DenyNeedsRequest, "spec.rules[0]"),
        (
            deny_at_node(
                "{when: [{key: source.namespace, values: [a]}, {key: connection.sni, values: [a]}]}",
            ),
            DenyNeedsRequest,
            "spec.rules[0]",
        ),
        (
            deny_at_node(
                "{from: [{source: {requestPrincipals: ['*']}}], to: [{operation: {ports: ['8080']}}]}",
            ),
            DenyNeedsRequest,
            "spec.rules[0]",
        ),
        (
            deny_at_node("{to: [{operation: {methods: [GET], ports: ['8080']}}]}"),
            DenyWiderAtNode,
            "spec.rules[0]",
        ),
        (
            at_node("{from: [{source: {trustDomains: [example.org]}}]}"),
            TrustDomainAtNode,
            "spec.rules[0].from[0].source.trustDomains",
        ),
        (policy("{action: AUDIT, rules: [{}]}"), NotAtNode, "spec.action"),
        (
            document("AuthorizationPolicy", ", annotations: {istio.io/dry-run: 'true'}", "{}"),
            DryRun,
            "metadata.annotations[istio.io/dry-run]",
        ),
        (
            policy(
                "{action: DENY, targetRefs: [{kind: Service, name: db}], rules: [{to: [{operation: {methods: [GET]}}]}]}",
            ),
            DenyWiderOnTcp,
            "spec.rules[0]",
        ),
        (
            policy(
                "{targetRefs: [{kind: Service, name: db}], rules: [{to: [{operation: {methods: [GET]}}]}]}",
            ),
            AllowNeedsRequestOnTcp,
            "spec.rules[0]",
        ),
        (
            policy(
                "{action: CUSTOM, provider: {name: nobody}, targetRefs: [{kind: Service, name: cart}], rules: [{}]}",
            ),
            ProviderUnknown,
            "spec.provider.name",
        ),
        (
            policy(
                "{action: CUSTOM, provider: {name: asks}, targetRefs: [{kind: Service, name: db}], rules: [{}]}",
            ),
            ProviderOnTcp,
            "spec.provider.name",
        ),
        (policy("{selector: {}, rules: [{}]}"), SelectorEmpty, "spec.selector"),
        (policy("{selector: {matchLabels: {app: nobody}}, rules: [{}]}"), SelectsNobody, "spec.selector"),
        (
            policy(
                "{selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: waypoint}}, rules: [{}]}",
            ),
            SelectsWaypoint,
            "spec.selector",
        ),
        (policy("{selector: {matchLabels: {app: cart}}, rules: [{}]}"), Unlabelled, "spec.selector"),
        (
            policy("{targetRefs: [{kind: Service, name: gone}], rules: [{}]}"),
            TargetMissing,
            "spec.targetRefs[0].name",
        ),
        (
            policy(
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}], rules: [{}]}",
            ),
            TargetClass,
            "spec.targetRefs[0]",
        ),
        (
            policy("{targetRefs: [{kind: Service, name: bare}], rules: [{}]}"),
            NeedsWaypoint,
            "spec.targetRefs[0]",
        ),
        (
            policy("{selector: {matchLabels: {app: web}}, rules: [{from: [{source: {namespaces: [a]}}]}]}"),
            WaypointHidesClient,
            "spec.rules[0]",
        ),
        (source("{notNamespaces: [a]}"), NegativeOnly, "spec.rules[0].from[0].source"),
        (source("{notRequestPrincipals: [a/b]}"), NegativeOnlyToken, "spec.rules[0].from[0].source"),
        (policy("{}"), AllowsNothing, "spec"),
        (policy("{rules: [{}]}"), MatchesEverything, "spec.rules[0]"),
        (
            source("{namespaces: [ab], notNamespaces: ['a*']}"),
            Contradiction,
            "spec.rules[0].from[0].source.namespaces",
        ),
        (
            allow("{when: [{key: source.namespace, values: [a]}, {key: source.namespace, values: [b]}]}"),
            Contradiction,
            "spec.rules[0].when[1]",
        ),
        (
            allow(
                "{from: [{source: {namespaces: ['a*']}}]}, {from: [{source: {namespaces: [ab], notPrincipals: [c]}}]}",
            ),
            Shadowed,
            "spec.rules[1]",
        ),
        (source("{notIpBlocks: [10.0.0.0/8]}"), DefeatsIndex, "spec.rules[0]"),
        (peer("{mtls: {mode: DISABLE}}"), DisableIsPermissive, "spec.mtls.mode"),
        (
            peer("{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}}")
                .replace("namespace: shop", "namespace: istio-system"),
            RootSelector,
            "spec.selector",
        ),
        (
            peer("{mtls: {mode: STRICT}}")
                + &peer("{mtls: {mode: PERMISSIVE}}").replace("name: rule", "name: young"),
            Younger,
            "spec",
        ),
        (
            peer(
                "{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: STRICT}}}",
            ),
            PortModeRedundant,
            "spec.portLevelMtls.8080",
        ),
        (
            document("RequestAuthentication", "", "{jwtRules: [{issuer: a, jwks: '{}'}]}"),
            TokenOptional,
            "spec",
        ),
        (source("{requestPrincipals: ['*']}"), TokenNeverValidated, "spec.rules"),
        (document("RequestAuthentication", "", "{jwtRules: [{issuer: a}]}"), KeysMissing, "spec.jwtRules[0]"),
        (
            document(
                "RequestAuthentication",
                "",
                "{jwtRules: [{issuer: a, jwksUri: 'http://a.example.org'}]}",
            ),
            KeysPlaintext,
            "spec.jwtRules[0].jwksUri",
        ),
        (
            policy("{action: DENY, rules: [{from: [{source: {namespaces: ['*']}}]}]}")
                + &at_node("{from: [{source: {namespaces: [a]}}]}").replace("name: rule", "name: other"),
            AlwaysDenied,
            "spec.rules[0]",
        ),
    ]
}

// policy#23, policy#51 to policy#54, policy#57, policy#59, policy#60, policy#63, policy#64, policy#95 to policy#98,
// policy#100, policy#106, policy#107, policy#109, and parts A6, B and D of the facts.
#[test]
fn every_surprise_has_its_finding() {
    for (text, code, path) in cases() {
        let found = found(&text, &surroundings(Semantics::Istio));
        assert!(found.contains(&(code, path.to_owned())), "{code} at {path} not in {found:?}\n{text}");
    }
}

#[test]
fn every_code_of_lint_has_a_case() {
    let tested: BTreeSet<_> = cases().into_iter().map(|(_, code, _)| code).collect();
    let missing: Vec<_> =
        Code::ALL.iter().filter(|code| code.level() < Level::Refused && !tested.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

// Istio compares authorities as they are written.
#[test]
fn hosts_can_be_dodged_by_istios_reading_only() {
    let has = |semantics, hosts: &str| {
        let text = at_waypoint("DENY", &format!("{{to: [{{operation: {{hosts: [{hosts}]}}}}]}}"));
        found(&text, &surroundings(semantics)).iter().any(|(code, _)| *code == Code::HostPort)
    };
    for (hosts, istio) in [
        ("example.org", true),
        ("'*.example.org'", true),
        ("example.org, 'example.org:*'", true),
        ("example.org, 'example.org:*', 'example.org.*'", false),
        ("'example.org:80'", false),
    ] {
        assert_eq!((has(Semantics::Istio, hosts), has(Semantics::Strict, hosts)), (istio, false), "{hosts}");
    }
}

#[test]
fn plain_policies_have_no_findings() {
    let normalization = PathNormalization::DecodeAndMergeSlashes;
    let surroundings = Surroundings { normalization, ..surroundings(Semantics::Strict) };
    for text in [
        at_node("{from: [{source: {principals: [example.org/ns/shop/sa/web]}}]}")
            .replace("rules", "selector: {matchLabels: {app: cart}}, rules"),
        allow(
            "{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [GET], paths: [/items, '/items/{*}'], hosts: [cart]}}]}",
        ),
        at_waypoint(
            "DENY",
            "{from: [{source: {notNamespaces: [shop]}}], to: [{operation: {paths: [/admin*]}}]}",
        ),
        document("PeerAuthentication", "", "{mtls: {mode: STRICT}}"),
    ] {
        assert_eq!(found(&text, &surroundings), [], "{text}");
    }
}

#[test]
fn a_deny_that_needs_requests_is_wider_in_strict_reading() {
    let text = policy("{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}");
    let codes = |semantics| {
        found(&text, &surroundings(semantics)).into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    assert!(codes(Semantics::Istio).contains(&Code::DenyNeedsRequest));
    assert!(codes(Semantics::Strict).contains(&Code::DenyWiderAtNode));
}
