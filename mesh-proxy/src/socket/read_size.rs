/// What a connection that says little holds.
const SMALLEST: usize = 4 * 1024;
/// One DATA frame of ours, four TLS records: larger reads save no system call worth having.
const LARGEST: usize = 64 * 1024;

/// How much to read at once from a socket, by what it has been saying.
///
/// Grows quickly while reads fill the room given, shrinks when they use little of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize(usize);

impl ReadSize {
    pub(crate) fn new() -> Self {
        Self(SMALLEST)
    }

    pub(crate) fn get(self) -> usize {
        self.0
    }

    /// Whether a buffer of this capacity may be kept while a connection is silent.
    pub(crate) fn is_small(capacity: usize) -> bool {
        capacity <= SMALLEST
    }

    /// Learns that a read into `room` bytes yielded `read`.
    pub(crate) fn learn(&mut self, read: usize, room: usize) {
        if read == room {
            self.0 = (self.0 * 4).min(LARGEST);
        } else if read < self.0 / 8 {
            self.0 = (self.0 / 2).max(SMALLEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_reads_reach_the_largest_size_in_two_steps() {
        let mut size = ReadSize::new();
        for expected in [16 * 1024, LARGEST, LARGEST] {
            size.learn(size.get(), size.get());
            assert_eq!(size.get(), expected);
        }
    }

    #[test]
    fn small_reads_return_to_the_smallest_size() {
        let mut size = ReadSize(LARGEST);
        for _ in 0..5 {
            size.learn(64, size.get());
        }
        assert_eq!(size.get(), SMALLEST);
    }

    #[test]
    fn a_middling_read_keeps_the_size() {
        let mut size = ReadSize(LARGEST);
        size.learn(LARGEST / 2, LARGEST);
        assert_eq!(size.get(), LARGEST);
    }
}
