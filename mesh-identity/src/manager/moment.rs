//! One reading of both clocks.

use std::time::{Duration, Instant, SystemTime};

/// A moment, by the clock that never steps and by the one that certificates speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

impl Moment {
    /// When the wall clock will read `wall` if nobody sets it meanwhile; now if that is past.
    pub(super) fn instant_of(&self, wall: SystemTime) -> Instant {
        let ahead = wall.duration_since(self.wall).unwrap_or_default();
        // A timer further off than this is re-made long before.
        self.instant + ahead.min(HORIZON)
    }

    /// What the wall clock will read at `instant` if nobody sets it meanwhile.
    pub(super) fn wall_of(&self, instant: Instant) -> SystemTime {
        self.wall + instant.saturating_duration_since(self.instant).min(HORIZON)
    }

    /// Whether the wall clock was set between `earlier` and this moment, or the machine slept.
    pub(super) fn stepped_since(&self, earlier: &Self) -> bool {
        let expected = earlier.wall + self.instant.saturating_duration_since(earlier.instant).min(HORIZON);
        let apart = match self.wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        apart > TOLERANCE
    }
}

const HORIZON: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Readings of the wall clock are whole seconds, and it is slewed all the time.
const TOLERANCE: Duration = Duration::from_secs(2);
