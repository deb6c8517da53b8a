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
    /// Asks the policies of `snapshot`, by the workload's record there: what is attached to it may have changed.
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

/// The inbound connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
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
            let denied = admitted.facts.evaluate(&snapshot, |decision| {
                report_dry_run(decision, &admitted.facts, observer);
                match decision.verdict() {
                    Verdict::Allow => None,
                    Verdict::Deny => {
                        Some((decision.missing_policy().cloned(), decision.reason().to_string()))
                    }
                }
            });
            match denied {
                None if state.epoch() == snapshot.epoch() => return Ok(admitted),
                // The state moved while we looked; the new one decides.
                None => {}
                Some((None, reason)) => return Err(Denied { reason, missing: None }),
                Some((Some(missing), reason)) => {
                    let changes = changes.get_or_insert_with(|| state.subscribe());
                    let arrived =
                        timeout_at(deadline, changes.wait_for(|&epoch| epoch > snapshot.epoch())).await;
                    if !matches!(arrived, Ok(Ok(_))) {
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

    /// Closes what `state` denies now.
    ///
    /// A connection whose policies are incomplete stays: it is closed once what is missing is there and denies.
    async fn recheck(&self, state: &StateStore) {
        let ids: Vec<u64> = self.lock().open.keys().copied().collect();
        for batch in ids.chunks(RECHECK_BATCH) {
            let snapshot = state.load();
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
            drop(snapshot);
            tokio::task::yield_now().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while the table is half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
        context.connections.recheck(&context.state).await;
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
    /// Resolves when a change of state denies the connection, never otherwise.
    ///
    /// Cancel safe.
    pub(crate) async fn denied(&mut self) {
        if (&mut self.denied).await.is_err() {
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use mesh_policy::{Action, MissingPolicy, Policy, Rule, Scope};

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

    /// Puts a DENY into force while a connection is being decided: it hears of the dry-run policy from inside the
    /// first evaluation.
    #[derive(Debug)]
    struct Meddler {
        state: Arc<StateStore>,
        done: AtomicBool,
    }

    impl Observer for Meddler {
        fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver> {
            NoopObserver.connection_opened(meta)
        }

        fn event(&self, event: &Event<'_>) {
            if matches!(event, Event::DryRunDenied { .. }) && !self.done.swap(true, Ordering::Relaxed) {
                self.state.apply([Change::UpsertPolicy(deny_all("late"))]);
            }
        }
    }

    /// policy#48: no push falls between registration, evaluation and admission.
    #[tokio::test]
    async fn a_policy_swapped_in_during_the_evaluation_decides() {
        let state = state();
        state.apply([Change::UpsertPolicy(Policy { dry_run: true, ..deny_all("watched") })]);
        let meddler = Meddler { state: Arc::clone(&state), done: AtomicBool::new(false) };
        let connections = Connections::default();
        let denied = connections.admit(facts(), &state, Duration::ZERO, &meddler).await.unwrap_err();
        assert_eq!(denied.reason, "explicitly denied by: shop/late");
        assert!(connections.lock().open.is_empty());
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
}
