use std::time::Instant;

use super::{ConnectionId, Limits, Load, MeasureLoad, Sharing, outcome::Outcome, queue::Queue};

/// One key's share of the book.
#[derive(Debug)]
pub(super) struct Slots<C, W> {
    pub(super) connections: Vec<Slot<C>>,
    pub(super) dials: Vec<ConnectionId>,
    pub(super) waiters: Queue<W>,
    /// How many tunnels a new connection is expected to take: as many as the last.
    pub(super) typical: usize,
    /// Whether the key wants a connection for which the total has no room.
    pub(super) starved: bool,
}

/// A connection that takes tunnels.
#[derive(Debug)]
pub(super) struct Slot<C> {
    pub(super) id: ConnectionId,
    pub(super) connection: C,
    pub(super) active: usize,
    pub(super) limit: usize,
    pub(super) confirmed: bool,
    pub(super) idle_since: Instant,
    /// When it is too old for further tunnels.
    pub(super) retire_at: Option<Instant>,
    /// Rises with each tunnel that is given to any.
    pub(super) last_grant: u64,
}

/// What the whole book counts about its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) dials: usize,
    pub(super) connections: usize,
    /// Connections without tunnels.
    pub(super) idle: usize,
    pub(super) waiters: usize,
    pub(super) grants: u64,
}

impl<C: Clone + MeasureLoad, W> Slots<C, W> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections: Vec::new(),
            dials: Vec::new(),
            waiters: Queue::new(),
            typical: limits.tunnels,
            starved: false,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.connections.is_empty() && self.dials.is_empty() && self.waiters.is_empty()
    }

    /// Connections that take tunnels or will.
    pub(super) fn count(&self) -> usize {
        self.connections.len() + self.dials.len()
    }

    pub(super) fn slot(&mut self, id: ConnectionId) -> Option<&mut Slot<C>> {
        self.connections.iter_mut().find(|slot| slot.id == id)
    }

    /// Takes a place for a tunnel on the best connection but `avoid`, unless it is better to wait for another one.
    /// `last_resort` says that there will be none.
    pub(super) fn take(
        &mut self,
        avoid: Option<ConnectionId>,
        last_resort: bool,
        limits: &Limits,
        census: &mut Census,
    ) -> Option<(C, Load)> {
        let worst = if last_resort { Load::Stalled } else { Load::Busy };
        let unused_only =
            limits.sharing == Sharing::Spread && self.count() < limits.connections && !last_resort;
        let mut best: Option<(&mut Slot<C>, Load)> = None;
        for slot in &mut self.connections {
            let has_place = slot.active < slot.limit && !(unused_only && slot.last_grant > 0);
            if !has_place || Some(slot.id) == avoid {
                continue;
            }
            let load = slot.connection.load();
            if load > worst {
                continue;
            }
            let is_better = best.as_ref().is_none_or(|(other, other_load)| match limits.sharing {
                Sharing::Fill => load < *other_load,
                Sharing::Spread => {
                    (load, slot.active, slot.last_grant) < (*other_load, other.active, other.last_grant)
                }
            });
            if !is_better {
                continue;
            }
            best = Some((slot, load));
            if load == Load::Free && limits.sharing == Sharing::Fill {
                break;
            }
        }
        let (slot, load) = best?;
        if slot.active == 0 {
            census.idle -= 1;
        }
        slot.active += 1;
        census.grants += 1;
        slot.last_grant = census.grants;
        Some((slot.connection.clone(), load))
    }

    /// Serves whom it can, in the order in which they came. `last_resort` says that nothing better is to come.
    pub(super) fn serve<K, F>(
        &mut self,
        last_resort: bool,
        limits: &Limits,
        census: &mut Census,
        outcome: &mut Outcome<K, C, W, F>,
    ) {
        let mut index = 0;
        while let Some(avoid) = self.waiters.avoided_by(index) {
            match self.take(avoid, last_resort, limits, census) {
                Some((connection, _)) => {
                    census.waiters -= 1;
                    outcome.grants.extend(self.waiters.remove(index).map(|waiter| (waiter, connection)));
                }
                // There may be a place for someone less particular.
                None if avoid.is_some() => index += 1,
                None => break,
            }
        }
    }

    /// Someone whom nothing under way is expected to serve.
    pub(super) fn unserved(&self, limits: &Limits) -> Option<usize> {
        if self.waiters.is_empty() {
            return None;
        }
        if limits.sharing == Sharing::Spread && self.count() < limits.connections {
            // Each gets a connection to itself.
            return (self.waiters.len() > self.dials.len()).then_some(0);
        }
        // Whoever still waits beside a place that is free avoids that connection, and is not served by it.
        let unconfirmed =
            || self.connections.iter().filter(|slot| !slot.confirmed && slot.active >= slot.limit);
        let expected = |slot: &Slot<C>| self.typical.saturating_sub(slot.active);
        let total = self.dials.len() * self.typical + unconfirmed().map(expected).sum::<usize>();
        if self.waiters.len() > total {
            return Some(0);
        }
        unconfirmed().find_map(|slot| {
            let (count, first) = self.waiters.avoiding(slot.id);
            first.filter(|_| count > total - expected(slot))
        })
    }

    /// Someone for whom there is neither a connection nor a dial.
    pub(super) fn hopeless(&self) -> Option<usize> {
        if !self.dials.is_empty() {
            return None;
        }
        match &self.connections[..] {
            [] => (!self.waiters.is_empty()).then_some(0),
            [only] => self.waiters.avoiding(only.id).1,
            // Nobody avoids more than one.
            _ => None,
        }
    }

    /// Takes a connection out, if it is there.
    pub(super) fn remove(&mut self, id: ConnectionId, census: &mut Census) -> Option<Slot<C>> {
        let index = self.connections.iter().position(|slot| slot.id == id)?;
        // The order says which is filled first.
        let slot = self.connections.remove(index);
        census.connections -= 1;
        census.idle -= usize::from(slot.active == 0);
        Some(slot)
    }
}
