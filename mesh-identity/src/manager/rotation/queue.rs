//! Who waits for a call, most urgent first.

use std::{collections::BTreeMap, time::SystemTime};

use crate::SpiffeId;

/// Why a certificate is wanted; the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) enum Priority {
    /// Somebody waits for it.
    OnDemand,
    /// Somebody will, as far as we can tell.
    Prefetch,
    /// The present one comes of age, or an attempt failed.
    Renewal,
}

/// The place of an identity in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) priority: Priority,
    /// Of one priority the certificate that ends first comes first, then whoever came first.
    ends: Option<SystemTime>,
    order: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    turns: BTreeMap<Turn, SpiffeId>,
    lengths: [usize; 3],
    order: u64,
}

impl Queue {
    pub(super) fn push(&mut self, id: SpiffeId, priority: Priority, ends: Option<SystemTime>) -> Turn {
        self.order += 1;
        let turn = Turn { priority, ends, order: self.order };
        self.turns.insert(turn, id);
        self.count(priority, 1);
        turn
    }

    pub(super) fn pop(&mut self) -> Option<SpiffeId> {
        let (turn, id) = self.turns.pop_first()?;
        self.count(turn.priority, -1);
        Some(id)
    }

    pub(super) fn remove(&mut self, turn: Turn) {
        if self.turns.remove(&turn).is_some() {
            self.count(turn.priority, -1);
        }
    }

    /// The first, if somebody waits for it.
    pub(super) fn first_on_demand(&self) -> Option<SpiffeId> {
        let (turn, id) = self.turns.first_key_value()?;
        (turn.priority == Priority::OnDemand).then(|| id.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn len(&self, priority: Priority) -> usize {
        self.lengths.get(priority as usize).copied().unwrap_or(0)
    }

    fn count(&mut self, priority: Priority, by: isize) {
        if let Some(length) = self.lengths.get_mut(priority as usize) {
            *length = length.saturating_add_signed(by);
        }
    }
}
