//! Open inbound connections, re-checked when the mesh's state changes.
//!
//! A connection is registered *before* policy is asked. A change that arrives while it is being decided therefore
//! either is seen by the decision or finds the connection registered and closes it: no push falls between the two.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh_identity::SpiffeId;
use mesh_policy::{ConnectionFacts, Decision, PolicyName, Verdict};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    context::WorkerContext,
    state::{Snapshot, StateStore, Workload},
    telemetry::{Event, Observer},
};

/// How many connections are re-checked before other work of the worker has a turn.
const RECHECK_BATCH: usize = 64;

/// What policy is asked about one inbound connection.
#[derive(Clone, Debug)]
pub(crate) struct InboundFacts {
    pub(crate) source: SocketAddr,
    pub(crate) peer: Option<SpiffeId>,
    pub(crate) destination: SocketAddr,
    pub(crate) workload: Arc<Workload>,
}

impl InboundFacts {
    /// What the answer of `snapshot`'s policies depends on, beside these facts.
    ///
    /// That is the workload's record there, since what is attached to it may have changed.
    fn basis(&self, snapshot: &Snapshot) -> Basis {
        let workload = snapshot.workload(&self.workload.uid).unwrap_or(&self.workload);
        Basis { policies_changed: snapshot.policies_changed(), workload: Arc::clone(workload) }
    }

    /// Asks the policies of `snapshot`.
    fn evaluate<T>(&self, snapshot: &Snapshot, then: impl FnOnce(&Decision<'_>) -> T) -> T {
        let workload = snapshot.workload(&self.workload.uid).unwrap_or(&self.workload);
        let decision = snapshot.policies().evaluate_connection(&ConnectionFacts {
            source: self.source.ip(),
            peer: self.peer.as_ref(),
            destination: self.destination,
            namespace: workload.namespace(),
            policies: &workload.authorization_policies,
        });
        then(&decision)
    }
}

/// What decisions depend on, beside the facts of each connection. Equal ones lead to equal decisions.
#[derive(Clone, Debug)]
struct Basis {
    policies_changed: u64,
    workload: Arc<Workload>,
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.policies_changed == other.policies_changed && Arc::ptr_eq(&self.workload, &other.workload)
    }
}

/// The inbound connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
    /// What every open connection was allowed by; `None` if that is not one and the same.
    ///
    /// A worker serves one workload, so between two changes that matter to it, it is.
    basis: Option<Basis>,
}

impl Table {
    /// One of the open connections has been allowed by `basis`.
    fn note_allowed(&mut self, basis: Basis) {
        if self.open.len() <= 1 {
            self.basis = Some(basis);
        } else if self.basis.as_ref() != Some(&basis) {
            self.basis = None;
        }
    }
}

#[derive(Debug)]
struct Open {
    facts: Arc<InboundFacts>,
    deny: oneshot::Sender<()>,
}

impl Connections {
    /// Registers a connection and asks policy about it.
    ///
    /// A policy that the workload lists and that has not arrived is waited for until `wait` has passed; then the
    /// connection is denied, naming it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future forgets the connection.
    pub(crate) async fn admit(
        &self,
        facts: InboundFacts,
        state: &StateStore,
        wait: Duration,
        observer: &dyn Observer,
    ) -> Result<Admitted<'_>, Denied> {
        let admitted = self.register(facts);
        let deadline = Instant::now() + wait;
        let mut changes = None;
        loop {
            let snapshot = state.load();
            let step = admitted.facts.evaluate(&snapshot, |decision| {
                let step = Step::of(decision, || state.epoch() == snapshot.epoch());
                if let Step::Admit | Step::Deny(_) = step {
                    report_dry_run(decision, &admitted.facts, observer);
                }
                step
            });
            match step {
                Step::Admit => {
                    let basis = admitted.facts.basis(&snapshot);
                    self.lock().note_allowed(basis);
                    return Ok(admitted);
                }
                Step::Again => {}
                Step::Deny(reason) => return Err(Denied { reason, missing: None }),
                Step::Wait(missing, reason) => {
                    let changes = changes.get_or_insert_with(|| state.subscribe());
                    let arrived =
                        timeout_at(deadline, changes.wait_for(|&epoch| epoch > snapshot.epoch())).await;
                    if !matches!(arrived, Ok(Ok(_))) {
                        admitted.facts.evaluate(&snapshot, |decision| {
                            report_dry_run(decision, &admitted.facts, observer);
                        });
                        return Err(Denied { reason, missing: Some(missing) });
                    }
                }
            }
        }
    }

    fn register(&self, facts: InboundFacts) -> Admitted<'_> {
        let facts = Arc::new(facts);
        let (deny, denied) = oneshot::channel();
        let mut table = self.lock();
        let id = table.next;
        table.next = table.next.wrapping_add(1);
        table.open.insert(id, Open { facts: Arc::clone(&facts), deny });
        Admitted { connections: self, id, facts, denied }
    }

    /// Closes what `state` denies now. Says how many connections it had to ask about: none if neither policies nor the
    /// workload's record are others than those by which all were allowed.
    ///
    /// A connection whose policies are incomplete stays: it is closed once what is missing is there and denies.
    async fn recheck(&self, state: &StateStore) -> usize {
        // One for all, so that afterwards all have been allowed by the same.
        let snapshot = state.load();
        let ids: Vec<u64> = {
            let mut table = self.lock();
            let Some(any) = table.open.values().next() else { return 0 };
            let now = any.facts.basis(&snapshot);
            if table.basis.as_ref() == Some(&now) {
                return 0;
            }
            // Whoever is allowed by something else meanwhile takes it back.
            let is_one = table.open.values().all(|open| open.facts.basis(&snapshot) == now);
            table.basis = is_one.then_some(now);
            table.open.keys().copied().collect()
        };
        for batch in ids.chunks(RECHECK_BATCH) {
            for id in batch {
                let Some(facts) = self.lock().open.get(id).map(|open| Arc::clone(&open.facts)) else {
                    continue;
                };
                let denied = facts.evaluate(&snapshot, |decision| {
                    decision.verdict() == Verdict::Deny && decision.missing_policy().is_none()
                });
                if denied && let Some(open) = self.lock().open.remove(id) {
                    // A receiver that is gone has closed by itself.
                    let _ = open.deny.send(());
                }
            }
            tokio::task::yield_now().await;
        }
        ids.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while the table is half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows from one look at the policies.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Admit,
    /// The state moved while we looked; the new one decides.
    Again,
    Deny(String),
    /// A listed policy is missing.
    Wait(PolicyName, String),
}

