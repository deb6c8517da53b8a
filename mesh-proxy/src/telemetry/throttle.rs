use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Bounds how many log lines of one kind are written, for what peers or applications can make happen as often as they
/// like: ten a second. The metrics count all of it.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Period>);

#[derive(Debug, Default)]
struct Period {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    /// Whether to write a line at `now`; if so, how many were left out since the one before.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if period.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            period.since = Some(now);
            period.lines = 0;
        }
        if period.lines == LINES {
            period.left_out += 1;
            return None;
        }
        period.lines += 1;
        Some(std::mem::take(&mut period.left_out))
    }
}

const PERIOD: Duration = Duration::from_secs(1);
const LINES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_are_written_and_the_rest_is_counted() {
        let throttle = Throttle::default();
        let begun = Instant::now();
        for _ in 0..LINES {
            assert_eq!(throttle.admit(begun), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(throttle.admit(begun + PERIOD / 2), None);
        }
        assert_eq!(throttle.admit(begun + PERIOD), Some(7));
        assert_eq!(throttle.admit(begun + PERIOD), Some(0));
    }
}
