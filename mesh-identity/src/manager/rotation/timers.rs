//! One timer for all identities.

use std::{collections::BTreeSet, time::Instant};

use crate::SpiffeId;

/// When to look at which identity next. Each has at most one entry, which it remembers.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, SpiffeId)>);

impl Timers {
    /// Moves the timer of `id` from one moment to another.
    pub(super) fn set(&mut self, id: &SpiffeId, from: Option<Instant>, to: Option<Instant>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.0.remove(&(from, id.clone()));
        }
        if let Some(to) = to {
            self.0.insert((to, id.clone()));
        }
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<SpiffeId> {
        let (at, _) = self.0.first()?;
        if *at > now { None } else { self.0.pop_first().map(|(_, id)| id) }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }
}
