//! The pool's bookkeeping: no I/O, no clock.

mod backoff;
mod limits;
mod outcome;
mod queue;
mod slots;

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Instant,
};

pub use self::limits::Sharing;
use self::{
    backoff::Backoff,
    slots::{Census, Slot, Slots},
};
pub(super) use self::{
    backoff::Failure,
    limits::{Limits, Load, MeasureLoad},
    outcome::{Outcome, Refusal},
};

/// Which connections there are per key, how many tunnels each has, who waits for one, who dials, and who may not. It
/// decides; the pool acts. `C` stands for a connection, `W` for one who waits, `F` for the failure of a dial.
///
/// A connection goes through these states; tunnels are handed out on those that are open:
///
/// ```text
///   wait ──▶ dialling ──handle_dialed──▶ unconfirmed ──handle_limit──▶ open
///                │                       (one tunnel)                   │  handle_timer (idle, old), retire, evict,
///        handle_dial_failed                                             ▼  drain, another key's need
///                │                                                   leaving
///                ▼                                                      │  last tunnel gone
///              gone ◀──────────────────handle_closed────────────────────┘
/// ```
///
/// A peer's limit is known only once its settings have arrived, so a new connection takes one tunnel until then, and
/// those who wait beyond that keep waiting for what it turns out to take. A further connection is dialled when more
/// wait than connections under way are expected to take, and, without anybody waiting, when a tunnel had to be given a
/// busy connection.
///
/// Whoever waits is served in the end, or refused as soon as nothing can serve them: nobody waits beside a connection
/// that would do, nor for a dial that is not made.
#[derive(Debug)]
pub(super) struct Book<K, C, W, F> {
    limits: Limits,
    keys: HashMap<K, Slots<C, W>>,
    backoff: Backoff<K, F>,
    /// Tunnels on connections that take no more, and dials that nobody wants any more as if they had one: what the
    /// total counts although no key has it.
    leaving: HashMap<ConnectionId, usize>,
    census: Census,
    /// Keys that want a connection for which the total has no room, in the order in which they get it.
    starved: VecDeque<K>,
    next_id: u64,
    draining: bool,
}

/// A connection, from the moment it is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

/// A place in the queue for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// When to look at a connection's timer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextCheck {
    At(Instant),
    /// The connection has left its key.
    Never,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Keys that have a connection, a dial or someone who waits.
    pub keys: usize,
    /// Connections that take tunnels.
    pub connections: usize,
    /// Connections being dialled.
    pub dialling: usize,
    /// Connections without tunnels, among those that take them.
    pub idle: usize,
    /// Connections that take no more tunnels and live until their last ends, with dials that nobody wants any more.
    pub leaving: usize,
    /// Requests that wait for a place on a connection.
    pub waiting: usize,
    /// Keys whose last dial failed lately.
    pub failing: usize,
}

