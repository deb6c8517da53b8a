//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential and jittered, so that clients who lost a server together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    /// Doubles from `first` to `last`.
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// The wait after one more failure: between half and all of the nominal one.
    pub(crate) fn failed(&mut self) -> Duration {
        let nominal = self.first.saturating_mul(1 << self.failures.min(16)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        nominal.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts over.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last_and_start_over() {
        let (first, last) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, last);
        for nominal in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let wait = backoff.failed();
            assert!(nominal / 2 <= wait && wait <= nominal, "{wait:?} of {nominal:?}");
        }
        (0..1000).for_each(|_| assert!(backoff.failed() <= last));
        backoff.succeeded();
        assert!(backoff.failed() <= first);
    }
}
