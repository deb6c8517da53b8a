use std::collections::VecDeque;

/// One stream, as the peer sees it: what was done to it, and what may be seen of it by that.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// What this side is to do with the request.
    pub(super) fate: Fate,
    /// It is none for a tunnel, or is to be refused.
    pub(super) is_refused: bool,
    /// Somebody did something that lets this stream, and no other, end early.
    pub(super) disturbed: bool,
    /// The peer broke a rule of the stream, or reset it, and says no more on it.
    pub(super) is_silent: bool,
    pub(super) to_near: Flow,
    pub(super) from_near: Flow,
    pub(super) has_head: bool,
    /// This side has said all it has to say.
    pub(super) is_finished: bool,
    /// The peer reset it.
    pub(super) is_peer_reset: bool,
    /// Both halves are gone.
    pub(super) is_abandoned: bool,
    /// It was reset by this side.
    pub(super) is_reset: bool,
    /// A client's request that waits for an answer.
    pub(super) is_asked: bool,
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Accept,
    Refuse,
    Unprocessed,
    Drop,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What may still be sent (RFC 9113 §6.9.1).
    pub(super) window: i64,
    pub(super) sent: usize,
    pub(super) has_end: bool,
    pub(super) received: usize,
}

impl Lane {
    pub(super) fn new(to_near: i64, from_near: i64) -> Self {
        let flow = |window| Flow { window, ..Flow::default() };
        Self { to_near: flow(to_near), from_near: flow(from_near), ..Self::default() }
    }

    /// Whether the peer may send on it.
    pub(super) fn may_send(&self) -> bool {
        !self.is_silent && !self.is_reset && !self.to_near.has_end && !self.is_asked
    }

    /// Whether the peer may answer it.
    pub(super) fn may_answer(&self) -> bool {
        self.is_asked && !self.is_silent && !self.is_reset
    }

    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }
}

impl Flow {
    /// The next `length` bytes of it.
    pub(super) fn send(&mut self, seed: u32, length: usize) -> Vec<u8> {
        let start = self.sent;
        self.sent += length;
        (start..self.sent).map(|at| content(seed, at)).collect()
    }

    pub(super) fn receive(&mut self, seed: u32, data: &[u8]) {
        let start = self.received;
        self.received += data.len();
        assert!(self.received <= self.sent, "more was received than sent");
        let wrong = data.iter().enumerate().position(|(at, byte)| *byte != content(seed, start + at));
        assert_eq!(wrong, None, "of the bytes from {start} on");
    }
}

/// The byte at a position of a stream's direction.
fn content(seed: u32, at: usize) -> u8 {
    let mixed = (at as u32).wrapping_mul(0x9e37_79b1) >> 7;
    (mixed ^ seed.wrapping_mul(29)) as u8
}

/// Settings on their way: they count from when this side acknowledges them (RFC 9113 §6.5.3).
#[derive(Debug, Default)]
pub(super) struct Announced(VecDeque<(u16, u32)>);

impl Announced {
    pub(super) fn push(&mut self, id: u16, value: u32) {
        self.0.push_back((id, value));
    }

    pub(super) fn acknowledged(&mut self) -> (u16, u32) {
        self.0.pop_front().expect("settings are acknowledged once")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
