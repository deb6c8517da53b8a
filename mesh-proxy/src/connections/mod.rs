//! Open inbound connections, re-checked when the mesh's state changes.
//!
//! A connection is registered *before* policy is asked. A change that arrives while it is being decided therefore
//! either is seen by the decision or finds the connection registered and closes it: no push falls between the two.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

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
