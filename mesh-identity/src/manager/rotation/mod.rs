//! The rotation of certificates as a state machine without I/O: when to call the authority for whom, and what an answer
//! means. It never sees a certificate, only its validity.
//!
//! Methods named `handle_*` take what happened, with the time of both clocks; then [`Rotation::poll_call`] until it has
//! nothing, [`Rotation::poll_event`] until it has nothing, and [`Rotation::handle_timeout`] at
//! [`Rotation::poll_timeout`]. It does not hand out certificates, judge roots, or know who waits for what.

mod entry;
mod outage;
mod plan;
mod queue;
mod timers;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub(super) use self::{plan::Validity, queue::Priority};

use self::{
    entry::{Entry, Phase, Tenure},
    outage::Outage,
    plan::backoff,
    queue::Queue,
    timers::Timers,
};
use super::{moment::Moment, settings::RotationSettings};
use crate::SpiffeId;

#[derive(Debug)]
pub(super) struct Rotation {
    settings: RotationSettings,
    entries: HashMap<SpiffeId, Entry>,
    queue: Queue,
    timers: Timers,
    outage: Outage,
    calls: usize,
    tickets: u64,
    /// The last moment, by which a step of the wall clock is noticed.
    seen: Option<Moment>,
    events: VecDeque<Event>,
    random: fastrand::Rng,
}

/// A call to make: [`Rotation::handle_answer`] is to be called with its ticket exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: SpiffeId,
    pub(super) ticket: u64,
}

/// What others need to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The certificate has expired: it must not be handed out any more.
    Expired(SpiffeId),
    /// An attempt failed: whoever waits is told why.
    Failed(SpiffeId),
    /// The identity is no longer known.
    Forgotten(SpiffeId),
    /// The identity is not permitted any more: whoever waits is told.
    Withdrawn(SpiffeId),
}

/// Why a call gave no certificate.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) reason: Arc<str>,
    pub(super) contact: Contact,
    pub(super) retryable: bool,
}

/// What a call says about whether the authority is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// It answered, whatever it said.
    Answered,
    /// It was not reached, or did not answer.
    Missed,
    /// Nothing: the call failed before it was made.
    Untried,
}

/// Whether a certificate is to be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Publish,
    Discard,
}

/// How an identity is.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) validity: Option<Validity>,
    pub(super) last_error: Option<Arc<str>>,
    pub(super) last_success: Option<SystemTime>,
    pub(super) failures: u32,
    pub(super) next_attempt: Option<SystemTime>,
}

/// The identity is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPermitted;

