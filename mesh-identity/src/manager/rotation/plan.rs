//! The arithmetic of rotation.

use std::time::{Duration, SystemTime};

use super::super::{moment::Moment, settings::RenewalWindow};
use crate::verify::CLOCK_SKEW;

/// From when until when a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Validity {
    pub(in super::super) not_before: SystemTime,
    /// Inclusive, in whole seconds.
    pub(in super::super) not_after: SystemTime,
}

impl Validity {
    pub(in super::super) fn is_over(&self, wall: SystemTime) -> bool {
        wall >= self.end()
    }

    /// A certificate whose time begins within the tolerance is taken.
    pub(super) fn is_ahead(&self, wall: SystemTime) -> bool {
        self.not_before > wall + CLOCK_SKEW
    }

    /// The first moment after it.
    pub(super) fn end(&self) -> SystemTime {
        self.not_after + Duration::from_secs(1)
    }

    /// When to renew a certificate that was received `now`, at the point `draw` (0 to 1) of the window.
    ///
    /// Its life is counted from its receipt if it began before: an authority may backdate what it issues by more than
    /// it is valid for, and half of *that* life is past already.
    pub(super) fn renew_at(
        &self,
        now: &Moment,
        window: RenewalWindow,
        draw: f64,
        min_interval: Duration,
    ) -> SystemTime {
        let start = self.not_before.max(now.wall);
        let life = self.not_after.duration_since(start).unwrap_or_default();
        let fraction = window.from + (window.until - window.from) * draw;
        (start + life.mul_f64(fraction.clamp(0.0, 1.0))).max(now.wall + min_interval)
    }
}

/// The pause after so many failures in a row: doubled each time up to the last, and of that between half and all, so that
/// those who failed together do not come back together.
pub(super) fn backoff(failures: u32, first: Duration, last: Duration, draw: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(last).mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn now(seconds: u64) -> Moment {
        Moment { instant: Instant::now(), wall: at(seconds) }
    }

    const SECOND: Duration = Duration::from_secs(1);

    // identity#43
    #[test]
    fn without_jitter_a_certificate_is_renewed_exactly_at_the_ratio() {
        let window = RenewalWindow::new(0.5, 0.5).unwrap();
        let validity = Validity { not_before: at(0), not_after: at(1000) };
        for draw in [0.0, 0.3, 1.0] {
            assert_eq!(validity.renew_at(&now(0), window, draw, SECOND), at(500));
        }
    }

    // identity#43, identity#44
    #[test]
    fn renewals_fill_the_window_and_do_not_leave_it() {
        let window = RenewalWindow::new(0.5, 0.75).unwrap();
        let validity = Validity { not_before: at(0), not_after: at(1000) };
        let due = |draw| validity.renew_at(&now(0), window, draw, SECOND);
        assert_eq!((due(0.0), due(0.5), due(1.0)), (at(500), at(625), at(750)));
    }

    // identity#51
    #[test]
    fn life_counts_from_the_receipt_and_never_ends_before_the_least_interval() {
        let window = RenewalWindow::new(0.5, 0.5).unwrap();
        // Backdated by two minutes and valid for twenty seconds: half of the whole is long past.
        let backdated = Validity { not_before: at(0), not_after: at(140) };
        assert_eq!(backdated.renew_at(&now(120), window, 0.0, SECOND), at(130));
        let tiny = Validity { not_before: at(0), not_after: at(1) };
        assert_eq!(tiny.renew_at(&now(0), window, 0.0, 5 * SECOND), at(5));
        let past = Validity { not_before: at(0), not_after: at(10) };
        assert_eq!(past.renew_at(&now(60), window, 0.0, SECOND), at(61));
    }

    #[test]
    fn the_last_second_counts() {
        let validity = Validity { not_before: at(0), not_after: at(10) };
        assert!(!validity.is_over(at(10)) && validity.is_over(at(11)));
        assert!(Validity { not_before: at(61), not_after: at(90) }.is_ahead(at(0)));
        assert!(!Validity { not_before: at(60), not_after: at(90) }.is_ahead(at(0)));
    }

    // identity#46
    #[test]
    fn pauses_double_up_to_the_last() {
        let pause = |failures, draw| backoff(failures, SECOND, 60 * SECOND, draw);
        let longest: Vec<_> = (1..=8).map(|failures| pause(failures, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(3, 0.0), 2 * SECOND);
        assert_eq!(pause(u32::MAX, 1.0), 60 * SECOND);
    }
}
