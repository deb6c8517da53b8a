use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_policy::{Action, Clause, Match, MissingPolicy, Policy, Rule, Scope};

use super::*;
use crate::{
    state::Change,
    telemetry::{ConnectionMeta, ConnectionObserver, NoopObserver},
};

pub(super) fn deny_all(name: &str) -> Policy {
    Policy {
        name: PolicyName::new("shop", name),
        scope: Scope::Namespace,
        action: Action::Deny,
        dry_run: false,
        rules: vec![Rule { clauses: Vec::new() }],
    }
}

pub(super) fn facts() -> InboundFacts {
    InboundFacts {
        source: "192.0.2.1:40000".parse().unwrap(),
        peer: None,
        destination: "192.0.2.2:8080".parse().unwrap(),
        workload: Arc::new(Workload::new("c//Pod/shop/cart-0", "example.org", "shop", "cart").unwrap()),
    }
}

pub(super) fn state() -> Arc<StateStore> {
    let state = StateStore::new(None, MissingPolicy::Deny);
    state.apply([Change::Synced]);
    Arc::new(state)
}

/// Puts a DENY into force as soon as a connection has been decided about: it hears of the dry-run policy then.
#[derive(Debug)]
struct Meddler {
    state: Arc<StateStore>,
    dry_run_denials: AtomicUsize,
}

impl Observer for Meddler {
    fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver> {
        NoopObserver.connection_opened(meta)
    }

    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::DryRunDenied { .. })
            && self.dry_run_denials.fetch_add(1, Ordering::Relaxed) == 0
        {
            self.state.apply([Change::UpsertPolicy(deny_all("late"))]);
        }
    }
}

/// policy#48: no push falls between registration, evaluation and admission.
#[tokio::test]
async fn a_policy_swapped_in_right_after_the_evaluation_finds_the_connection() {
    let state = state();
    state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all("watched") })]);
    let meddler = Meddler { state: Arc::clone(&state), dry_run_denials: AtomicUsize::new(0) };
    let connections = Connections::default();
    let mut admitted = connections.admit(facts(), &state, Duration::ZERO, &meddler).await.unwrap();
    assert_eq!(connections.recheck(&state).await, 1);
    admitted.denied().await;
    drop(admitted);
    assert!(connections.lock().open.is_empty());
}

/// policy#48: nor between the evaluation and the look whether it still counts.
#[tokio::test]
async fn an_evaluation_counts_only_if_no_other_state_came_meanwhile() {
    let state = state();
    facts().evaluate(&state.load(), |decision| {
        assert_eq!(Step::of(decision, || true), Step::Admit);
        assert_eq!(Step::of(decision, || false), Step::Again);
    });
    state.apply([Change::UpsertPolicy(deny_all("all"))]);
    for is_current in [true, false] {
        facts().evaluate(&state.load(), |decision| {
            assert!(matches!(Step::of(decision, || is_current), Step::Deny(_)));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_denial_is_reported_once_however_often_policy_was_asked() {
    let state = state();
    state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all("watched") })]);
    let meddler = Meddler { state: Arc::clone(&state), dry_run_denials: AtomicUsize::new(1) };
    let connections = Connections::default();
    let mut waiting = facts();
    let mut workload = Workload::clone(&waiting.workload);
    workload.authorization_policies = vec![PolicyName::new("shop", "in-flight")];
    waiting.workload = Arc::new(workload);
    let admitted = connections.admit(waiting, &state, Duration::from_secs(2), &meddler);
    let changes = async {
        for name in ["one", "two", "three"] {
            tokio::task::yield_now().await;
            state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all(name) })]);
        }
    };
    assert!(tokio::join!(admitted, changes).0.unwrap_err().missing.is_some());
    // The snapshot that decides has all four.
    assert_eq!(meddler.dry_run_denials.load(Ordering::Relaxed), 1 + 4);
}

#[tokio::test]
async fn changes_that_concern_nobody_here_ask_nothing() {
    let state = state();
    let connections = Connections::default();
    let workload = facts().workload;
    state.apply([Change::UpsertWorkload(Arc::clone(&workload))]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
    }
    let other = Workload::new("c//Pod/shop/other-0", "example.org", "shop", "other").unwrap();
    for _ in 0..3 {
        state.apply([Change::UpsertWorkload(Arc::new(other.clone()))]);
        assert_eq!(connections.recheck(&state).await, 0);
    }
    state.apply([Change::UpsertWorkload(Arc::new(Workload::clone(&workload)))]);
    assert_eq!((connections.recheck(&state).await, connections.recheck(&state).await), (3, 0));
    state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all("watched") })]);
    assert_eq!((connections.recheck(&state).await, connections.recheck(&state).await), (3, 0));
    // One more, by the same state.
    open.push(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
    assert_eq!(connections.recheck(&state).await, 0);
}

