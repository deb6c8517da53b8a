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
    /// Requests that were taken back, or broken off, before they were answered.
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

/// Reads the heads of the frames that a client sends (RFC 9113 §4.1), and tells which of them serve no tunnel.
///
/// What is legitimate in proportion is not counted: one reset for each request, and window updates for what was sent to
/// the peer. It follows the bytes as they come and looks at nine of each frame.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    /// Bytes to pass over: the preface, and then payloads.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    /// Resets that requests allow for.
    resets: u64,
    /// Window updates that what was sent allows for, each times [`BYTES_PER_UPDATE`].
    updates: u64,
}

impl FrameMeter {
    /// Begins with a client's preface.
    pub(crate) fn new() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], have: 0, resets: 0, updates: 0 }
    }

    /// Bytes were sent to the peer.
    pub(crate) fn handle_sent(&mut self, bytes: usize) {
        self.updates = self.updates.saturating_add(bytes as u64);
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
            let wanted = (HEAD - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            for (slot, byte) in self.head.iter_mut().skip(self.have).zip(head) {
                *slot = *byte;
            }
            self.have += wanted;
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                count += u32::from(self.is_idle_frame());
            }
        }
    }

    /// Looks at a frame's head, whether it serves no tunnel.
    fn is_idle_frame(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            DATA => self.skip == 0 && flags & END_STREAM == 0,
            HEADERS => {
                self.resets += 1;
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
        let mut meter = FrameMeter::new();
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
    fn bytes_may_come_in_any_pieces() {
        let frames = [frame(0x6, 0, 8), frame(DATA, 0, 200), frame(0x4, 0, 0), frame(0x6, 0, 8)].concat();
        let bytes = [&[0; PREFACE], &*frames].concat();
        for size in 1..bytes.len() {
            let mut meter = FrameMeter::new();
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
