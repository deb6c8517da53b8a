//! When changed files are to be read.

use std::time::{Duration, Instant};

/// Decides from what files look like, and when they were looked at, whether they are to be read: they changed since the
/// last reading, and have not for a while.
///
/// ```text
/// read ──changed──▶ restless ──same for `quiet`──▶ (read again) ──▶ read
///                      └────changed: the wait begins anew
/// ```
#[derive(Debug)]
pub(super) struct Settle<F> {
    quiet: Duration,
    read: Option<F>,
    seen: Option<(F, Instant)>,
}

impl<F: PartialEq> Settle<F> {
    /// Nothing has been read; what is seen first is to be read once it has been still for `quiet`.
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, read: None, seen: None }
    }

    pub(super) fn quiet(&mut self, quiet: Duration) {
        self.quiet = quiet;
    }

    /// The files were read when they looked so.
    pub(super) fn was_read(&mut self, looks: F) {
        self.read = Some(looks);
        self.seen = None;
    }

    /// The files look so now: whether they are to be read. Then they count as read, well or ill: what is broken stays
    /// broken until it changes.
    pub(super) fn see(&mut self, looks: F, now: Instant) -> bool {
        if self.read.as_ref() == Some(&looks) {
            self.seen = None;
            return false;
        }
        let since = match &self.seen {
            Some((seen, since)) if *seen == looks => *since,
            _ => now,
        };
        if now.saturating_duration_since(since) >= self.quiet {
            self.was_read(looks);
            true
        } else {
            self.seen = Some((looks, since));
            false
        }
    }

    /// What was read was a mixture of old and new: it has to be read again.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_change_is_read_once_it_has_been_still() {
        let start = Instant::now();
        let mut settle = Settle::new(Duration::from_millis(500));
        settle.was_read("old");
        for (milliseconds, looks, read) in [
            (0, "old", false),
            (1000, "half", false),
            (1400, "new", false),
            (1800, "new", false),
            (1900, "new", true),
            (2000, "new", false),
            (9000, "new", false),
        ] {
            assert_eq!(settle.see(looks, at(start, milliseconds)), read, "at {milliseconds}");
        }
    }

    #[test]
    fn what_changes_back_is_not_read() {
        let start = Instant::now();
        let mut settle = Settle::new(Duration::from_millis(500));
        settle.was_read("old");
        assert!(!settle.see("new", at(start, 0)));
        assert!(!settle.see("old", at(start, 400)));
        // The wait began anew.
        assert!(!settle.see("new", at(start, 600)));
        assert!(settle.see("new", at(start, 1100)));
    }

    #[test]
    fn a_mixture_is_read_again() {
        let start = Instant::now();
        let mut settle = Settle::new(Duration::from_millis(500));
        settle.was_read("new");
        settle.forget();
        assert!(!settle.see("new", at(start, 0)));
        assert!(settle.see("new", at(start, 500)));
    }

    #[test]
    fn without_a_wait_a_change_is_read_at_once() {
        let mut settle = Settle::new(Duration::ZERO);
        assert!(settle.see("new", Instant::now()));
        assert!(!settle.see("new", Instant::now()));
    }
}
