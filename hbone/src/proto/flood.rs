//! What a peer may not do too often.

use std::{fmt, time::Instant};

/// What a peer did too much of, so that its connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flood {
    /// Frames that serve no tunnel: settings, pings, priorities, unknown ones, and resets and window updates without
    /// anything to reset or update.
    ControlFrames,
    /// What the HTTP/2 implementation counts by itself: small or empty DATA frames, continued headers.
    Http2,
    /// Requests that were taken back before they were answered, or that are none for a tunnel.
    Requests,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlFrames => "control frames",
            Self::Http2 => "small frames",
            Self::Requests => "requests taken back",
        })
    }
}

/// How often something may happen: so many times at once, and so many more each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_second: u32,
}

/// Counts what happens against a [`Rate`]. Reads the clock only when the burst is spent.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    left: u32,
    /// `None` until first spent: full until then, whatever the time.
    refilled: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst, refilled: None }
    }

    /// It happened `count` times. Whether that is within the rate.
    pub(crate) fn take(&mut self, count: u32, now: impl FnOnce() -> Instant) -> bool {
        if let Some(left) = self.left.checked_sub(count) {
            self.left = left;
            return true;
        }
        let now = now();
        let earned = match self.refilled {
            Some(before) => {
                let seconds = now.saturating_duration_since(before).as_secs_f64();
                seconds * f64::from(self.rate.per_second)
            }
            None => f64::from(self.rate.per_second),
        };
        self.refilled = Some(now);
        // Rounded down, and the part of a token that is lost is lost to the peer; `as` saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "limited to the burst")]
        let earned = earned.min(f64::from(self.rate.burst)) as u32;
        self.left = self.left.saturating_add(earned).min(self.rate.burst);
        let within = self.left >= count;
        self.left = self.left.saturating_sub(count);
        within
    }
}

/// Reads the heads of the frames that a peer sends (RFC 9113 §4.1), and tells which of them serve no tunnel.
///
/// What is legitimate in proportion is not counted: one reset for each request, and window updates for what was sent to
/// the peer. What a peer does not use of that is kept for it only up to what it could need at a time. The meter follows
/// the bytes as they come and looks at nine of each frame.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    role: Role,
    /// Bytes to pass over: the preface, and then payloads.
    skip: usize,
    /// A head that came in pieces, and how much of it there is.
    head: [u8; HEAD],
    have: usize,
    /// Frames of kind HEADERS so far.
    heads: u64,
    /// DATA frames that carry nothing so far.
    empty: u32,
    /// How many tunnels were asked for, as far as it was told.
    opened: u64,
    /// Resets that requests allow for.
    resets: u64,
    /// Window updates that what was sent allows for, each times [`BYTES_PER_UPDATE`].
    updates: u64,
}

/// Which end the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl FrameMeter {
    /// Reads what a client sends, which begins with a preface.
    pub(crate) fn of_client() -> Self {
        Self::new(Role::Client, PREFACE)
    }

    /// Reads what a server sends.
    pub(crate) fn of_server() -> Self {
        Self::new(Role::Server, 0)
    }

    fn new(role: Role, skip: usize) -> Self {
        Self { role, skip, head: [0; HEAD], have: 0, heads: 0, empty: 0, opened: 0, resets: 0, updates: 0 }
    }

    /// How many frames of kind HEADERS have begun.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// How many DATA frames that carry nothing, not even an end, have begun.
    pub(crate) fn empty(&self) -> u32 {
        self.empty
    }

    /// Bytes were sent to the peer.
    pub(crate) fn handle_sent(&mut self, bytes: usize) {
        self.updates = self.updates.saturating_add(bytes as u64).min(MAX_UPDATES);
    }

    /// So many tunnels were asked for on the connection until now. A server may reset each, whether it answered or not; a
    /// client's own requests are seen as they come.
    pub(crate) fn handle_opened(&mut self, opened: u64) {
        if self.role == Role::Server {
            self.allow_resets(opened.saturating_sub(self.opened));
            self.opened = opened;
        }
    }

    fn allow_resets(&mut self, resets: u64) {
        self.resets = self.resets.saturating_add(resets).min(MAX_RESETS);
    }

    /// Bytes came from the peer. How many of the frames that begin in them serve no tunnel.
    pub(crate) fn handle_received(&mut self, mut bytes: &[u8]) -> u32 {
        let mut count = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return count;
            }
            if self.have == 0
                && let Some((head, rest)) = bytes.split_first_chunk()
            {
                count += u32::from(self.is_idle_frame(*head));
                bytes = rest;
                continue;
            }
            let wanted = (HEAD - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            for (slot, byte) in self.head.iter_mut().skip(self.have).zip(head) {
                *slot = *byte;
            }
            self.have += wanted;
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                count += u32::from(self.is_idle_frame(self.head));
            }
        }
    }

    /// Looks at a frame's head, whether it serves no tunnel.
    fn is_idle_frame(&mut self, head: [u8; HEAD]) -> bool {
        let [high, middle, low, kind, flags, ..] = head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            DATA => {
                let is_empty = self.skip == 0 && flags & END_STREAM == 0;
                self.empty = self.empty.saturating_add(u32::from(is_empty));
                is_empty
            }
            HEADERS => {
                self.heads += 1;
                if self.role == Role::Client {
                    self.allow_resets(1);
                }
                false
            }
            RST_STREAM => !spend(&mut self.resets, 1),
            WINDOW_UPDATE => !spend(&mut self.updates, BYTES_PER_UPDATE),
            _ => true,
        }
    }
}

