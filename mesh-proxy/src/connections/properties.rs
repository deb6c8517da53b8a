use std::net::Ipv4Addr;

use futures_util::FutureExt;
use mesh_policy::{Clause, Match, Policy, Rule, Scope};
use proptest::prelude::*;

use super::{
    tests::{deny_all, facts, state},
    *,
};
use crate::{state::Change, telemetry::NoopObserver};

/// What may happen to the connections of one worker.
#[derive(Clone, Debug)]
enum Operation {
    Open { port: u16, workload: usize },
    Close(usize),
    Change(usize),
    Recheck,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        3 => (0..3_u16, 0..2_usize).prop_map(|(port, workload)| Operation::Open { port, workload }),
        1 => (0..8_usize).prop_map(Operation::Close),
        // Most of them between two records of one workload, so that one is often undone before a re-check.
        4 => prop_oneof![(0..2_usize), 0..CHANGES].prop_map(Operation::Change),
        2 => Just(Operation::Recheck),
    ];
    prop::collection::vec(operation, 1..60)
}

const CHANGES: usize = 15;

/// A few changes that undo each other, some by bringing back the very same record.
fn changes() -> [Change; CHANGES] {
    let record = |pod: &str, policies: &[&str]| {
        let mut workload =
            Workload::new(format!("c//Pod/shop/{pod}"), "example.org", "shop", "cart").unwrap();
        workload.authorization_policies =
            policies.iter().map(|&name| PolicyName::new("shop", name)).collect();
        Arc::new(workload)
    };
    let deny = |name: &str, port: u16, scope, dry_run| {
        let matches = vec![Match { destination_ports: vec![8080 + port], ..Match::default() }];
        let rules = vec![Rule { clauses: vec![Clause { matches }] }];
        Change::UpsertPolicy(Policy { rules, scope, dry_run, ..deny_all(name) })
    };
    let upsert = |pod, policies: &[&str]| Change::UpsertWorkload(record(pod, policies));
    let attached = Scope::WorkloadSelector;
    [
        upsert("cart-0", &[]),
        upsert("cart-0", &["a"]),
        upsert("cart-0", &["a", "b"]),
        upsert("cart-1", &["b"]),
        upsert("cart-1", &[]),
        upsert("else-0", &["a"]),
        Change::RemoveWorkload("c//Pod/shop/cart-0".into()),
        Change::RemoveWorkload("c//Pod/shop/else-0".into()),
        deny("a", 0, attached, false),
        deny("b", 1, attached, false),
        deny("b", 2, attached, false),
        deny("c", 2, Scope::Namespace, false),
        deny("c", 2, Scope::Namespace, true),
        Change::RemovePolicy(PolicyName::new("shop", "a")),
        Change::RemovePolicy(PolicyName::new("shop", "c")),
    ]
}

proptest! {
    /// Skipping what a change cannot concern misses nothing: after each re-check no open connection is denied.
    #[test]
    fn what_must_be_closed_is_closed(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (state, connections, changes) = (state(), Connections::default(), changes());
                state.apply([changes[8].clone(), changes[9].clone()]);
            let mut open: Vec<Admitted<'_>> = Vec::new();
            for operation in operations {
                match operation {
                    Operation::Open { port, workload } => {
                        let uid = format!("c//Pod/shop/cart-{workload}");
                        let known = state.load().workload(&uid).cloned();
                        let facts = InboundFacts {
                            destination: (Ipv4Addr::new(192, 0, 2, 2), 8080 + port).into(),
                            workload: known.unwrap_or_else(|| facts().workload),
                            ..facts()
                        };
                        // What waits for a policy is denied at once here: time stands still.
                        let admitted = connections.admit(facts, &state, Duration::ZERO, &NoopObserver);
                        open.extend(admitted.now_or_never().and_then(Result::ok));
                    }
                    Operation::Close(at) if at < open.len() => drop(open.swap_remove(at)),
                    Operation::Close(_) => {}
                    Operation::Change(at) => {
                        state.apply([changes[at].clone()]);
                    }
                    Operation::Recheck => {
                        connections.recheck(&state).await;
                        open.retain_mut(|admitted| admitted.denied.try_recv().is_err());
                        let snapshot = state.load();
                        for admitted in &open {
                            let denied = admitted.facts.evaluate(&snapshot, |decision| {
                                decision.verdict() == Verdict::Deny && decision.missing_policy().is_none()
                            });
                            assert!(!denied, "{:?}", admitted.facts);
                        }
                    }
                }
            }
        });
    }
}
