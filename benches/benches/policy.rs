//! What a decision costs as policies grow in number: those of the workload's own namespace, and those of others.

use std::{hint::black_box, net::SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, Clause, ConnectionFacts, Match, Policy, PolicyName, PolicySet, Rule, Scope, StringMatch, Verdict,
};

/// Rules of each policy.
const RULES: usize = 10;
/// Namespaces over which policies are spread in the second case.
const NAMESPACES: usize = 100;
/// The empty set comes first: what a decision costs that has nothing to look at.
const SIZES: [usize; 4] = [0, 10, 1_000, 10_000];

fn evaluate(criterion: &mut Criterion) {
    let peer: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse().expect("a SPIFFE id");
    let facts = ConnectionFacts {
        source: "192.0.2.1".parse().expect("an address"),
        peer: Some(&peer),
        destination: SocketAddr::from(([192, 0, 2, 2], 8080)),
        namespace: "shop-0",
        policies: &[],
    };
    let mut group = criterion.benchmark_group("policy/evaluate");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        for (name, namespaces) in [("one-namespace", 1), ("100-namespaces", NAMESPACES)] {
            let set = set(size, namespaces);
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
    let mut group = criterion.benchmark_group("policy/insert");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let mut set = set(size, 1);
        let late = policy(0, size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| set.insert(black_box(late.clone())));
        });
    }
    group.finish();
}

/// ALLOW policies of which none fits: every one has to be looked at, as far as an index does not help.
fn set(size: usize, namespaces: usize) -> PolicySet {
    let policies = (0..size).map(|number| policy(number % namespaces, number));
    policies
        .fold(PolicySet::builder(), |builder, policy| builder.policy(policy))
        .build()
        .expect("distinct names")
}

fn policy(namespace: usize, number: usize) -> Policy {
    let rule = |rule| {
        let principal = format!("example.org/ns/shop/sa/other-{number}-{rule}");
        let matches =
            vec![Match { principals: vec![StringMatch::Exact(principal.into())], ..Match::default() }];
        Rule { clauses: vec![Clause { matches }] }
    };
    Policy {
        name: PolicyName::new(format!("shop-{namespace}"), format!("policy-{number}")),
        scope: Scope::Namespace,
        action: Action::Allow,
        dry_run: false,
        rules: (0..RULES).map(rule).collect(),
    }
}

criterion_group!(benches, evaluate, change);
criterion_main!(benches);
