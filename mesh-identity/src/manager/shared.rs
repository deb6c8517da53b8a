//! What the handles of a manager and its driver have in common.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::time_provider::TimeProvider;
use tokio::sync::{Notify, watch};

use super::{
    metrics::{FailureCounts, QueueLengths, RotationMetrics},
    moment::Moment,
    roots::Roots,
    rotation::{Call, Contact, Event, Failure, NotPermitted, Priority, Rotation, Validity, Verdict},
    settings::RotationSettings,
    view::View,
};
use crate::{
    IdentityError, IdentityState, IdentityStatus, IssueError, IssueFault, IssuedSvid, SpiffeId, TrustBundles,
    X509Svid, describe::describe,
};

/// The state machine, who waits for it, and what it made visible.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) time: Arc<dyn TimeProvider>,
    /// Rouses the driver after a change that is not its own.
    pub(super) wake: Notify,
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    rotation: Rotation,
    roots: Roots,
    /// One for each identity that somebody waits for.
    waiting: HashMap<SpiffeId, watch::Sender<Option<Outcome>>>,
    issued: u64,
    failed: FailureCounts,
    last_success: Option<SystemTime>,
    closed: bool,
}

/// What became of an attempt that somebody waited for.
pub(super) type Outcome = Result<Arc<X509Svid>, IdentityError>;

/// An outcome to come.
pub(super) enum Wait {
    Over(Outcome),
    For(watch::Receiver<Option<Outcome>>),
}

impl Shared {
    pub(super) fn new(
        settings: RotationSettings,
        fixed: &TrustBundles,
        time: Arc<dyn TimeProvider>,
        random: fastrand::Rng,
    ) -> Self {
        let roots = Roots::new(fixed);
        let core = Core {
            rotation: Rotation::new(settings, random),
            waiting: HashMap::new(),
            issued: 0,
            failed: FailureCounts::default(),
            last_success: None,
            closed: false,
            roots,
        };
        Self { view: View::new(fixed.clone()), time, wake: Notify::new(), core: Mutex::new(core) }
    }

    /// The present certificate, unless it has expired.
    pub(super) fn current(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        let svid = self.view.get(id)?;
        (!validity(&svid).is_over(self.wall())).then_some(svid)
    }