impl<K, C, W, F> Book<K, C, W, F>
where
    K: Clone + Eq + Hash,
    C: Clone + MeasureLoad,
    F: Clone,
{
    /// A book without entries. Jitter follows from `seed`.
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            keys: HashMap::new(),
            backoff: Backoff::new(limits.backoff, seed),
            leaving: HashMap::new(),
            census: Census::default(),
            starved: VecDeque::new(),
            next_id: 0,
            draining: false,
        }
    }

    /// Takes a place for a tunnel, on any connection but `avoid`; also says whether that connection is busy, in which
    /// case the key could do with [another](Self::plan_relief).
    pub(super) fn checkout(&mut self, key: &K, avoid: Option<ConnectionId>) -> Option<(C, bool)> {
        let slots = self.keys.get_mut(key)?;
        let (connection, load) = slots.take(avoid, false, &self.limits, &mut self.census)?;
        Some((connection, load > Load::Free))
    }

    /// Plans a dial beside connections that are busy, unless one is under way, or there are enough of them.
    pub(super) fn plan_relief(&mut self, key: &K, now: Instant) -> Option<ConnectionId> {
        let count = self.keys.get(key).filter(|slots| slots.dials.is_empty())?.count();
        let allowed = count < self.limits.connections.min(self.limits.relief);
        if !allowed || self.total() >= self.limits.total || self.backoff.failure(key, now).is_some() {
            return None;
        }
        let id = ConnectionId(next(&mut self.next_id));
        self.keys.get_mut(key)?.dials.push(id);
        self.census.dials += 1;
        Some(id)
    }

    /// Queues for a place.
    ///
    /// The outcome may serve or refuse the one who has just come.
    pub(super) fn wait(
        &mut self,
        key: &K,
        avoid: Option<ConnectionId>,
        waiter: W,
        now: Instant,
    ) -> (Ticket, Outcome<K, C, W, F>) {
        self.forget_failures(now);
        let ticket = Ticket(next(&mut self.next_id));
        let refusal = if self.draining {
            Some(Refusal::Draining)
        } else {
            let waiting = self.keys.get(key).map_or(0, |slots| slots.waiters.len());
            (waiting >= self.limits.waiters).then_some(Refusal::Busy)
        };
        if let Some(refusal) = refusal {
            return (ticket, Outcome { refusals: vec![(waiter, refusal)], ..Outcome::default() });
        }
        if !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), Slots::new(&self.limits));
        }
        let slots = self.keys.get_mut(key).expect("inserted above if missing");
        slots.waiters.push(ticket, avoid, waiter);
        self.census.waiters += 1;
        (ticket, self.settle(key, now))
    }

    /// Someone no longer waits. Yields the waiter, unless nobody waits with that ticket any more anyway.
    pub(super) fn cancel(
        &mut self,
        key: &K,
        ticket: Ticket,
        now: Instant,
    ) -> Option<(W, Outcome<K, C, W, F>)> {
        let waiter = self.keys.get_mut(key)?.waiters.cancel(ticket)?;
        self.census.waiters -= 1;
        Some((waiter, self.settle(key, now)))
    }

    /// A dial succeeded. Also says whether the connection is in the book: nobody may want it any more.
    pub(super) fn handle_dialed(
        &mut self,
        key: &K,
        id: ConnectionId,
        connection: C,
        now: Instant,
    ) -> (bool, Outcome<K, C, W, F>) {
        let is_wanted = self.remove_dial(key, id);
        let Some(slots) = self.keys.get_mut(key).filter(|_| is_wanted) else {
            let unwanted = Outcome { dropped: vec![connection], ..Outcome::default() };
            return (false, self.settle_into(key, now, unwanted));
        };
        self.backoff.forget(key);
        let retire_at = self.limits.max_age.map(|age| now + self.backoff.jittered(age));
        slots.connections.push(Slot {
            id,
            connection,
            active: 0,
            limit: 1,
            confirmed: false,
            idle_since: now,
            retire_at,
            last_grant: 0,
        });
        self.census.connections += 1;
        self.census.idle += 1;
        (true, self.settle(key, now))
    }

    /// A dial failed: refuses those whom nothing else will serve.
    pub(super) fn handle_dial_failed(
        &mut self,
        key: &K,
        id: ConnectionId,
        cause: F,
        now: Instant,
    ) -> Outcome<K, C, W, F> {
        if !self.remove_dial(key, id) {
            return self.settle(key, now);
        }
        self.backoff.record(key, cause, now);
        let mut outcome = Outcome::default();
        self.serve(key, now, &mut outcome);
        for (_, refusal) in &mut outcome.refusals {
            if let Refusal::Backoff(failure) = refusal {
                *refusal = Refusal::Dial(failure.cause.clone());
            }
        }
        self.serve_starved(now, &mut outcome);
        outcome
    }

    /// Forgets failures that are old enough, as whoever has to wait does. Cost: none until there is one.
    pub(super) fn forget_failures(&mut self, now: Instant) {
        self.backoff.expire(now);
    }

    /// The peer said how many tunnels it takes.
    pub(super) fn handle_limit(
        &mut self,
        key: &K,
        id: ConnectionId,
        peer_limit: usize,
        now: Instant,
    ) -> Outcome<K, C, W, F> {
        let Some(slots) = self.keys.get_mut(key) else { return Outcome::default() };
        // A peer whose present limit is zero is not helped by more connections: one request waits for it.
        let limit = peer_limit.clamp(1, self.limits.tunnels);
        if let Some(slot) = slots.slot(id) {
            (slot.limit, slot.confirmed) = (limit, true);
            slots.typical = limit;
        }
        self.settle(key, now)
    }

    /// A connection may be less loaded than it was.
    pub(super) fn handle_relief(&mut self, key: &K, now: Instant) -> Outcome<K, C, W, F> {
        self.settle(key, now)
    }

    /// A tunnel ended.
    pub(super) fn handle_released(&mut self, key: &K, id: ConnectionId, now: Instant) -> Outcome<K, C, W, F> {
        if let Some(slot) = self.keys.get_mut(key).and_then(|slots| slots.slot(id)) {
            slot.active = slot.active.saturating_sub(1);
            slot.idle_since = now;
            self.census.idle += usize::from(slot.active == 0);
            return self.settle(key, now);
        }
        if let Some(active) = self.leaving.get_mut(&id) {
            *active = active.saturating_sub(1);
            if *active == 0 {
                self.forget_leaving(id);
                return self.settle(key, now);
            }
        }
        Outcome::default()
    }

    /// A connection takes no more tunnels; those it has may live on.
    pub(super) fn handle_unusable(&mut self, key: &K, id: ConnectionId, now: Instant) -> Outcome<K, C, W, F> {
        let mut outcome = Outcome::default();
        self.let_go(key, id, &mut outcome);
        self.settle_into(key, now, outcome)
    }

    /// A connection is over.
    pub(super) fn handle_closed(&mut self, key: &K, id: ConnectionId, now: Instant) -> Outcome<K, C, W, F> {
        self.forget_leaving(id);
        let slot = self.keys.get_mut(key).and_then(|slots| slots.remove(id, &mut self.census));
        let mut outcome = self.settle(key, now);
        outcome.dropped.extend(slot.map(|slot| slot.connection));
        outcome
    }

    /// Lets a connection go if it has been without tunnels, or has lived, for too long.
    pub(super) fn handle_timer(
        &mut self,
        key: &K,
        id: ConnectionId,
        now: Instant,
    ) -> (NextCheck, Outcome<K, C, W, F>) {
        let timeout = self.limits.idle_timeout;
        let Some(slots) = self.keys.get_mut(key) else { return (NextCheck::Never, Outcome::default()) };
        // Who waits although it is free may yet have to take it.
        let in_use = !slots.waiters.is_empty();
        let Some(slot) = slots.slot(id) else { return (NextCheck::Never, Outcome::default()) };
        let idle_until = if slot.active > 0 || in_use { now + timeout } else { slot.idle_since + timeout };
        let until = slot.retire_at.map_or(idle_until, |retire_at| retire_at.min(idle_until));
        if until > now {
            return (NextCheck::At(until), Outcome::default());
        }
        let mut outcome = Outcome::default();
        self.let_go(key, id, &mut outcome);
        (NextCheck::Never, self.settle_into(key, now, outcome))
    }

    /// Lets go of all connections and dials of the keys for which `is_stale`: they get no more tunnels, and those who
    /// wait get new ones.
    pub(super) fn retire(
        &mut self,
        mut is_stale: impl FnMut(&K) -> bool,
        now: Instant,
    ) -> Outcome<K, C, W, F> {
        let stale: Vec<_> = self.keys.keys().filter(|key| is_stale(key)).cloned().collect();
        self.backoff.retain(|key| !is_stale(key));
        let mut outcome = Outcome::default();
        for key in stale {
            self.let_go_of_all(&key, &mut outcome);
            outcome = self.settle_into(&key, now, outcome);
        }
        outcome
    }

    /// Forgets the keys that `keep` does not want: their connections and dials are let go, and who waits is refused.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool, now: Instant) -> Outcome<K, C, W, F> {
        let gone: Vec<_> = self.keys.keys().filter(|key| !keep(key)).cloned().collect();
        self.backoff.retain(keep);
        self.remove_keys(&gone, &Refusal::Evicted, now)
    }

    /// Forgets a key: its connections and dials are let go, and who waits is refused.
    pub(super) fn evict(&mut self, key: &K, now: Instant) -> Outcome<K, C, W, F> {
        self.backoff.forget(key);
        self.remove_keys(std::slice::from_ref(key), &Refusal::Evicted, now)
    }

    /// Forgets all keys for good.
    pub(super) fn drain(&mut self, now: Instant) -> Outcome<K, C, W, F> {
        self.draining = true;
        self.backoff.retain(|_| false);
        let all: Vec<_> = self.keys.keys().cloned().collect();
        self.remove_keys(&all, &Refusal::Draining, now)
    }

    /// How much there is of everything.
    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            keys: self.keys.len(),
            connections: self.census.connections,
            dialling: self.census.dials,
            idle: self.census.idle,
            leaving: self.leaving.len(),
            waiting: self.census.waiters,
            failing: self.backoff.len(),
        }
    }

    fn settle(&mut self, key: &K, now: Instant) -> Outcome<K, C, W, F> {
        self.settle_into(key, now, Outcome::default())
    }

    /// Serves a key, then those for whom there is room now.
    fn settle_into(
        &mut self,
        key: &K,
        now: Instant,
        mut outcome: Outcome<K, C, W, F>,
    ) -> Outcome<K, C, W, F> {
        self.serve(key, now, &mut outcome);
        self.serve_starved(now, &mut outcome);
        outcome
    }

    fn serve_starved(&mut self, now: Instant, outcome: &mut Outcome<K, C, W, F>) {
        // Who cannot be served after all goes to the end of the queue.
        for _ in 0..self.starved.len() {
            if self.total() >= self.limits.total && self.census.idle == 0 {
                return;
            }
            let Some(key) = self.starved.pop_front() else { return };
            if let Some(slots) = self.keys.get_mut(&key) {
                slots.starved = false;
                self.serve(&key, now, outcome);
            }
        }
    }

    /// Serves whom it can, plans for the others, and refuses those for whom there is nothing to plan.
    fn serve(&mut self, key: &K, now: Instant, outcome: &mut Outcome<K, C, W, F>) {
        let Some(slots) = self.keys.get_mut(key) else { return };
        if !slots.waiters.is_empty() {
            slots.serve(false, &self.limits, &mut self.census, outcome);
            self.plan_dials(key, now, outcome);
            self.serve_the_rest(key, now, outcome);
        }
        self.forget_unused(key);
    }

    fn plan_dials(&mut self, key: &K, now: Instant, outcome: &mut Outcome<K, C, W, F>) {
        loop {
            let Some(slots) = self.keys.get(key) else { return };
            let is_enough =
                slots.unserved(&self.limits).is_none() || slots.count() >= self.limits.connections;
            if is_enough || self.backoff.failure(key, now).is_some() {
                return;
            }
            let has_room = self.total() < self.limits.total || self.reclaim(outcome);
            let Some(slots) = self.keys.get_mut(key) else { return };
            if !has_room {
                if !slots.starved {
                    slots.starved = true;
                    self.starved.push_back(key.clone());
                }
                return;
            }
            let id = ConnectionId(next(&mut self.next_id));
            slots.dials.push(id);
            self.census.dials += 1;
            outcome.dials.push((key.clone(), id));
        }
    }

    /// Once nothing more is planned for those who still wait, whatever is there has to do; without anything, they are
    /// refused.
    fn serve_the_rest(&mut self, key: &K, now: Instant, outcome: &mut Outcome<K, C, W, F>) {
        let Some(slots) = self.keys.get_mut(key) else { return };
        if slots.dials.is_empty() {
            slots.serve(true, &self.limits, &mut self.census, outcome);
        }
        let failure = self.backoff.failure(key, now);
        loop {
            let refused =
                slots.hopeless().or_else(|| slots.unserved(&self.limits).filter(|_| failure.is_some()));
            let Some(waiter) = refused.and_then(|index| slots.waiters.remove(index)) else { return };
            self.census.waiters -= 1;
            let refusal = failure.map_or(Refusal::Exhausted, |failure| Refusal::Backoff(failure.clone()));
            outcome.refusals.push((waiter, refusal));
        }
    }

    /// Makes room in the total by letting go of the connection that has been idle for longest, of any key.
    fn reclaim(&mut self, outcome: &mut Outcome<K, C, W, F>) -> bool {
        if self.census.idle == 0 {
            return false;
        }
        // Who waits although a connection is free may yet have to take it.
        let unwanted = self.keys.iter().filter(|(_, slots)| slots.waiters.is_empty());
        let idle = unwanted.flat_map(|(key, slots)| {
            let idle = slots.connections.iter().filter(|slot| slot.active == 0);
            idle.map(move |slot| (slot.idle_since, key, slot.id))
        });
        let longest = idle.min_by_key(|(since, ..)| *since).map(|(_, key, id)| (key.clone(), id));
        let Some((key, id)) = longest else { return false };
        self.let_go(&key, id, outcome);
        self.forget_unused(&key);
        true
    }

    /// How many connections there are, or will be.
    fn total(&self) -> usize {
        self.census.connections + self.census.dials + self.leaving.len()
    }

    /// Takes a connection out of its key; it lives on until its last tunnel ends.
    fn let_go(&mut self, key: &K, id: ConnectionId, outcome: &mut Outcome<K, C, W, F>) {
        let slot = self.keys.get_mut(key).and_then(|slots| slots.remove(id, &mut self.census));
        let Some(slot) = slot else { return };
        if slot.active > 0 {
            self.leaving.insert(id, slot.active);
        }
        outcome.dropped.push(slot.connection);
    }

    fn let_go_of_all(&mut self, key: &K, outcome: &mut Outcome<K, C, W, F>) {
        let Some(slots) = self.keys.get_mut(key) else { return };
        self.census.dials -= slots.dials.len();
        self.leaving.extend(slots.dials.drain(..).map(|id| (id, 1)));
        for slot in slots.connections.drain(..) {
            self.census.connections -= 1;
            self.census.idle -= usize::from(slot.active == 0);
            if slot.active > 0 {
                self.leaving.insert(slot.id, slot.active);
            }
            outcome.dropped.push(slot.connection);
        }
    }

    fn remove_keys(&mut self, keys: &[K], refusal: &Refusal<F>, now: Instant) -> Outcome<K, C, W, F> {
        let mut outcome = Outcome::default();
        for key in keys {
            self.let_go_of_all(key, &mut outcome);
            let Some(slots) = self.keys.remove(key) else { continue };
            if slots.starved {
                self.starved.retain(|starved| starved != key);
            }
            self.census.waiters -= slots.waiters.len();
            let waiters = slots.waiters.into_waiters();
            outcome.refusals.extend(waiters.map(|waiter| (waiter, refusal.clone())));
        }
        shrink(&mut self.keys);
        self.serve_starved(now, &mut outcome);
        outcome
    }

    /// Takes note that a dial is over; says whether it was still wanted.
    fn remove_dial(&mut self, key: &K, id: ConnectionId) -> bool {
        self.forget_leaving(id);
        let Some(slots) = self.keys.get_mut(key) else { return false };
        let Some(index) = slots.dials.iter().position(|dial| *dial == id) else { return false };
        slots.dials.swap_remove(index);
        self.census.dials -= 1;
        true
    }

    fn forget_leaving(&mut self, id: ConnectionId) {
        if self.leaving.remove(&id).is_some() {
            shrink(&mut self.leaving);
        }
    }

    fn forget_unused(&mut self, key: &K) {
        if self.keys.get(key).is_some_and(Slots::is_unused) {
            if self.keys.remove(key).is_some_and(|slots| slots.starved) {
                self.starved.retain(|starved| starved != key);
            }
            shrink(&mut self.keys);
        }
    }
}

fn next(id: &mut u64) -> u64 {
    *id += 1;
    *id
}

/// Gives memory back once three quarters of it are unused; rarely enough to cost nothing per key.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > MIN_CAPACITY && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

/// Below this a map is small enough to stay.
const MIN_CAPACITY: usize = 64;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
