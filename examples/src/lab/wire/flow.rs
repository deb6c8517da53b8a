use std::net::SocketAddr;

use super::{frame::Segment, tls::TlsSummary};

/// Most bytes kept of a flow; of the rest only the number is known.
const KEPT: usize = 4 * 1024 * 1024;

/// One direction of a TCP connection, in order.
#[derive(Clone, Debug)]
pub struct Flow {
    source: SocketAddr,
    destination: SocketAddr,
    initiated: bool,
    next_sequence: u32,
    bytes: Vec<u8>,
    gap: bool,
}

impl Flow {
    pub(super) fn starting_with(segment: &Segment<'_>) -> Self {
        Self {
            source: segment.source,
            destination: segment.destination,
            initiated: false,
            next_sequence: segment.sequence,
            bytes: Vec::new(),
            gap: false,
        }
    }

    /// Adds a segment. Each frame is seen where it enters and where it leaves the switch; the copy is dropped here.
    pub(super) fn add(&mut self, segment: &Segment<'_>) {
        self.initiated |= segment.syn && !segment.ack;
        let start = segment.sequence.wrapping_add(u32::from(segment.syn));
        if segment.syn && self.bytes.is_empty() {
            self.next_sequence = start;
        }
        let ahead = start.wrapping_sub(self.next_sequence);
        let (known, payload) = if ahead == 0 {
            (0, segment.payload)
        } else if ahead < u32::MAX / 2 {
            self.gap = true;
            (0, segment.payload)
        } else {
            (usize::try_from(ahead.wrapping_neg()).unwrap_or(usize::MAX), segment.payload)
        };
        let Some(new) = payload.get(known..) else { return };
        let Ok(length) = u32::try_from(new.len()) else { return };
        self.next_sequence = start.wrapping_add(u32::try_from(known).unwrap_or(0)).wrapping_add(length);
        let room = KEPT.saturating_sub(self.bytes.len()).min(new.len());
        self.bytes.extend(new.iter().take(room));
    }

    /// Who sent it.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Who received it.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Whether its sender opened the connection, and did so under observation.
    pub fn is_initiated(&self) -> bool {
        self.initiated
    }

    /// What was sent, up to 4 MiB.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether some of it was not seen.
    pub fn has_gap(&self) -> bool {
        self.gap
    }

    /// Whether `marker` was sent.
    pub fn contains(&self, marker: &[u8]) -> bool {
        contains(&self.bytes, marker)
    }

    /// Reads it as TLS records.
    pub fn tls(&self) -> TlsSummary {
        TlsSummary::read(&self.bytes)
    }
}

/// Whether `marker` is somewhere in `bytes`; an empty one is nowhere.
pub fn contains(bytes: &[u8], marker: &[u8]) -> bool {
    !marker.is_empty() && bytes.windows(marker.len()).any(|window| window == marker)
}

#[cfg(test)]
mod tests {
    use super::{super::frame::tests::v4_frame, *};

    fn flow(segments: &[(u32, u8, &[u8])]) -> Flow {
        let frames: Vec<_> = segments.iter().map(|(seq, flags, data)| v4_frame(*seq, *flags, data)).collect();
        let segments: Vec<_> = frames.iter().map(|frame| Segment::parse(frame).unwrap()).collect();
        let mut flow = Flow::starting_with(&segments[0]);
        segments.iter().for_each(|segment| flow.add(segment));
        flow
    }

    #[test]
    fn copies_and_retransmissions_count_once() {
        let flow = flow(&[
            (9, 2, b""),
            (9, 2, b""),
            (10, 0, b"ab"),
            (10, 0, b"ab"),
            (10, 0, b"abcd"),
            (14, 0, b"e"),
        ]);
        assert_eq!(flow.bytes(), b"abcde");
        assert!(flow.is_initiated() && !flow.has_gap());
    }

    #[test]
    fn sequence_numbers_wrap() {
        let flow = flow(&[(u32::MAX - 2, 2, b""), (u32::MAX - 1, 0, b"abc"), (1, 0, b"d")]);
        assert_eq!(flow.bytes(), b"abcd");
        assert!(!flow.has_gap());
    }

    #[test]
    fn a_marker_split_between_segments_is_found() {
        let flow = flow(&[(1, 0, b"in mar"), (7, 0, b"ker out")]);
        assert!(flow.contains(b"marker"));
        assert!(!flow.contains(b"market"));
        assert!(!flow.contains(b""));
    }

    #[test]
    fn a_gap_is_reported() {
        assert!(flow(&[(1, 0, b"a"), (5, 0, b"b")]).has_gap());
    }
}
