use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

/// The pool's bookkeeping: which connections there are per key, how many tunnels each has, who waits for one, and who
/// dials. It decides; the pool acts. `C` stands for a connection, `W` for one who waits.
///
/// A connection goes through these states; tunnels are handed out on those that are open:
///
/// ```text
///   wait ──▶ dialling ──handle_dialed──▶ unconfirmed ──handle_limit──▶ open ──handle_idle_check──▶ gone
///                │                       (one tunnel)                   │        evict, drain
///                └──handle_dial_failed──▶ gone ◀──────handle_closed─────┘
/// ```
///
/// A peer's limit is known only once its settings have arrived, so a new connection takes one tunnel until then, and
/// those who wait beyond that keep waiting for what it turns out to take. A further connection is dialled when more
/// wait than connections under way are expected to take.
#[derive(Debug)]
pub(super) struct Book<K, C, W> {
    limits: Limits,
    keys: HashMap<K, Slots<C, W>>,
    next_id: u64,
    draining: bool,
}

/// What the bookkeeping may not exceed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Tunnels per connection.
    pub(super) tunnels: usize,
    /// Connections per key, including those being dialled.
    pub(super) connections: usize,
    /// Waiters per key.
    pub(super) waiters: usize,
}

/// A connection, from the moment it is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

/// A place in the queue for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket(u64);

/// What is to be done after an event.
#[derive(Debug)]
pub(super) struct Outcome<C, W> {
    /// Who gets a tunnel on which connection.
    pub(super) grants: Vec<(W, C)>,
    /// Connections to be dialled.
    pub(super) dials: Vec<ConnectionId>,
}

/// Why nobody may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitRefusal {
    /// Too many wait already.
    Busy,
    /// The pool is draining.
    Draining,
}

/// What an idle check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// The connection has left the pool.
    Expired,
    /// Check again then.
    CheckAt(Instant),
}

impl<K, C, W> Book<K, C, W>
where
    K: Clone + Eq + Hash,
    C: Clone,
{
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, keys: HashMap::new(), next_id: 0, draining: false }
    }

    /// Takes a free place for a tunnel, on any connection but `avoid`. The oldest connection is filled first, so that
    /// later ones can fall idle.
    pub(super) fn checkout(&mut self, key: &K, avoid: Option<ConnectionId>) -> Option<C> {
        self.keys.get_mut(key)?.take_free(avoid)
    }

    /// Queues for a place; also says whether a connection is to be dialled for it.
    pub(super) fn wait(
        &mut self,
        key: &K,
        avoid: Option<ConnectionId>,
        waiter: W,
    ) -> Result<(Ticket, Option<ConnectionId>), WaitRefusal> {
        if self.draining {
            return Err(WaitRefusal::Draining);
        }
        if !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), Slots::new(self.limits));
        }
        let slots = self.keys.get_mut(key).expect("inserted above if missing");
        if slots.waiters.len() >= self.limits.waiters {
            return Err(WaitRefusal::Busy);
        }
        let ticket = Ticket(next(&mut self.next_id));
        slots.waiters.push_back(Waiter { ticket, avoid, waiter });
        // One more waiter is one more dial at most.
        Ok((ticket, slots.plan_dials(&mut self.next_id).pop()))
    }

    /// Someone no longer waits.
    pub(super) fn cancel(&mut self, key: &K, ticket: Ticket) {
        if let Some(slots) = self.keys.get_mut(key) {
            slots.waiters.retain(|waiter| waiter.ticket != ticket);
            self.forget_unused(key);
        }
    }

    /// A dial succeeded. `None` if nobody wants the connection any more.
    pub(super) fn handle_dialed(
        &mut self,
        key: &K,
        id: ConnectionId,
        connection: C,
        now: Instant,
    ) -> Option<Outcome<C, W>> {
        let slots = self.keys.get_mut(key)?;
        let dial = slots.dials.iter().position(|dial| *dial == id)?;
        slots.dials.swap_remove(dial);
        slots.connections.push(Slot {
            id,
            connection,
            active: 0,
            limit: 1,
            confirmed: false,
            idle_since: now,
        });
        Some(slots.settle(&mut self.next_id))
    }

    /// A dial failed; yields those who waited for it.
    pub(super) fn handle_dial_failed(&mut self, key: &K, id: ConnectionId) -> Vec<W> {
        let Some(slots) = self.keys.get_mut(key) else { return Vec::new() };
        slots.dials.retain(|dial| *dial != id);
        // Those whom the remaining dials are expected to serve keep waiting.
        let excess = slots.waiters.len().saturating_sub(slots.expected());
        let failed = slots.waiters.drain(..excess).map(|waiter| waiter.waiter).collect();
        self.forget_unused(key);
        failed
    }

    /// The peer said how many tunnels it takes.
    pub(super) fn handle_limit(&mut self, key: &K, id: ConnectionId, peer_limit: usize) -> Outcome<C, W> {
        let Some(slots) = self.keys.get_mut(key) else { return Outcome::default() };
        // A peer that takes none for now is not helped by more connections: one request waits for it.
        let limit = peer_limit.clamp(1, self.limits.tunnels);
        if let Some(slot) = slots.connections.iter_mut().find(|slot| slot.id == id) {
            (slot.limit, slot.confirmed) = (limit, true);
            slots.typical = limit;
        }
        slots.settle(&mut self.next_id)
    }

    /// A tunnel ended.
    pub(super) fn handle_released(&mut self, key: &K, id: ConnectionId, now: Instant) -> Outcome<C, W> {
        let Some(slots) = self.keys.get_mut(key) else { return Outcome::default() };
        if let Some(slot) = slots.connections.iter_mut().find(|slot| slot.id == id) {
            slot.active = slot.active.saturating_sub(1);
            slot.idle_since = now;
        }
        slots.settle(&mut self.next_id)
    }

    /// A connection takes no more tunnels.
    pub(super) fn handle_closed(&mut self, key: &K, id: ConnectionId) -> Outcome<C, W> {
        let Some(slots) = self.keys.get_mut(key) else { return Outcome::default() };
        slots.connections.retain(|slot| slot.id != id);
        let outcome = slots.settle(&mut self.next_id);
        self.forget_unused(key);
        outcome
    }

    /// Looks whether a connection has been without tunnels for `timeout`, and if so lets it go.
    pub(super) fn handle_idle_check(
        &mut self,
        key: &K,
        id: ConnectionId,
        timeout: Duration,
        now: Instant,
    ) -> Idle {
        let Some(slots) = self.keys.get(key) else { return Idle::Expired };
        let Some(slot) = slots.connections.iter().find(|slot| slot.id == id) else { return Idle::Expired };
        // Who waits although it is free may yet have to take it.
        if slot.active > 0 || !slots.waiters.is_empty() {
            return Idle::CheckAt(now + timeout);
        }
        if slot.idle_since + timeout > now {
            return Idle::CheckAt(slot.idle_since + timeout);
        }
        self.handle_closed(key, id);
        Idle::Expired
    }

    /// Lets go of all connections of the keys that `keep` does not want; yields those who waited for one.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) -> Vec<W> {
        let gone = self.keys.extract_if(|key, _| !keep(key));
        let waiters = gone.flat_map(|(_, slots)| slots.waiters).map(|waiter| waiter.waiter).collect();
        self.shrink();
        waiters
    }

    /// Lets go of all connections of a key; yields those who waited for one.
    pub(super) fn evict(&mut self, key: &K) -> Vec<W> {
        let Some(slots) = self.keys.remove(key) else { return Vec::new() };
        self.shrink();
        slots.waiters.into_iter().map(|waiter| waiter.waiter).collect()
    }

    /// Lets go of all connections for good; yields all who wait.
    pub(super) fn drain(&mut self) -> Vec<W> {
        self.draining = true;
        self.retain(|_| false)
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.keys.values().map(|slots| slots.connections.len()).sum()
    }

    fn forget_unused(&mut self, key: &K) {
        if self.keys.get(key).is_some_and(Slots::is_unused) {
            self.keys.remove(key);
            self.shrink();
        }
    }

    /// Gives memory back once three quarters of it are unused; rarely enough to cost nothing per key.
    fn shrink(&mut self) {
        if self.keys.capacity() > MIN_CAPACITY && self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
    }
}

