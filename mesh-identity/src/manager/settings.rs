//! How certificates are rotated.

use std::{num::NonZeroUsize, time::Duration};

/// How certificates are rotated. Every setting has a default that suits a node proxy. Durations of more than ten years
/// count as ten years.
///
/// ```
/// # fn main() -> Result<(), mesh_identity::RenewalWindowError> {
/// use std::{num::NonZeroUsize, time::Duration};
/// use mesh_identity::{RenewalWindow, RotationSettings};
///
/// let settings = RotationSettings::default()
///     .lifetime(Duration::from_secs(3600))
///     .renewal_window(RenewalWindow::new(0.5, 0.5)?) // Istio's: at half-life, without jitter
///     .max_calls(NonZeroUsize::new(4).unwrap());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RotationSettings {
    pub(super) lifetime: Duration,
    pub(super) renewal_window: RenewalWindow,
    pub(super) max_calls: NonZeroUsize,
    pub(super) call_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) min_interval: Duration,
    pub(super) max_backoff: Duration,
    pub(super) grace: Duration,
    pub(super) withdrawal_spread: Duration,
    pub(super) max_identities: usize,
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(24 * 60 * 60),
            renewal_window: RenewalWindow { from: 0.5, until: 0.8 },
            max_calls: const { NonZeroUsize::new(8).unwrap() },
            call_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            min_interval: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            withdrawal_spread: Duration::from_secs(5 * 60),
            max_identities: 16_384,
        }
    }
}

impl RotationSettings {
    /// Sets the lifetime to ask the authority for. Default 24 hours, as Istio asks.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime: lifetime.min(LONGEST), ..self }
    }

    /// Sets when in its life a certificate is renewed. Default between 50 and 80 %.
    #[must_use]
    pub fn renewal_window(self, renewal_window: RenewalWindow) -> Self {
        Self { renewal_window, ..self }
    }

    /// Bounds the calls to the authority at one time. Default 8, the reference's.
    #[must_use]
    pub fn max_calls(self, max_calls: NonZeroUsize) -> Self {
        Self { max_calls, ..self }
    }

    /// Bounds one call to the authority; past it the call is dropped and counts as failed. Default 10 s.
    #[must_use]
    pub fn call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout: call_timeout.min(LONGEST), ..self }
    }

    /// Bounds how long whoever asks for an identity waits, queueing included. Default 15 s.
    #[must_use]
    pub fn request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout: request_timeout.min(LONGEST), ..self }
    }

    /// Sets the least time between two calls for one identity, whatever its certificates say and whoever asks. Default
    /// 1 s; certificates that live for less than some times this are not of use.
    #[must_use]
    pub fn min_interval(self, min_interval: Duration) -> Self {
        Self { min_interval: min_interval.min(LONGEST), ..self }
    }

    /// Bounds the pause after repeated failures for one identity, which doubles from `min_interval`. Default 60 s.
    #[must_use]
    pub fn max_backoff(self, max_backoff: Duration) -> Self {
        Self { max_backoff: max_backoff.min(LONGEST), ..self }
    }

    /// Sets how long an identity is kept after it was withdrawn, in case it comes back as when a workload restarts.
    /// Default 30 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace: grace.min(LONGEST), ..self }
    }

    /// Sets within what time identities are renewed after the authority stopped to name a root that they still trust.
    /// Default 5 minutes.
    #[must_use]
    pub fn withdrawal_spread(self, withdrawal_spread: Duration) -> Self {
        Self { withdrawal_spread: withdrawal_spread.min(LONGEST), ..self }
    }

    /// Bounds the number of identities; more are refused. Default 16,384, of about 2 KiB each.
    #[must_use]
    pub fn max_identities(self, max_identities: usize) -> Self {
        Self { max_identities, ..self }
    }
}

/// More is for ever, and times that far ahead can be reckoned with on every clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The part of a certificate's life in which it is renewed: each at a random point of it, so that certificates which were
/// issued together are not renewed together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenewalWindow {
    pub(super) from: f64,
    pub(super) until: f64,
}

impl RenewalWindow {
    /// A window as fractions of the life, 0.5 for half of it. Equal ends mean exactly then.
    ///
    /// # Errors
    ///
    /// Unless `0 < from ≤ until < 1`.
    pub fn new(from: f64, until: f64) -> Result<Self, RenewalWindowError> {
        if 0.0 < from && from <= until && until < 1.0 {
            Ok(Self { from, until })
        } else {
            Err(RenewalWindowError { from, until })
        }
    }
}

/// A renewal window is no part of a life.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("renewal window from {from} until {until} is not within a certificate's life")]
pub struct RenewalWindowError {
    from: f64,
    until: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_that_no_clock_can_reckon_with_is_ten_years() {
        let settings = RotationSettings::default().grace(Duration::MAX).min_interval(Duration::MAX);
        assert_eq!((settings.grace, settings.min_interval), (LONGEST, LONGEST));
    }

    #[test]
    fn a_window_lies_within_a_life() {
        for (from, until) in [(0.5, 0.8), (0.5, 0.5), (0.01, 0.99)] {
            assert!(RenewalWindow::new(from, until).is_ok());
        }
        for (from, until) in
            [(0.0, 0.5), (0.8, 0.5), (0.5, 1.0), (-0.5, 0.5), (f64::NAN, 0.5), (0.5, f64::NAN)]
        {
            assert!(RenewalWindow::new(from, until).is_err(), "{from} {until}");
        }
    }
}