impl Rotation {
    pub(super) fn new(settings: RotationSettings, random: fastrand::Rng) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            queue: Queue::default(),
            timers: Timers::default(),
            outage: Outage::default(),
            calls: 0,
            tickets: 0,
            seen: None,
            events: VecDeque::new(),
            random,
        }
    }

    /// The identity is one of ours from now on; its certificate is fetched ahead of its use. Says whether there was room.
    pub(super) fn handle_permit(&mut self, id: &SpiffeId, now: &Moment) -> bool {
        self.observe(now);
        if !self.entries.contains_key(id) {
            if self.entries.len() >= self.settings.max_identities {
                return false;
            }
            self.entries.insert(id.clone(), Entry::new());
        }
        let Some(entry) = self.entries.get_mut(id) else { return false };
        entry.tenure = Tenure::Permitted;
        match entry.phase {
            Phase::Idle => self.enqueue(id, Priority::Prefetch, now),
            _ => self.set_timer(id, now),
        }
        true
    }

    /// The identity is no longer one of ours: no more calls for it. What is there is kept for a while.
    pub(super) fn handle_withdraw(&mut self, id: &SpiffeId, now: &Moment) {
        self.observe(now);
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.is_permitted()) else { return };
        entry.tenure = Tenure::Leaving { until: now.instant + self.settings.grace };
        match entry.phase {
            Phase::Queued { turn } => {
                self.queue.remove(turn);
                entry.phase = Phase::Idle;
            }
            Phase::Backoff { .. } => entry.phase = Phase::Idle,
            Phase::Fresh { .. } | Phase::Idle | Phase::InFlight { .. } => {}
        }
        self.events.push_back(Event::Withdrawn(id.clone()));
        self.look_at(id, now);
    }

    /// Somebody needs the identity now and has found no certificate.
    pub(super) fn handle_request(&mut self, id: &SpiffeId, now: &Moment) -> Result<(), NotPermitted> {
        self.observe(now);
        let entry = self.entries.get_mut(id).filter(|entry| entry.is_permitted()).ok_or(NotPermitted)?;
        match entry.phase {
            Phase::Queued { turn } if turn.priority != Priority::OnDemand => {
                self.queue.remove(turn);
                self.enqueue(id, Priority::OnDemand, now);
            }
            Phase::Queued { .. } | Phase::InFlight { .. } => {}
            // An error from a while ago is no answer: it is asked again, but not too often.
            Phase::Backoff { .. } | Phase::Idle => self.enqueue(id, Priority::OnDemand, now),
            // The clock has moved past its end and the timer has not fired yet, or there is one after all.
            Phase::Fresh { .. } => {
                if entry.validity.is_none_or(|validity| validity.is_over(now.wall)) {
                    self.enqueue(id, Priority::OnDemand, now);
                }
            }
        }
        Ok(())
    }

    /// A call has ended.
    pub(super) fn handle_answer(
        &mut self,
        id: &SpiffeId,
        ticket: u64,
        answer: Result<Validity, Failure>,
        now: &Moment,
    ) -> Verdict {
        self.observe(now);
        self.calls = self.calls.saturating_sub(1);
        let contact = answer.as_ref().map_or_else(|failure| failure.contact, |_| Contact::Answered);
        if contact == Contact::Answered {
            self.outage.answered();
        }
        let missed = contact == Contact::Missed;
        let began = missed && self.outage.missed(now.instant, self.random.f64());
        let verdict = self.take_answer(id, ticket, answer, now);
        if began {
            self.queue_those_who_missed(now);
        }
        if missed && self.outage.is_on() {
            self.fail_those_who_wait(id, now);
        }
        verdict
    }

    fn take_answer(
        &mut self,
        id: &SpiffeId,
        ticket: u64,
        answer: Result<Validity, Failure>,
        now: &Moment,
    ) -> Verdict {
        let Some(entry) = self.entries.get_mut(id) else { return Verdict::Discard };
        if !matches!(entry.phase, Phase::InFlight { ticket: current } if current == ticket) {
            return Verdict::Discard;
        }
        entry.phase = Phase::Idle;
        match entry.tenure {
            Tenure::Permitted => {}
            Tenure::Leaving { .. } => return Verdict::Discard,
            Tenure::Gone => {
                self.remove_when_due(id, now);
                return Verdict::Discard;
            }
        }
        let failure = match answer {
            Ok(validity) if validity.is_over(now.wall) => unusable("the issued certificate has expired"),
            Ok(validity) if validity.is_ahead(now.wall) => {
                unusable("the issued certificate is not valid yet")
            }
            Ok(validity) => {
                let Self { settings, random, .. } = self;
                let (window, interval) = (settings.renewal_window, settings.min_interval);
                let renew_at = validity.renew_at(now, window, random.f64(), interval);
                entry.phase = Phase::Fresh { renew_at };
                entry.validity = Some(validity);
                entry.failures = 0;
                entry.last_error = None;
                entry.last_success = Some(now.wall);
                // A step of the clock may just have ended the one before, of which nobody needs to hear any more: it
                // would be taken for the end of this one.
                self.events.retain(|event| !matches!(event, Event::Expired(whose) if whose == id));
                self.set_timer(id, now);
                return Verdict::Publish;
            }
            Err(failure) => failure,
        };
        self.fail(id, failure, now);
        Verdict::Discard
    }

    fn fail(&mut self, id: &SpiffeId, failure: Failure, now: &Moment) {
        let draw = self.random.f64();
        let Self { settings, entries, .. } = self;
        let Some(entry) = entries.get_mut(id) else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.last_error = Some(failure.reason);
        let failures = if failure.retryable { entry.failures } else { u32::MAX };
        let pause = backoff(failures, settings.min_interval, settings.max_backoff, draw);
        let retry_at = now.instant + pause.max(settings.min_interval);
        let missed = failure.contact == Contact::Missed;
        entry.phase = Phase::Backoff { retry_at, awaited: false, outage: missed };
        self.events.push_back(Event::Failed(id.clone()));
        if missed && self.outage.is_on() {
            // The outage sets the pace.
            self.enqueue(id, Priority::Renewal, now);
        } else {
            self.set_timer(id, now);
        }
    }

    /// The outage sets the pace from now on, and each of these may be the one who finds its end.
    fn queue_those_who_missed(&mut self, now: &Moment) {
        let missed = |entry: &Entry| matches!(entry.phase, Phase::Backoff { outage: true, .. });
        let ids: Vec<_> =
            self.entries.iter().filter(|(_, entry)| missed(entry)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.enqueue(&id, Priority::Renewal, now);
        }
    }

    /// In an outage one failure is everybody's: nobody waits for a turn that may take minutes to come.
    fn fail_those_who_wait(&mut self, whose: &SpiffeId, now: &Moment) {
        let reason = self.entries.get(whose).and_then(|entry| entry.last_error.clone());
        while let Some(id) = self.queue.first_on_demand() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.last_error = reason.clone().or_else(|| entry.last_error.take());
            }
            self.enqueue_at_once(&id, Priority::Renewal, now);
            self.events.push_back(Event::Failed(id));
        }
    }

    /// Asks for an identity's renewal within a time, spread over it, unless it is due by then or was hurried recently.
    pub(super) fn handle_hurry(&mut self, id: &SpiffeId, now: &Moment) {
        self.observe(now);
        let spread = self.settings.withdrawal_spread;
        let at = now.wall + spread.mul_f64(self.random.f64()).max(self.settings.min_interval);
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Phase::Fresh { renew_at } = &mut entry.phase else { return };
        let recently = entry
            .hurried
            .is_some_and(|last| now.instant.saturating_duration_since(last) < spread * HURRY_INTERVALS);
        if at < *renew_at && !recently {
            *renew_at = at;
            entry.hurried = Some(now.instant);
            self.set_timer(id, now);
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: &Moment) {
        self.observe(now);
        while let Some(id) = self.timers.pop_due(now.instant) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.timer = None;
            }
            self.look_at(&id, now);
        }
    }

    /// Does what is due for one identity, and sets its timer for what comes next.
    fn look_at(&mut self, id: &SpiffeId, now: &Moment) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match entry.tenure {
            Tenure::Leaving { until } if until <= now.instant => return self.forget(id, now),
            Tenure::Gone => return self.remove_when_due(id, now),
            Tenure::Leaving { .. } | Tenure::Permitted => {}
        }
        let expired = entry.expire(now);
        if expired {
            self.events.push_back(Event::Expired(id.clone()));
        }
        if entry.is_permitted() {
            match entry.phase {
                Phase::Fresh { renew_at } if expired || renew_at <= now.wall => {
                    return self.enqueue(id, Priority::Renewal, now);
                }
                Phase::Backoff { retry_at, awaited, .. } if retry_at <= now.instant => {
                    let priority = if awaited { Priority::OnDemand } else { Priority::Renewal };
                    return self.enqueue(id, priority, now);
                }
                // From here on there is nothing to serve: it is worth another try.
                Phase::Backoff { .. } if expired => return self.enqueue(id, Priority::Renewal, now),
                _ => {}
            }
        }
        self.set_timer(id, now);
    }

    fn forget(&mut self, id: &SpiffeId, now: &Moment) {
        self.events.push_back(Event::Forgotten(id.clone()));
        if let Some(entry) = self.entries.get_mut(id) {
            entry.forget();
        }
        self.remove_when_due(id, now);
    }

    /// Removes what was forgotten, unless its call is under way or too short a time ago to be called for again.
    fn remove_when_due(&mut self, id: &SpiffeId, now: &Moment) {
        let Some(entry) = self.entries.get(id) else { return };
        let is_busy = matches!(entry.phase, Phase::InFlight { .. });
        let is_recent = self.callable_at(entry).is_some_and(|at| at > now.instant);
        if is_busy || is_recent { self.set_timer(id, now) } else { self.remove(id) }
    }

    /// Before when no call may be made for an identity.
    fn callable_at(&self, entry: &Entry) -> Option<Instant> {
        entry.last_call.map(|last| last + self.settings.min_interval)
    }

    fn remove(&mut self, id: &SpiffeId) {
        if let Some(entry) = self.entries.remove(id) {
            self.timers.set(id, entry.timer, None);
            if let Phase::Queued { turn } = entry.phase {
                self.queue.remove(turn);
            }
        }
    }

    /// Queues an identity, or has it wait until its last call is long enough ago.
    fn enqueue(&mut self, id: &SpiffeId, priority: Priority, now: &Moment) {
        let earliest = self.entries.get(id).and_then(|entry| self.callable_at(entry));
        let Some(entry) = self.entries.get_mut(id) else { return };
        match earliest {
            Some(earliest) if earliest > now.instant => {
                let outage = matches!(entry.phase, Phase::Backoff { outage: true, .. });
                let was_awaited = matches!(entry.phase, Phase::Backoff { awaited: true, .. });
                let awaited = was_awaited || priority == Priority::OnDemand;
                entry.phase = Phase::Backoff { retry_at: earliest, awaited, outage };
                self.set_timer(id, now);
            }
            _ => self.enqueue_at_once(id, priority, now),
        }
    }

    fn enqueue_at_once(&mut self, id: &SpiffeId, priority: Priority, now: &Moment) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Phase::Queued { turn } = entry.phase {
            self.queue.remove(turn);
        }
        let ends = entry.validity.map(|validity| validity.end());
        entry.phase = Phase::Queued { turn: self.queue.push(id.clone(), priority, ends) };
        self.set_timer(id, now);
    }

    /// The next call to make, if one may be made.
    pub(super) fn poll_call(&mut self, now: &Moment) -> Option<Call> {
        if self.calls >= self.outage.limit(now.instant, self.settings.max_calls.get()) {
            return None;
        }
        let id = self.queue.pop()?;
        let entry = self.entries.get_mut(&id)?;
        self.tickets += 1;
        self.calls += 1;
        let ticket = self.tickets;
        entry.phase = Phase::InFlight { ticket };
        entry.last_call = Some(now.instant);
        // The wall clock reads whole seconds, so that the end may be seen before its timer fires.
        if entry.expire(now) {
            self.events.push_back(Event::Expired(id.clone()));
        }
        self.set_timer(&id, now);
        Some(Call { id, ticket })
    }

    /// What happened, in order.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, if nothing else happens before. While there are
    /// identities the clocks are compared every minute; else never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let seen = self.seen?;
        if self.entries.is_empty() {
            return None;
        }
        let compare = seen.instant + COMPARE_CLOCKS;
        let probe = self.outage.probe_at().filter(|_| self.calls == 0 && !self.queue.is_empty());
        [Some(compare), self.timers.next(), probe].into_iter().flatten().min()
    }

    /// Maps all timers anew when the wall clock was set, and retries what failed: it may have been the clock.
    fn observe(&mut self, now: &Moment) {
        let stepped = self.seen.is_some_and(|seen| now.stepped_since(&seen));
        self.seen = Some(*now);
        if stepped {
            let ids: Vec<_> = self.entries.keys().cloned().collect();
            for id in ids {
                match self.entries.get(&id) {
                    Some(Entry {
                        phase: Phase::Backoff { awaited, .. }, tenure: Tenure::Permitted, ..
                    }) => {
                        let priority = if *awaited { Priority::OnDemand } else { Priority::Renewal };
                        self.enqueue(&id, priority, now);
                    }
                    _ => self.look_at(&id, now),
                }
            }
        }
    }

    fn set_timer(&mut self, id: &SpiffeId, now: &Moment) {
        let callable_at = self.entries.get(id).and_then(|entry| self.callable_at(entry));
        let Some(entry) = self.entries.get_mut(id) else { return };
        let leave = match entry.tenure {
            Tenure::Gone if matches!(entry.phase, Phase::InFlight { .. }) => None,
            Tenure::Gone => callable_at,
            Tenure::Leaving { until } => Some(until),
            Tenure::Permitted => None,
        };
        let expiry = entry.validity.map(|validity| now.instant_of(validity.end()));
        let action = match entry.phase {
            Phase::Backoff { retry_at, .. } if entry.is_permitted() => Some(retry_at),
            Phase::Fresh { renew_at } if entry.is_permitted() => Some(now.instant_of(renew_at)),
            _ => None,
        };
        let next = [leave, expiry, action].into_iter().flatten().min();
        self.timers.set(id, entry.timer, next);
        entry.timer = next;
    }

    pub(super) fn is_permitted(&self, id: &SpiffeId) -> bool {
        self.entries.get(id).is_some_and(Entry::is_permitted)
    }

    pub(super) fn permitted(&self) -> impl Iterator<Item = &SpiffeId> {
        self.entries.iter().filter(|(_, entry)| entry.is_permitted()).map(|(id, _)| id)
    }

    /// How an identity is; `None` if it is none of ours.
    pub(super) fn condition(&self, id: &SpiffeId, now: &Moment) -> Option<Condition> {
        let entry = self.entries.get(id).filter(|entry| entry.tenure != Tenure::Gone)?;
        let next_attempt = match entry.phase {
            Phase::Backoff { retry_at, .. } => Some(now.wall_of(retry_at)),
            Phase::Fresh { renew_at } if entry.is_permitted() => Some(renew_at),
            Phase::Queued { .. } => Some(now.wall),
            Phase::Fresh { .. } | Phase::Idle | Phase::InFlight { .. } => None,
        };
        Some(Condition {
            validity: entry.validity,
            last_error: entry.last_error.clone(),
            last_success: entry.last_success,
            failures: entry.failures,
            next_attempt,
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &SpiffeId> {
        self.entries.keys()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn queued(&self, priority: Priority) -> usize {
        self.queue.len(priority)
    }

    pub(super) fn is_outage(&self) -> bool {
        self.outage.is_on()
    }
}

fn unusable(reason: &str) -> Failure {
    Failure { reason: reason.into(), contact: Contact::Answered, retryable: true }
}

/// How often the clocks are compared at least.
const COMPARE_CLOCKS: Duration = Duration::from_secs(60);

/// An identity is not hurried again before so many times the spread have passed: authorities whose replicas disagree
/// about their roots would have everybody renew all the time.
const HURRY_INTERVALS: u32 = 12;

#[cfg(test)]
mod tests;
