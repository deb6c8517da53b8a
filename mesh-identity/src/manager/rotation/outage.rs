//! Whether the authority answers at all.

use std::time::{Duration, Instant};

use super::plan::backoff;

/// Counts calls that reached nobody. After some in a row the authority counts as down: one call at a time finds out
/// whether it is back, in the name of all who wait. So a long outage costs the authority next to nothing, and its end is
/// noticed within seconds.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failures: u32,
    probe_at: Option<Instant>,
}

impl Outage {
    pub(super) fn is_on(&self) -> bool {
        self.probe_at.is_some()
    }

    /// When the next call may start, in an outage.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// How many calls may be under way.
    pub(super) fn limit(&self, now: Instant, normal: usize) -> usize {
        match self.probe_at {
            None => normal,
            Some(at) => usize::from(at <= now),
        }
    }

    /// A call reached nobody. Says whether that was the one with which the outage began.
    pub(super) fn missed(&mut self, now: Instant, draw: f64) -> bool {
        let was_on = self.is_on();
        self.failures = self.failures.saturating_add(1);
        if self.failures >= THRESHOLD {
            let pause = backoff(self.failures - THRESHOLD + 1, FIRST_PROBE, LAST_PROBE, draw);
            self.probe_at = Some(now + pause);
        }
        self.is_on() && !was_on
    }

    /// The authority answered, whatever it said.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

/// One unreachable call may be that identity's bad luck.
const THRESHOLD: u32 = 3;
const FIRST_PROBE: Duration = Duration::from_millis(500);
const LAST_PROBE: Duration = Duration::from_secs(5);
