//! What a tunnel has been given to send and HTTP/2 has not.

use bytes::{Bytes, BytesMut};

/// Small pieces that follow each other closely, gathered so that they travel in one frame.
///
/// h2 keeps each frame that is to be sent in some 250 bytes of its own, and peers may count small ones as an attack. Here a
/// byte costs two at most.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    /// The first piece, as it came: it is often the only one.
    first: Bytes,
    /// All, once there are several.
    block: BytesMut,
}

impl SendQueue {
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.block.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a piece.
    pub(crate) fn push(&mut self, data: Bytes) {
        if self.is_empty() {
            self.first = data;
            return;
        }
        let first = std::mem::take(&mut self.first);
        self.block.reserve(first.len() + data.len());
        self.block.extend_from_slice(&first);
        self.block.extend_from_slice(&data);
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Bytes {
        if self.block.is_empty() {
            return std::mem::take(&mut self.first);
        }
        std::mem::take(&mut self.block).freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lone_piece_is_not_copied() {
        let mut queue = SendQueue::default();
        let data = Bytes::from(vec![7; 10]);
        queue.push(data.clone());
        assert_eq!(queue.take().as_ptr(), data.as_ptr());
        assert!(queue.is_empty() && queue.take().is_empty());
    }

    proptest! {
        #[test]
        fn pieces_come_out_together_and_in_order(pieces in prop::collection::vec(1..100_usize, 0..40)) {
            let mut queue = SendQueue::default();
            let mut expected = Vec::new();
            for (length, fill) in pieces.into_iter().zip(0..) {
                queue.push(Bytes::from(vec![fill; length]));
                expected.extend(vec![fill; length]);
                prop_assert_eq!(queue.len(), expected.len());
                prop_assert!(queue.block.capacity() <= 2 * expected.len().max(64));
            }
            prop_assert_eq!(queue.take(), expected);
            prop_assert!(queue.is_empty());
        }
    }
}
