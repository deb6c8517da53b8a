//! Deciding allocates nothing, whatever the answer.

#[path = "support/call.rs"]
mod call;

mod support;

use mesh_policy::{
    Match, Scope, Semantics, StringMatch,
    object::{
        self, Action, AuthorizationPolicy, Condition, Metadata, Operation, Provider, Source, TargetRef,
    },
    waypoint::{
        Answer, ClaimValue, ExtensionProvider, Mesh, PathNormalization, ProviderProtocol, RequestPolicySet,
        ServiceKind, Step,
    },
};
use support::*;

// policy#50
#[test]
fn decisions_allocate_nothing() {
    let every_field = Match {
        namespaces: vec![prefix("s")],
        not_principals: vec![exact("x"), suffix("x")],
        service_accounts: vec![account("shop", "cart")],
        not_source_ips: vec!["198.51.100.0/24".parse().unwrap()],
        destination_ports: vec![8080],
        ..Match::default()
    };
    let set = set([
        allow("bank/a", vec![vec![vec![ports(&[1])]], vec![vec![every_field]]]),
        deny("bank/b", vec![vec![vec![not_principals(vec![StringMatch::Presence])]]]),
        scoped(Scope::Global, deny("root/c", vec![vec![vec![ports(&[9090])]]])),
        scoped(Scope::WorkloadSelector, deny("bank/d", nothing())),
        // Found by each form of value.
        deny(
            "bank/found",
            vec![
                vec![vec![principals(vec![prefix("example.net"), suffix("/till"), exact("x")])]],
                vec![vec![namespaces(vec![prefix("b"), suffix("k"), exact("x")])]],
                vec![vec![source_ips(&["198.51.100.0/24", "2001:db8::/32"])]],
                vec![vec![not_ports(&[8080]), ports(&[1])]],
                vec![vec![not_ports(&[8080, 9090, 1])]],
            ],
        ),
        dry_run(deny("bank/e", everything())),
        dry_run(allow("bank/f", nothing())),
    ]);
    let calls = [
        Call::default().listing(&["bank/d"]),
        Call::plaintext(),
        Call::default().on_port(1),
        Call::default().on_port(9090),
        Call::default().in_namespace("shop").listing(&["bank/absent"]),
        Call::default().in_namespace("shop"),
        Call::default().from("::ffff:192.0.2.1"),
    ];
    for call in &calls {
        let mut denials = 0;
        let allocated = allocation_counter::measure(|| {
            denials = call.decide(&set).dry_run_denials().count();
        });
        assert_eq!(allocated.count_total, 0, "{call:?} {denials}");
    }
}

#[test]
fn normal_paths_are_not_copied() {
    for path in ["/", "/items/7?full=1", "/a.b/c;v=1/*?x=%61//..", "*"] {
        for mode in [PathNormalization::Base, PathNormalization::DecodeAndMergeSlashes] {
            let mut is_same = false;
            let allocated = allocation_counter::measure(|| {
                is_same = mode.normalize(path, Semantics::Strict).is_ok_and(|normal| normal == path);
            });
            assert!(is_same, "{path}");
            assert_eq!(allocated.count_total, 0, "{path}");
        }
    }
}