impl<C, W> Default for Outcome<C, W> {
    fn default() -> Self {
        Self { grants: Vec::new(), dials: Vec::new() }
    }
}

/// One key's share of the book.
#[derive(Debug)]
struct Slots<C, W> {
    limits: Limits,
    connections: Vec<Slot<C>>,
    dials: Vec<ConnectionId>,
    waiters: VecDeque<Waiter<W>>,
    /// How many tunnels a new connection is expected to take: as many as the last.
    typical: usize,
}

#[derive(Debug)]
struct Slot<C> {
    id: ConnectionId,
    connection: C,
    active: usize,
    limit: usize,
    confirmed: bool,
    idle_since: Instant,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    avoid: Option<ConnectionId>,
    waiter: W,
}

impl<C: Clone, W> Slots<C, W> {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: Vec::new(),
            dials: Vec::new(),
            waiters: VecDeque::new(),
            typical: limits.tunnels,
        }
    }

    fn is_unused(&self) -> bool {
        self.connections.is_empty() && self.dials.is_empty() && self.waiters.is_empty()
    }

    fn take_free(&mut self, avoid: Option<ConnectionId>) -> Option<C> {
        let slot =
            self.connections.iter_mut().find(|slot| slot.active < slot.limit && Some(slot.id) != avoid)?;
        slot.active += 1;
        Some(slot.connection.clone())
    }

    /// Serves whom it can, in the order in which they came, and plans for the others.
    fn settle(&mut self, next_id: &mut u64) -> Outcome<C, W> {
        let mut grants = Vec::new();
        let mut index = 0;
        while let Some(avoid) = self.waiters.get(index).map(|waiter| waiter.avoid) {
            match self.take_free(avoid) {
                Some(connection) => {
                    grants.extend(self.waiters.remove(index).map(|waiter| (waiter.waiter, connection)));
                }
                // There may be a place for someone less particular.
                None if avoid.is_some() => index += 1,
                None => break,
            }
        }
        Outcome { grants, dials: self.plan_dials(next_id) }
    }

    fn plan_dials(&mut self, next_id: &mut u64) -> Vec<ConnectionId> {
        let mut planned = Vec::new();
        while self.waiters.len() > self.expected()
            && self.connections.len() + self.dials.len() < self.limits.connections
        {
            let id = ConnectionId(next(next_id));
            self.dials.push(id);
            planned.push(id);
        }
        planned
    }

    /// How many of those who wait are expected to be served by what is under way.
    fn expected(&self) -> usize {
        // Whoever still waits beside a place that is free avoids that connection, and is not served by it.
        let unconfirmed = self.connections.iter().filter(|slot| !slot.confirmed && slot.active >= slot.limit);
        let unconfirmed: usize = unconfirmed.map(|slot| self.typical.saturating_sub(slot.active)).sum();
        self.dials.len() * self.typical + unconfirmed
    }
}

fn next(id: &mut u64) -> u64 {
    *id += 1;
    *id
}

/// Below this a map is small enough to stay.
const MIN_CAPACITY: usize = 64;

#[cfg(test)]
mod tests;
