//! When to ping and when to give up.

use std::time::{Duration, Instant};

/// How a connection finds out that its peer is gone: a ping some time after the handshake, and then whenever nothing has
/// arrived for some time, and something expected to arrive within a limit after it.
///
/// ```text
///            interval passed                timeout passed
///            in silence                     in silence
///   Waiting ────────────────▶ Pinged ──────────────────────▶ Expired
///    ▲   │                    ▲  │ │
///    └───┘ something arrived  └──┘ │
///    ▲                             │
///    └────────── answer ───────────┘
/// ```
///
/// Traffic is noticed when a time is up, not as it comes, so that it costs nothing: the peer is given up after its last
/// byte within two intervals and a timeout, or two timeouts where those are longer.
#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    /// How much had arrived when the present state began. `None` before the first ping, which is sent in any case: what
    /// arrives first is part of the handshake.
    received: Option<u64>,
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
        Self { interval, timeout, received: None, state: State::Waiting { until: now + interval } }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Pinged { until } => Some(until),
            State::Expired => None,
        }
    }

    /// Time has passed; so many bytes have arrived until now.
    pub(crate) fn handle_timeout(&mut self, received: u64, now: Instant) -> Option<Due> {
        let is_silent = self.received.is_none_or(|before| before == received);
        let (state, due) = match self.state {
            State::Waiting { until } if until <= now => {
                if is_silent {
                    (State::Pinged { until: now + self.timeout }, Some(Due::Ping))
                } else {
                    (State::Waiting { until: now + self.interval }, None)
                }
            }
            State::Pinged { until } if until <= now => {
                if is_silent {
                    (State::Expired, Some(Due::Expire))
                } else {
                    (State::Pinged { until: now + self.timeout }, None)
                }
            }
            State::Waiting { .. } | State::Pinged { .. } | State::Expired => return None,
        };
        self.received = Some(received);
        self.state = state;
        due
    }

    /// An answer arrived, the last of so many bytes.
    pub(crate) fn handle_pong(&mut self, received: u64, now: Instant) {
        if matches!(self.state, State::Pinged { .. }) {
            self.received = Some(received);
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
        Keepalive { state, received: Some(5), ..Keepalive::new(INTERVAL, TIMEOUT, now) }
    }

    // hbone#17
    #[test]
    fn every_state_answers_every_event() {
        let now = Instant::now();
        let waiting = |until| State::Waiting { until };
        let pinged = |until| State::Pinged { until };
        let (again, limit) = (waiting(now + INTERVAL), pinged(now + TIMEOUT));
        let table = [
            // State, timeout in silence, timeout after something arrived, answer.
            (waiting(now), (Some(Due::Ping), limit), (None, again), waiting(now)),
            (again, (None, again), (None, again), again),
            (pinged(now), (Some(Due::Expire), State::Expired), (None, limit), again),
            (limit, (None, limit), (None, limit), again),
            (State::Expired, (None, State::Expired), (None, State::Expired), State::Expired),
        ];
        for (state, silent, busy, answered) in table {
            for (received, expected) in [(5, silent), (6, busy)] {
                let mut keepalive = in_state(state, now);
                let due = keepalive.handle_timeout(received, now);
                assert_eq!((due, keepalive.state), expected, "{state:?}, {received} received");
            }
            let mut keepalive = in_state(state, now);
            keepalive.handle_pong(6, now);
            assert_eq!(keepalive.state, answered, "{state:?}");
        }
    }

    #[test]
    fn next_timeout_follows_the_state() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, TIMEOUT, start);
        assert_eq!(keepalive.poll_timeout(), Some(start + INTERVAL));
        keepalive.handle_timeout(0, start + INTERVAL);
        assert_eq!(keepalive.poll_timeout(), Some(start + INTERVAL + TIMEOUT));
        keepalive.handle_timeout(0, start + INTERVAL + TIMEOUT);
        assert_eq!(keepalive.poll_timeout(), None);
    }

    #[test]
    fn answer_is_not_itself_traffic() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, TIMEOUT, start);
        keepalive.handle_timeout(0, start + INTERVAL);
        keepalive.handle_pong(17, start + INTERVAL);
        assert_eq!(keepalive.handle_timeout(17, start + 2 * INTERVAL), Some(Due::Ping));
    }

    #[test]
    fn busy_peer_is_not_pinged() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, TIMEOUT, start);
        assert_eq!(keepalive.handle_timeout(80, start + INTERVAL), Some(Due::Ping), "the first in any case");
        keepalive.handle_pong(97, start + INTERVAL);
        for round in 2..100u32 {
            assert_eq!(keepalive.handle_timeout((97 + round).into(), start + round * INTERVAL), None);
        }
        assert_eq!(keepalive.handle_timeout(196, start + 100 * INTERVAL), Some(Due::Ping));
    }
}