// policy#50 at waypoints
#[test]
fn decisions_about_requests_allocate_nothing() {
    let text = |value: &str| vec![value.to_owned()];
    let target = || TargetRef { kind: "Service".to_owned(), name: "cart".to_owned(), ..TargetRef::default() };
    let of = |name: &str, action, from, to, when| AuthorizationPolicy {
        metadata: Metadata::named("shop", name),
        target_refs: vec![target()],
        action,
        provider: (action == Action::Custom).then(|| Provider { name: "grpc".to_owned() }),
        rules: vec![object::Rule { from, to, when }],
        ..AuthorizationPolicy::default()
    };
    let when = |key: &str, value: &str| {
        vec![Condition { key: key.to_owned(), values: text(value), ..Condition::default() }]
    };
    let source = Source {
        principals: text("example.org/*"),
        not_namespaces: text("b*k"),
        trust_domains: text("*"),
        not_request_principals: text("*/alice"),
        ip_blocks: text("192.0.2.0/24"),
        ..Source::default()
    };
    let accounts = Source { not_service_accounts: text("shop/other"), ..Source::default() };
    let operation = |path: &str| Operation {
        hosts: text("*.EXAMPLE.com"),
        methods: text("GET"),
        paths: text(path),
        ports: text("8080"),
        ..Operation::default()
    };
    let policies = [
        of("a", Action::Allow, vec![source, accounts], vec![operation("/items/{*}")], vec![]),
        of("b", Action::Deny, vec![], vec![operation("/items/{**}/x")], vec![]),
        of("c", Action::Deny, vec![], vec![], when("request.headers[x-tenant]", "bad*")),
        of("d", Action::Deny, vec![], vec![], when("request.headers[user-agent]", "a,b")),
        of("e", Action::Deny, vec![], vec![], when("request.auth.claims[groups]", "blocked")),
        of("f", Action::Deny, vec![], vec![], when("source.namespace", "x*y")),
        of("g", Action::Deny, vec![], vec![], when("source.serviceAccount", "shop/x")),
        of("h", Action::Deny, vec![], vec![], when("connection.sni", "*.example.org")),
        of("i", Action::Audit, vec![], vec![operation("/items/*")], vec![]),
        of("j", Action::Custom, vec![], vec![operation("/items/9")], vec![]),
    ];
    let mut mesh = Mesh::new("example.org");
    let grpc = ExtensionProvider { protocol: ProviderProtocol::Grpc, fail_open: false };
    mesh.providers.insert("grpc".to_owned(), grpc);
    let groups = ClaimValue::List(vec!["dev".into(), "blocked".into()]);
    for (peer, path, header, claims) in [
        (Some("spiffe://example.org/ns/shop/sa/web"), "/items/7?x", "good", None),
        (Some("spiffe://example.org/ns/a/ns/b/sa/c/sa/d"), "/items/9", "bad", None),
        (None, "/items/7/x", "good", Some(groups)),
    ] {
        let call = call::Call {
            place: call::Place::Waypoint {
                namespace: "shop".to_owned(),
                name: "waypoint".to_owned(),
                service: Some((ServiceKind::Service, "shop".to_owned(), "cart".to_owned())),
            },
            source: "192.0.2.1".parse().unwrap(),
            remote: "::ffff:192.0.2.1".parse().unwrap(),
            peer: peer.map(str::to_owned),
            destination: "192.0.2.2:8080".parse().unwrap(),
            sni: Some("Cart.example.net".to_owned()),
            metadata: Vec::new(),
            method: "GET".to_owned(),
            authority: Some("cart.example.com".to_owned()),
            path: path.to_owned(),
            headers: vec![
                ("X-Tenant".to_owned(), header.as_bytes().to_vec()),
                ("user-agent".to_owned(), b"a".to_vec()),
                ("User-Agent".to_owned(), b"c".to_vec()),
            ],
            claims: claims.map(|groups| [("groups".to_owned(), groups)].into_iter().collect()),
        };
        for empty in [RequestPolicySet::istio(mesh.clone()), RequestPolicySet::strict(mesh.clone())] {
            let set = empty.replaced(&policies).unwrap();
            call.with_facts(|facts| {
                let mut findings = 0;
                let allocated = allocation_counter::measure(|| {
                    let decision = match set.evaluate_request(facts) {
                        Step::Ask(question) => question.answer(Answer::Allow).without_providers(),
                        step @ Step::Decided(_) => step.without_providers(),
                    };
                    findings = decision.dry_run_denials().count() + decision.audits().count();
                });
                assert_eq!(allocated.count_total, 0, "{path} {findings}");
            });
        }
    }
}
