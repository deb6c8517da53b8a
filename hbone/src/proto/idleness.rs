//! When a connection is of no use to anybody.

use std::time::{Duration, Instant};

/// Decides when a server's connection on which nothing is asked is given up.
///
/// ```text
///   Fresh ──request──▶ Used ◀──┐ tunnels, or a request since the last look
///     │ first_request          │
///     ▼                        │ idle: no tunnel at either look
///   Expire::Unused             └─▶ Expire::Idle
/// ```
///
/// It is looked at only when the time comes, so tunnels cost nothing: a connection is idle for between one and two
/// timeouts when it is given up.
#[derive(Debug)]
pub(crate) struct Idleness {
    first_request: Option<Duration>,
    idle: Option<Duration>,
    /// Requests at the last look.
    requests: u64,
    deadline: Option<Instant>,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expire {
    /// Tunnels there were, but not any more.
    Idle,
    /// No tunnel was ever asked for.
    Unused,
}

impl Idleness {
    pub(crate) fn new(first_request: Option<Duration>, idle: Option<Duration>, now: Instant) -> Self {
        Self { first_request, idle, requests: 0, deadline: first_request.or(idle).map(|wait| now + wait) }
    }

    /// When to look next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Looks whether it is time: `requests` have been made so far and `tunnels` are there.
    pub(crate) fn handle_timeout(&mut self, requests: u64, tunnels: usize, now: Instant) -> Option<Expire> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        if requests == 0 && self.first_request.is_some() {
            self.deadline = None;
            return Some(Expire::Unused);
        }
        if tunnels == 0 && requests == self.requests {
            self.deadline = None;
            return Some(Expire::Idle);
        }
        self.requests = requests;
        self.deadline = self.idle.map(|idle| now + idle);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(10);

    #[test]
    fn connection_without_a_request_is_unused() {
        let start = Instant::now();
        let mut idleness = Idleness::new(Some(FIRST), Some(IDLE), start);
        assert_eq!(idleness.handle_timeout(0, 0, start), None);
        assert_eq!(idleness.poll_timeout(), Some(start + FIRST));
        assert_eq!(idleness.handle_timeout(0, 0, start + FIRST), Some(Expire::Unused));
        assert_eq!(idleness.poll_timeout(), None);
    }

    #[test]
    fn connection_is_idle_without_tunnels_or_requests_between_two_looks() {
        let start = Instant::now();
        let mut now = start + FIRST;
        let mut idleness = Idleness::new(Some(FIRST), Some(IDLE), start);
        for (requests, tunnels) in [(1, 0), (1, 1), (1, 1), (2, 0)] {
            assert_eq!(idleness.handle_timeout(requests, tunnels, now), None, "{requests} {tunnels}");
            now += IDLE;
            assert_eq!(idleness.poll_timeout(), Some(now));
        }
        assert_eq!(idleness.handle_timeout(2, 0, now), Some(Expire::Idle));
    }

    #[test]
    fn each_limit_may_be_absent() {
        let start = Instant::now();
        assert_eq!(Idleness::new(None, None, start).poll_timeout(), None);
        let mut only_first = Idleness::new(Some(FIRST), None, start);
        assert_eq!(only_first.handle_timeout(1, 0, start + FIRST), None);
        assert_eq!(only_first.poll_timeout(), None);
        let mut only_idle = Idleness::new(None, Some(IDLE), start);
        assert_eq!(only_idle.handle_timeout(0, 0, start + IDLE), Some(Expire::Idle));
    }
}