fn spend(account: &mut u64, amount: u64) -> bool {
    match account.checked_sub(amount) {
        Some(left) => {
            *account = left;
            true
        }
        None => false,
    }
}

/// RFC 9113 §3.4.
const PREFACE: usize = 24;
/// RFC 9113 §4.1.
const HEAD: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;
/// Two updates, the stream's and the connection's, for each DATA frame of a chatty tunnel: 9 bytes and a few.
const BYTES_PER_UPDATE: u64 = 8;
/// Four connection windows of the usual 16 MiB, on their way or unread: 8 million updates.
const MAX_UPDATES: u64 = 64 << 20;
/// More tunnels than a connection has at a time.
const MAX_RESETS: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    fn metered(sent: usize, frames: &[Vec<u8>]) -> u32 {
        let mut meter = FrameMeter::of_client();
        meter.handle_sent(sent);
        meter.handle_received(&[&[0; PREFACE], &*frames.concat()].concat())
    }

    #[test]
    fn frames_of_tunnels_are_not_counted() {
        let frames =
            [frame(HEADERS, 4, 40), frame(DATA, 0, 1), frame(DATA, END_STREAM, 0), frame(RST_STREAM, 0, 4)];
        assert_eq!(metered(0, &frames), 0);
        assert_eq!(metered(16, &[frame(WINDOW_UPDATE, 0, 4), frame(WINDOW_UPDATE, 0, 4)]), 0);
    }

    #[test]
    fn frames_that_serve_no_tunnel_are_counted() {
        for (kind, length) in [(0x4, 6), (0x6, 8), (0x2, 5), (0x7, 8), (0x9, 3), (0xfa, 0), (DATA, 0)] {
            assert_eq!(metered(0, &vec![frame(kind, 0, length); 3]), 3, "{kind:#x}");
        }
    }

    #[test]
    fn resets_and_updates_are_counted_beyond_what_there_is_to_reset_and_update() {
        let frames = [frame(HEADERS, 4, 40), frame(RST_STREAM, 0, 4), frame(RST_STREAM, 0, 4)];
        assert_eq!(metered(0, &frames), 1);
        assert_eq!(metered(8, &vec![frame(WINDOW_UPDATE, 0, 4); 3]), 2);
    }

    #[test]
    fn server_may_reset_what_was_asked_of_it() {
        let mut meter = FrameMeter::of_server();
        let reset = frame(RST_STREAM, 0, 4);
        // An answer, or several, allow for nothing.
        assert_eq!(
            meter.handle_received(&[frame(HEADERS, 4, 1), frame(HEADERS, 4, 1), reset.clone()].concat()),
            1
        );
        for opened in [1, 2, 2] {
            meter.handle_opened(opened);
        }
        assert_eq!(meter.handle_received(&reset.repeat(3)), 1);
    }

    #[test]
    fn allowance_does_not_grow_without_end() {
        let mut meter = FrameMeter::of_server();
        for round in 1..=3 {
            meter.handle_opened(round * MAX_RESETS);
            meter.handle_sent(1 << 30);
        }
        let update = frame(WINDOW_UPDATE, 0, 4).repeat(1 << 16);
        let updates: u32 =
            (0..(MAX_UPDATES / BYTES_PER_UPDATE) >> 16).map(|_| meter.handle_received(&update)).sum();
        assert_eq!((updates, meter.handle_received(&update)), (0, 1 << 16));
        let resets = frame(RST_STREAM, 0, 4).repeat(1 << 16);
        assert_eq!((meter.handle_received(&resets), meter.handle_received(&resets)), (0, 1 << 16));
    }

    #[test]
    fn empty_frames_are_told_apart() {
        let mut meter = FrameMeter::of_server();
        meter.handle_received(&[frame(DATA, 0, 0), frame(DATA, END_STREAM, 0), frame(DATA, 0, 1)].concat());
        assert_eq!(meter.empty(), 1);
    }

    #[test]
    fn bytes_may_come_in_any_pieces() {
        let frames = [frame(0x6, 0, 8), frame(DATA, 0, 200), frame(0x4, 0, 0), frame(0x6, 0, 8)].concat();
        let bytes = [&[0; PREFACE], &*frames].concat();
        for size in 1..bytes.len() {
            let mut meter = FrameMeter::of_client();
            let count: u32 = bytes.chunks(size).map(|piece| meter.handle_received(piece)).sum();
            assert_eq!(count, 3, "{size}");
        }
    }

    #[test]
    fn bucket_allows_a_burst_and_then_the_rate() {
        let start = Instant::now();
        let at = |millis| move || start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(Rate { burst: 10, per_second: 2 });
        assert!(bucket.take(10, || unreachable!("not spent")));
        // The first second is on the house, since nobody knows when the burst began.
        assert!(bucket.take(2, at(0)));
        assert!(!bucket.take(1, at(400)));
        assert!(bucket.take(1, at(1000)));
        assert!(!bucket.take(1, at(1001)));
        assert!(bucket.take(10, at(60_000)));
        assert!(!bucket.take(3, at(60_001)));
    }

    #[test]
    fn bucket_survives_a_clock_that_goes_back() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(Rate { burst: 1, per_second: 1 });
        assert!(bucket.take(1, || start));
        assert!(bucket.take(1, || start));
        assert!(!bucket.take(1, || start - Duration::from_secs(5)));
        assert!(!bucket.take(u32::MAX, || start));
    }
}
