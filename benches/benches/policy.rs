//! What decisions cost as policies grow in number, and what it costs to build and change a set of them.

use std::{hint::black_box, net::SocketAddr};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, Clause, ConnectionFacts, Match, Policy, PolicyName, PolicySet, Rule, Scope, Semantics,
    StringMatch, Verdict,
    object::{self, AuthorizationPolicy, Condition, Metadata, Operation, Source, TargetRef},
    waypoint::{
        Headers, Mesh, PathNormalization, RequestFacts, RequestPolicySet, Service, ServiceKind, StreamFacts,
        Target,
    },
};

/// Rules of each policy.
const RULES: usize = 10;
/// The empty set comes first: what a decision costs that has nothing to look at.
const SIZES: [usize; 4] = [0, 100, 1_000, 10_000];
const NAMESPACE: &str = "shop";
const PEER: &str = "example.org/ns/shop/sa/cart";

/// What the rules of a set have in common with the connection.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing but the port and the destination: three namespaces, three principals, a range of sources, one of
    /// destinations, a port.
    Unmatched,
    /// Everything but the last of two clauses: the caller's principal, and then another port.
    SharedPrincipal,
    /// No field can be looked up: not from this network.
    Negative,
}

fn evaluate(criterion: &mut Criterion) {
    let peer: SpiffeId = format!("spiffe://{PEER}").parse().expect("a SPIFFE id");
    let facts = ConnectionFacts {
        source: "192.0.2.1".parse().expect("an address"),
        peer: Some(&peer),
        destination: SocketAddr::from(([192, 0, 2, 2], 8080)),
        namespace: NAMESPACE,
        policies: &[],
    };
    let mut group = criterion.benchmark_group("policy/evaluate");
    group.throughput(Throughput::Elements(1));
    for (name, kind) in [
        ("unmatched", Kind::Unmatched),
        ("shared-principal", Kind::SharedPrincipal),
        ("negative-only", Kind::Negative),
    ] {
        for size in SIZES {
            let set = set(size, kind);
            let expected = if size == 0 { Verdict::Allow } else { Verdict::Deny };
            assert_eq!(set.evaluate_connection(&facts).verdict(), expected);
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| black_box(&set).evaluate_connection(black_box(&facts)).verdict());
            });
        }
    }
    group.finish();
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/build");
    group.sample_size(10);
    for size in [100, 10_000] {
        let policies: Vec<_> = (0..size).map(|number| policy(number, Kind::Unmatched)).collect();
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let builder = || PolicySet::builder().policies(policies.iter().cloned());
            bencher.iter_batched(
                builder,
                |builder| builder.build().expect("distinct names"),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();

    // Each time into a set that a snapshot shares, as connections hold one.
    let mut group = criterion.benchmark_group("policy/replace");
    for size in [100, 10_000] {
        let mut set = set(size, Kind::Unmatched);
        let changed = policy(size / 2, Kind::Unmatched);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let snapshot = set.clone();
                set.insert(black_box(changed.clone()));
                snapshot
            });
        });
    }
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let object = request_policy();
    let set = RequestPolicySet::strict(Mesh::new("example.org")).replaced([&object]).expect("a policy");
    let headers: [(&str, &[u8]); 4] =
        [("accept", b"*/*"), ("user-agent", b"bench"), ("x-tenant", b"tenant-1"), ("x-request-id", b"7")];
    let mut group = criterion.benchmark_group("policy/request-64-rules");
    group.throughput(Throughput::Elements(1));
    for (name, path, expected) in [
        ("matches-the-last", "/service-63/items/7", Verdict::Allow),
        ("matches-none", "/unknown/items/7", Verdict::Deny),
    ] {
        let normal = PathNormalization::Base.normalize(path, Semantics::Strict).expect("a path");
        let facts = RequestFacts {
            stream: StreamFacts {
                target: Target::Waypoint {
                    namespace: NAMESPACE,
                    name: "waypoint",
                    service: Some(Service { kind: ServiceKind::Service, namespace: NAMESPACE, name: "cart" }),
                },
                source: "192.0.2.1".parse().expect("an address"),
                remote: "192.0.2.1".parse().expect("an address"),
                peer: Some("spiffe://example.org/ns/shop/sa/cart"),
                destination: SocketAddr::from(([192, 0, 2, 2], 8080)),
                sni: None,
                metadata: &[],
            },
            method: "GET",
            authority: Some("cart.shop"),
            path: &normal,
            headers: Headers::Lines(&headers),
            claims: None,
        };
        assert_eq!(set.evaluate_request(&facts).without_providers().verdict(), expected);
        group.bench_function(name, |bencher| {
            bencher
                .iter(|| black_box(&set).evaluate_request(black_box(&facts)).without_providers().verdict());
        });
    }
    group.finish();
}

fn set(size: usize, kind: Kind) -> PolicySet {
    PolicySet::builder()
        .policies((0..size).map(|number| policy(number, kind)))
        .build()
        .expect("distinct names")
}

/// An ALLOW policy that does not fit.
fn policy(number: usize, kind: Kind) -> Policy {
    Policy {
        name: PolicyName::new(NAMESPACE, format!("policy-{number}")),
        scope: Scope::Namespace,
        action: Action::Allow,
        dry_run: false,
        rules: (0..RULES).map(|index| rule(number * RULES + index, kind)).collect(),
    }
}

fn rule(number: usize, kind: Kind) -> Rule {
    let texts = |text: &str| -> Vec<_> {
        (0..3).map(|index| StringMatch::Exact(format!("{text}-{number}-{index}").into())).collect()
    };
    let ranges = |text: &str| vec![text.parse().expect("a range")];
    let matches = match kind {
        Kind::Unmatched => vec![Match {
            namespaces: texts("other"),
            principals: texts("example.org/ns/shop/sa/other"),
            source_ips: ranges("192.0.2.0/24"),
            destination_ips: ranges("192.0.2.0/24"),
            destination_ports: vec![8080],
            ..Match::default()
        }],
        Kind::SharedPrincipal => vec![
            Match { principals: vec![StringMatch::Exact(PEER.into())], ..Match::default() },
            Match { destination_ports: vec![9090], ..Match::default() },
        ],
        Kind::Negative => vec![Match { not_source_ips: ranges("192.0.2.0/24"), ..Match::default() }],
    };
    Rule { clauses: matches.into_iter().map(|one| Clause { matches: vec![one] }).collect() }
}

/// An ALLOW policy of 64 rules: by method, path, port, header and namespace.
fn request_policy() -> AuthorizationPolicy {
    let rule = |number: usize| object::Rule {
        from: vec![Source { namespaces: vec![NAMESPACE.to_owned()], ..Source::default() }],
        to: vec![Operation {
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            ports: vec!["8080".to_owned()],
            paths: vec![match number % 3 {
                0 => format!("/service-{number}/*"),
                1 => format!("/service-{number}/{{*}}/detail"),
                _ => format!("/service-{number}/index.html"),
            }],
            ..Operation::default()
        }],
        when: vec![Condition {
            key: "request.headers[x-tenant]".to_owned(),
            values: vec!["tenant-*".to_owned()],
            ..Condition::default()
        }],
    };
    AuthorizationPolicy {
        metadata: Metadata::named(NAMESPACE, "routes"),
        target_refs: vec![TargetRef {
            kind: "Service".to_owned(),
            name: "cart".to_owned(),
            ..TargetRef::default()
        }],
        rules: (0..64).map(rule).collect(),
        ..AuthorizationPolicy::default()
    }
}

criterion_group!(benches, evaluate, change, requests);
criterion_main!(benches);
