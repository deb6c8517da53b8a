//! What a tunnel has received and nobody has taken yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes in the order they arrived, at what they really cost.
///
/// A large frame is kept as it is. Small ones are copied together into blocks: each would otherwise keep alive the
/// buffer it was read into, and cost more than its payload. So a byte held costs less than two bytes of memory, however
/// it arrived.
#[derive(Debug, Default)]
pub(crate) struct ReceiveQueue {
    chunks: VecDeque<Chunk>,
    /// What comes after the chunks, still being filled.
    block: BytesMut,
    cost: usize,
}

#[derive(Debug)]
struct Chunk {
    data: Bytes,
    /// Memory it takes beyond its bytes.
    overhead: usize,
}

impl ReceiveQueue {
    /// Appends a frame's payload. `awaited` says that somebody is about to take it.
    pub(crate) fn push(&mut self, data: Bytes, awaited: bool) {
        if data.len() >= LARGE || (awaited && self.is_empty()) {
            self.seal();
            self.cost += data.len() + CHUNK_OVERHEAD;
            self.chunks.push_back(Chunk { data, overhead: CHUNK_OVERHEAD });
        } else {
            self.copy(&data);
        }
    }

    /// Takes the next bytes, never empty.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let chunk = self.chunks.pop_front()?;
        if self.chunks.is_empty() && self.chunks.capacity() > MAX_IDLE_CHUNKS {
            self.chunks = VecDeque::new();
        }
        self.cost -= chunk.data.len() + chunk.overhead;
        Some(chunk.data)
    }

    /// What the bytes held cost in memory: at least their number.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.block.is_empty()
    }

    fn copy(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = self.block.capacity() - self.block.len();
            if room == 0 {
                self.grow(data.len());
                continue;
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.block.extend_from_slice(now);
            data = later;
        }
    }

    /// Makes room in the block, or starts another.
    fn grow(&mut self, wanted: usize) {
        if self.block.len() >= MAX_BLOCK {
            self.seal();
        }
        let before = self.block_cost();
        let length = self.block.len();
        self.block.reserve(length.max(wanted).clamp(MIN_BLOCK, MAX_BLOCK));
        self.cost += self.block_cost() - before;
    }

    /// Ends the block: what comes next is not part of it.
    fn seal(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let overhead = self.block_cost() - self.block.len();
        let data = std::mem::take(&mut self.block).freeze();
        self.chunks.push_back(Chunk { data, overhead });
    }

    fn block_cost(&self) -> usize {
        match self.block.capacity() {
            0 => 0,
            capacity => capacity + CHUNK_OVERHEAD,
        }
    }
}

/// Payloads from here on are not copied: a frame of this length fills the buffer it was read into.
const LARGE: usize = 16 << 10;
/// A place in the queue and what `Bytes` allocates beside its data.
const CHUNK_OVERHEAD: usize = 96;
const MIN_BLOCK: usize = 512;
const MAX_BLOCK: usize = 64 << 10;
/// An empty queue gives back room for more than this.
const MAX_IDLE_CHUNKS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(queue: &mut ReceiveQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.pop()).flatten().collect()
    }

    #[test]
    fn large_frames_and_awaited_ones_are_not_copied() {
        let mut queue = ReceiveQueue::default();
        for (length, awaited, copied) in [(LARGE, false, false), (1, true, false), (LARGE - 1, false, true)] {
            let data = Bytes::from(vec![7; length]);
            queue.push(data.clone(), awaited);
            assert_eq!(queue.pop().unwrap().as_ptr() != data.as_ptr(), copied, "{length}");
        }
    }

    #[test]
    fn awaited_frame_behind_others_is_coalesced_with_them() {
        let mut queue = ReceiveQueue::default();
        queue.push(Bytes::from_static(b"a"), false);
        queue.push(Bytes::from_static(b"b"), true);
        assert_eq!(queue.pop().unwrap(), "ab");
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_million_tiny_frames_cost_little_more_than_their_bytes() {
        let mut queue = ReceiveQueue::default();
        for _ in 0..1 << 20 {
            queue.push(Bytes::from_static(b"x"), false);
        }
        assert!(queue.cost() <= (1 << 20) + (64 << 10), "{}", queue.cost());
    }

    #[test]
    fn empty_queue_costs_nothing() {
        let mut queue = ReceiveQueue::default();
        for _ in 0..100 {
            queue.push(Bytes::from(vec![0; LARGE]), false);
            queue.push(Bytes::from_static(b"x"), false);
        }
        drain(&mut queue);
        assert_eq!((queue.cost(), queue.block.capacity()), (0, 0));
        assert!(queue.chunks.capacity() <= MAX_IDLE_CHUNKS);
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in_at_less_than_twice_their_number(
            pushes in prop::collection::vec((1..40_000usize, any::<bool>(), 0..4u8), 0..60)
        ) {
            let mut queue = ReceiveQueue::default();
            let mut expected = BytesMut::new();
            let mut fill = 0u8;
            for (length, awaited, pops) in pushes {
                fill = fill.wrapping_add(1);
                // Mostly small ones.
                let length = if length < 30_000 { length % 300 + 1 } else { length };
                let data = Bytes::from(vec![fill; length]);
                expected.extend_from_slice(&data);
                queue.push(data, awaited);
                prop_assert!(queue.cost() >= expected.len());
                prop_assert!(queue.cost() <= 2 * expected.len() + MIN_BLOCK + 2 * CHUNK_OVERHEAD,
                    "{} for {}", queue.cost(), expected.len());
                if pops == 3 {
                    let data = queue.pop().unwrap();
                    prop_assert!(!data.is_empty());
                    prop_assert!(data == expected.split_to(data.len()));
                }
            }
            prop_assert!(drain(&mut queue) == expected);
            prop_assert_eq!(queue.cost(), 0);
        }
    }
}