impl Step {
    /// `is_current` is asked after the decision: whether no other state came before it.
    fn of(decision: &Decision<'_>, is_current: impl FnOnce() -> bool) -> Self {
        match (decision.verdict(), decision.missing_policy()) {
            (Verdict::Allow, _) if is_current() => Self::Admit,
            (Verdict::Allow, _) => Self::Again,
            (Verdict::Deny, None) => Self::Deny(decision.reason().to_string()),
            (Verdict::Deny, Some(missing)) => Self::Wait(missing.clone(), decision.reason().to_string()),
        }
    }
}

fn report_dry_run(decision: &Decision<'_>, facts: &InboundFacts, observer: &dyn Observer) {
    for policy in decision.dry_run_denials() {
        observer.event(&Event::DryRunDenied {
            source: facts.source,
            destination: facts.destination,
            policy: &policy,
        });
    }
}

/// Re-checks a worker's connections at each change of state, for as long as the worker lives.
pub(crate) async fn recheck_on_change(context: Arc<WorkerContext>) {
    let mut changes = context.state.subscribe();
    while changes.changed().await.is_ok() {
        let asked = context.connections.recheck(&context.state).await;
        tracing::trace!(asked, "open connections re-checked");
    }
}

/// A registered connection that policy allows; dropping it forgets the connection.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    connections: &'a Connections,
    id: u64,
    facts: Arc<InboundFacts>,
    denied: oneshot::Receiver<()>,
}

impl Admitted<'_> {
    /// Resolves when a change of state denies the connection, never otherwise, and once at most.
    ///
    /// Cancel safe.
    pub(crate) async fn denied(&mut self) {
        if self.denied.is_terminated() || (&mut self.denied).await.is_err() {
            // Only this guard forgets a connection, so the sender lives unless it has spoken.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let _ = self.connections.lock().open.remove(&self.id);
    }
}

/// A connection that policy does not allow.
#[derive(Debug)]
pub(crate) struct Denied {
    /// The text for operators.
    pub(crate) reason: String,
    /// The policy that was waited for in vain.
    pub(crate) missing: Option<PolicyName>,
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::FutureExt;
    use mesh_policy::{Action, Clause, Match, MissingPolicy, Policy, Rule, Scope};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        state::Change,
        telemetry::{ConnectionMeta, ConnectionObserver, NoopObserver},
    };

    fn deny_all(name: &str) -> Policy {
        Policy {
            name: PolicyName::new("shop", name),
            scope: Scope::Namespace,
            action: Action::Deny,
            dry_run: false,
            rules: vec![Rule { clauses: Vec::new() }],
        }
    }

    fn facts() -> InboundFacts {
        InboundFacts {
            source: "192.0.2.1:40000".parse().unwrap(),
            peer: None,
            destination: "192.0.2.2:8080".parse().unwrap(),
            workload: Arc::new(Workload::new("c//Pod/shop/cart-0", "example.org", "shop", "cart").unwrap()),
        }
    }

    fn state() -> Arc<StateStore> {
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

    #[tokio::test]
    async fn connections_that_end_leave_nothing_behind() {
        let state = state();
        let connections = Connections::default();
        for _ in 0..3 {
            drop(connections.admit(facts(), &state, Duration::ZERO, &NoopObserver).await.unwrap());
        }
        assert!(connections.lock().open.is_empty());
    }

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
            4 => (0..CHANGES).prop_map(Operation::Change),
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
}