    pub(super) fn request(&self, id: &SpiffeId) -> Wait {
        let now = self.now();
        let mut core = self.lock();
        if core.closed {
            return Wait::Over(Err(closed(id)));
        }
        // It may have come since the caller looked.
        if let Some(svid) = self.current(id) {
            return Wait::Over(Ok(svid));
        }
        if let Err(NotPermitted) = core.rotation.handle_request(id, &now) {
            return Wait::Over(Err(IdentityError::Unknown { id: id.clone() }));
        }
        let waiting = core.waiting.entry(id.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe();
        self.settle(&mut core, &now);
        drop(core);
        self.wake.notify_one();
        Wait::For(waiting)
    }

    pub(super) fn permit(&self, id: &SpiffeId) -> bool {
        self.change(|core, now| core.rotation.handle_permit(id, now))
    }

    pub(super) fn withdraw(&self, id: &SpiffeId) {
        self.change(|core, now| core.rotation.handle_withdraw(id, now));
    }

    /// Makes these the permitted identities. Returns how many there was no room for.
    pub(super) fn permit_only(&self, ids: &std::collections::HashSet<SpiffeId>) -> usize {
        self.change(|core, now| {
            let gone: Vec<_> = core.rotation.permitted().filter(|id| !ids.contains(*id)).cloned().collect();
            gone.iter().for_each(|id| core.rotation.handle_withdraw(id, now));
            let mut refused = 0;
            for id in ids {
                if !core.rotation.is_permitted(id) && !core.rotation.handle_permit(id, now) {
                    refused += 1;
                }
            }
            refused
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Core, &Moment) -> T) -> T {
        let now = self.now();
        let mut core = self.lock();
        let changed = change(&mut core, &now);
        self.settle(&mut core, &now);
        drop(core);
        self.wake.notify_one();
        changed
    }

    /// Does what is due. Returns the calls to start, and when to come again.
    pub(super) fn advance(&self) -> (Vec<Call>, Option<std::time::Instant>) {
        let now = self.now();
        let mut core = self.lock();
        core.rotation.handle_timeout(&now);
        self.settle(&mut core, &now);
        let calls = std::iter::from_fn(|| core.rotation.poll_call(&now)).collect();
        (calls, core.rotation.poll_timeout())
    }

    /// Takes the answer to a call.
    pub(super) fn answer(&self, call: &Call, answer: Result<IssuedSvid, IssueError>) {
        let now = self.now();
        let Call { id, ticket } = call;
        let answer = answer.and_then(|issued| checked(id, issued));
        let mut core = self.lock();
        match answer {
            Ok(IssuedSvid { svid, bundle }) => {
                let verdict = core.rotation.handle_answer(id, *ticket, Ok(validity(&svid)), &now);
                if verdict == Verdict::Publish {
                    core.issued += 1;
                    core.last_success = Some(now.wall);
                    tracing::debug!(target: TARGET, %id, serial = svid.serial(), "certificate issued");
                    let change = core.roots.accept(id, bundle);
                    // Roots first: whoever is given the certificate must be able to check those who have one like it.
                    if let Some(bundles) = change.bundles {
                        self.view.replace_bundles(bundles);
                    }
                    let svid = Arc::new(svid);
                    self.view.insert(Arc::clone(&svid));
                    change.outdated.iter().for_each(|id| core.rotation.handle_hurry(id, &now));
                    tell(&mut core, id, Ok(svid));
                } else if core.rotation.is_permitted(id) {
                    core.failed.count(IssueFault::Answer);
                }
            }
            Err(error) => {
                let reason: Arc<str> = describe(&error).into();
                tracing::warn!(target: TARGET, %id, %reason, "no certificate");
                core.failed.count(error.fault());
                let contact = match error.fault() {
                    IssueFault::Answer | IssueFault::Refused => Contact::Answered,
                    IssueFault::Deadline | IssueFault::Unreachable => Contact::Missed,
                    IssueFault::Local => Contact::Untried,
                };
                let failure = Failure { reason, contact, retryable: error.is_retryable() };
                core.rotation.handle_answer(id, *ticket, Err(failure), &now);
            }
        }
        self.settle(&mut core, &now);
    }

    /// Nobody will make calls any more; whoever waits is told.
    pub(super) fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        for (id, waiting) in core.waiting.drain() {
            waiting.send_replace(Some(Err(closed(&id))));
        }
    }

    /// Makes visible what the state machine decided.
    fn settle(&self, core: &mut Core, now: &Moment) {
        while let Some(event) = core.rotation.poll_event() {
            match event {
                Event::Expired(id) => {
                    tracing::warn!(target: TARGET, %id, "certificate expired");
                    self.view.remove(&id);
                }
                Event::Failed(id) => {
                    if core.waiting.contains_key(&id) {
                        let error = self.why_not(core, &id, now);
                        tell(core, &id, Err(error));
                    }
                }
                Event::Forgotten(id) => {
                    self.view.remove(&id);
                    if let Some(bundles) = core.roots.forget(&id) {
                        self.view.replace_bundles(bundles);
                    }
                }
                Event::Withdrawn(id) => {
                    let error = IdentityError::Unknown { id: id.clone() };
                    tell(core, &id, Err(error));
                }
            }
        }
    }

    fn why_not(&self, core: &Core, id: &SpiffeId, now: &Moment) -> IdentityError {
        let condition = core.rotation.condition(id, now);
        let reason = condition.and_then(|condition| condition.last_error).unwrap_or_else(|| "unknown".into());
        IdentityError::Unavailable { id: id.clone(), reason }
    }

    pub(super) fn status_of(&self, id: &SpiffeId) -> Option<IdentityStatus> {
        let now = self.now();
        self.status_in(&self.lock(), id, &now)
    }

    pub(super) fn statuses(&self) -> Vec<IdentityStatus> {
        let now = self.now();
        let core = self.lock();
        let mut all: Vec<_> = core.rotation.ids().filter_map(|id| self.status_in(&core, id, &now)).collect();
        drop(core);
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        all
    }

    fn status_in(&self, core: &Core, id: &SpiffeId, now: &Moment) -> Option<IdentityStatus> {
        let condition = core.rotation.condition(id, now)?;
        let svid = self.current(id);
        let state = match (&svid, &condition.last_error) {
            (Some(_), _) => IdentityState::Available,
            (None, Some(error)) => IdentityState::Unavailable(Arc::clone(error)),
            (None, None) => IdentityState::Initializing,
        };
        Some(IdentityStatus {
            id: id.clone(),
            state,
            svid,
            next_attempt: condition.next_attempt,
            last_success: condition.last_success,
            last_error: condition.last_error,
            failures: condition.failures,
        })
    }

    pub(super) fn metrics(&self) -> RotationMetrics {
        let now = self.now();
        let bundles = self.view.bundles();
        let core = self.lock();
        let rotation = &core.rotation;
        let mut metrics = RotationMetrics {
            last_success: core.last_success,
            issued: core.issued,
            failed: core.failed,
            calls_in_flight: rotation.calls(),
            queued: QueueLengths {
                on_demand: rotation.queued(Priority::OnDemand),
                prefetch: rotation.queued(Priority::Prefetch),
                renewal: rotation.queued(Priority::Renewal),
            },
            outage: rotation.is_outage(),
            ..RotationMetrics::default()
        };
        for id in rotation.permitted() {
            metrics.identities += 1;
            let Some(validity) = rotation.condition(id, &now).and_then(|condition| condition.validity) else {
                continue;
            };
            metrics.available += 1;
            let earliest = metrics.first_expiry.map_or(validity.not_after, |end| end.min(validity.not_after));
            metrics.first_expiry = Some(earliest);
        }
        drop(core);
        metrics.root_expiry = Roots::expiries(&bundles);
        metrics
    }

    fn wall(&self) -> SystemTime {
        // Without a clock everything has expired: better no certificate than a stale one.
        let since =
            self.time.current_time().map_or(FAR, |now| Duration::from_secs(now.as_secs().min(FAR.as_secs())));
        UNIX_EPOCH + since
    }

    fn now(&self) -> Moment {
        Moment { instant: tokio::time::Instant::now().into_std(), wall: self.wall() }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing panics while the state is half changed.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(core: &mut Core, id: &SpiffeId, outcome: Outcome) {
    if let Some(waiting) = core.waiting.remove(id) {
        waiting.send_replace(Some(outcome));
    }
}

fn validity(svid: &X509Svid) -> Validity {
    Validity { not_before: svid.not_before(), not_after: svid.not_after() }
}

/// What must not be kept under this id, whoever issued it.
fn checked(id: &SpiffeId, issued: IssuedSvid) -> Result<IssuedSvid, IssueError> {
    if issued.svid.id() != id {
        let text = format!("the certificate is for {}", issued.svid.id());
        return Err(IssueError::new(IssueFault::Answer, text));
    }
    if issued.bundle.trust_domain() != id.trust_domain() {
        let text = format!("the roots are those of {}", issued.bundle.trust_domain());
        return Err(IssueError::new(IssueFault::Answer, text));
    }
    Ok(issued)
}

fn closed(id: &SpiffeId) -> IdentityError {
    IdentityError::Unavailable { id: id.clone(), reason: "the identity manager has been shut down".into() }
}

pub(super) const TARGET: &str = "ca";

/// A time after all others, which `SystemTime` can hold.
const FAR: Duration = Duration::from_secs(100_000 * 366 * 24 * 60 * 60);
