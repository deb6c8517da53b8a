//! What gauges show, as the numbers they show it with.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; what was before is 0.
pub(super) fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
