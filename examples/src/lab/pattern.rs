use std::sync::LazyLock;

/// A prime, so that no power of two of misplaced bytes goes unnoticed.
const PERIOD: usize = 65_521;
/// Longest slice handed out at once.
const SLICE: usize = 65_536;

/// A fixed pseudo-random byte stream, the same on both sides: each byte is checked at its place, which is stronger than a
/// checksum at the end and says where a stream went wrong.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let period = std::iter::repeat_with(|| {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let period: Vec<u8> = period.take(PERIOD).collect();
    period.iter().copied().cycle().take(PERIOD + SLICE).collect()
});

/// A position in the byte stream that bulk tests send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pattern {
    position: usize,
}

impl Pattern {
    /// The next bytes, at most `limit` of them and as many as are at hand.
    pub fn next_slice(&mut self, limit: u64) -> &'static [u8] {
        let length = usize::try_from(limit).unwrap_or(SLICE).min(SLICE);
        let slice = STREAM.get(self.position..self.position + length).unwrap_or_default();
        self.position = (self.position + length) % PERIOD;
        slice
    }
}

/// What one side has received of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    bytes: u64,
    expected: Pattern,
    corrupt: bool,
}

impl Tally {
    /// Adds bytes in the order of their arrival.
    pub fn add(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let expected = self.expected.next_slice(received.len() as u64);
            let (head, rest) = received.split_at(expected.len());
            self.corrupt |= head != expected;
            self.bytes += head.len() as u64;
            received = rest;
        }
    }

    /// How many bytes arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether each byte was the one that belongs in its place.
    pub fn is_intact(&self) -> bool {
        !self.corrupt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_intact_however_it_is_cut() {
        let mut sent = Vec::new();
        let mut pattern = Pattern::default();
        while sent.len() < 300_000 {
            sent.extend_from_slice(pattern.next_slice(40_000));
        }
        for cut in [1, 7, 4096, 65_536, 200_000] {
            let mut tally = Tally::default();
            sent.chunks(cut).for_each(|chunk| tally.add(chunk));
            assert!(tally.is_intact(), "cut at {cut}");
            assert_eq!(tally.bytes(), sent.len() as u64);
        }
    }

    #[test]
    fn a_wrong_a_missing_and_a_repeated_byte_are_noticed() {
        let stream = Pattern::default().next_slice(10_000).to_vec();
        let mut wrong = stream.clone();
        wrong[5_000] ^= 1;
        let missing = [&stream[..100], &stream[101..]].concat();
        let repeated = [&stream[..100], &stream[99..]].concat();
        for received in [wrong, missing, repeated] {
            let mut tally = Tally::default();
            tally.add(&received);
            assert!(!tally.is_intact());
        }
    }
}