#[tokio::test]
async fn a_policy_that_comes_after_the_evaluation_finds_the_connection() {
    let state = state();
    let connections = Connections::default();
    let mut admitted = connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap();
    state.apply([Change::UpsertPolicy(deny_all("late"))]);
    connections.recheck(&state).await;
    admitted.denied().await;
    drop(admitted);
    assert!(connections.lock().open.is_empty());
}

/// routing#75
#[tokio::test]
async fn a_missing_policy_closes_nothing_that_is_open() {
    let state = state();
    let connections = Connections::default();
    let mut listing = facts();
    let mut workload = Workload::clone(&listing.workload);
    let uid = Arc::clone(&workload.uid);
    state.apply([Change::UpsertWorkload(Arc::clone(&listing.workload))]);
    listing.workload = Arc::clone(state.load().workload(&uid).unwrap());
    let mut admitted = connections.admit(listing, &state, Duration::ZERO, &NoopObserver).await.unwrap();
    workload.authorization_policies = vec![PolicyName::new("shop", "in-flight")];
    state.apply([Change::UpsertWorkload(Arc::new(workload))]);
    connections.recheck(&state).await;
    assert!(admitted.denied.try_recv().is_err());
    // Once it is there and denies, the connection is closed.
    let policy = Policy { scope: Scope::WorkloadSelector, ..deny_all("in-flight") };
    state.apply([Change::UpsertPolicy(policy)]);
    connections.recheck(&state).await;
    admitted.denied().await;
}

/// routing#77
#[tokio::test]
async fn connections_that_end_leave_nothing_behind() {
    let state = state();
    let connections = Connections::default();
    for _ in 0..3 {
        drop(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
    }
    assert!(connections.lock().open.is_empty());
}

/// A change that is undone before anybody looked leaves no connection that only it allowed.
#[tokio::test]
async fn what_was_allowed_only_meanwhile_is_closed() {
    let state = state();
    let connections = Connections::default();
    let open = facts().workload;
    let mut closed = Workload::clone(&open);
    closed.authorization_policies = vec![PolicyName::new("shop", "attached")];
    let closed = Arc::new(closed);
    let attached = Policy {
        scope: Scope::WorkloadSelector,
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match { destination_ports: vec![8080], ..Match::default() }],
            }],
        }],
        ..deny_all("attached")
    };
    let upsert = |record: &Arc<Workload>| Change::UpsertWorkload(Arc::clone(record));
    state.apply([Change::UpsertPolicy(attached), upsert(&closed)]);
    let elsewhere = InboundFacts { destination: "192.0.2.2:8081".parse().unwrap(), ..facts() };
    let _always = connections.admit(elsewhere, &state, Duration::ZERO, &NoopObserver).await.unwrap();
    state.apply([upsert(&open)]);
    let mut meanwhile = connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap();
    // The very record of before.
    state.apply([upsert(&closed)]);
    assert_eq!(connections.recheck(&state).await, 2);
    meanwhile.denied().await;
}

/// routing#74: what the only policy that allowed it has gone from is closed, as long as others allow anything.
#[tokio::test]
async fn a_connection_goes_with_the_policy_that_allowed_it() {
    let state = state();
    let connections = Connections::default();
    let allow = |name: &str, port| {
        let matches = vec![Match { destination_ports: vec![port], ..Match::default() }];
        let rules = vec![Rule { clauses: vec![Clause { matches }] }];
        Change::UpsertPolicy(Policy { action: Action::Allow, rules, ..deny_all(name) })
    };
    state.apply([allow("this", 8080), allow("other", 9090)]);
    let mut admitted = connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap();
    state.apply([Change::RemovePolicy(PolicyName::new("shop", "other"))]);
    connections.recheck(&state).await;
    assert!(admitted.denied.try_recv().is_err());
    state.apply([allow("other", 9090), Change::RemovePolicy(PolicyName::new("shop", "this"))]);
    connections.recheck(&state).await;
    admitted.denied().await;
}

/// routing#76
#[tokio::test]
async fn a_new_connection_does_not_wait_for_ten_thousand_to_be_rechecked() {
    let state = state();
    let connections = Connections::default();
    let mut open = Vec::new();
    for _ in 0..10_000 {
        open.push(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
    }
    state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all("watched") })]);
    let rechecked = std::cell::Cell::new(None);
    let admitted = async {
        tokio::task::yield_now().await;
        drop(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
        rechecked.get()
    };
    let recheck = async { rechecked.set(Some(connections.recheck(&state).await)) };
    assert_eq!(tokio::join!(recheck, admitted).1, None);
    assert_eq!(rechecked.get(), Some(10_000));
}
