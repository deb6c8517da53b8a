//! When to ping and when to give up.

use std::time::{Duration, Instant};

/// How a connection finds out that its peer is gone: a ping some time after the handshake and after each answer, and
/// an answer expected within a limit, whatever else travels on the connection.
///
/// ```text
///            interval passed                timeout passed
///   Waiting ────────────────▶ Pinged ──────────────────────▶ Expired
///      ▲                        │
///      └──────── answer ────────┘
/// ```
#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Instant },
    Pinged { until: Instant },
    Expired,
}

/// What is to be done because time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send a ping.
    Ping,
    /// Give up the connection.
    Expire,
}

impl Keepalive {
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, state: State::Waiting { until: now + interval } }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Pinged { until } => Some(until),
            State::Expired => None,
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Pinged { until: now + self.timeout };
                Some(Due::Ping)
            }
            State::Pinged { until } if until <= now => {
                self.state = State::Expired;
                Some(Due::Expire)
            }
            State::Waiting { .. } | State::Pinged { .. } | State::Expired => None,
        }
    }

    /// An answer arrived.
    pub(crate) fn handle_pong(&mut self, now: Instant) {
        if matches!(self.state, State::Pinged { .. }) {
            self.state = State::Waiting { until: now + self.interval };
        }
    }

    /// Whether an answer is expected.
    pub(crate) fn is_awaiting_pong(&self) -> bool {
        matches!(self.state, State::Pinged { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn in_state(state: State, now: Instant) -> Keepalive {
        Keepalive { state, ..Keepalive::new(INTERVAL, TIMEOUT, now) }
    }

    // hbone#17
    #[test]
    fn every_state_answers_every_event() {
        let now = Instant::now();
        let (past, later) = (now, now + INTERVAL);
        let waiting = State::Waiting { until: now + INTERVAL };
        let pinged = State::Pinged { until: now + TIMEOUT };
        let table = [
            (State::Waiting { until: past }, Some(Due::Ping), pinged, State::Waiting { until: past }),
            (
                State::Waiting { until: later },
                None,
                State::Waiting { until: later },
                State::Waiting { until: later },
            ),
            (State::Pinged { until: past }, Some(Due::Expire), State::Expired, waiting),
            (State::Pinged { until: later }, None, State::Pinged { until: later }, waiting),
            (State::Expired, None, State::Expired, State::Expired),
        ];
        for (state, due, after_timeout, after_pong) in table {
            let mut keepalive = in_state(state, now);
            assert_eq!((keepalive.handle_timeout(now), keepalive.state), (due, after_timeout), "{state:?}");
            let mut keepalive = in_state(state, now);
            keepalive.handle_pong(now);
            assert_eq!(keepalive.state, after_pong, "{state:?}");
        }
    }

    #[test]
    fn next_timeout_follows_the_state() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, TIMEOUT, start);
        assert_eq!(keepalive.poll_timeout(), Some(start + INTERVAL));
        keepalive.handle_timeout(start + INTERVAL);
        assert_eq!(keepalive.poll_timeout(), Some(start + INTERVAL + TIMEOUT));
        keepalive.handle_timeout(start + INTERVAL + TIMEOUT);
        assert_eq!(keepalive.poll_timeout(), None);
    }
}
