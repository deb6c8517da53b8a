use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::{io::AsyncReadExt, net::tcp::ReadHalf};

/// What a connection that says little holds.
const SMALLEST: usize = 4 * 1024;
/// One DATA frame, four TLS records: larger reads save no system call worth having.
const LARGEST: usize = 64 * 1024;

/// Reads from a TCP socket into buffers sized by what the connection has been sending.
///
/// Nothing is allocated while a connection is silent.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    size: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), size: SMALLEST }
    }

    /// Waits for the next bytes; an empty result is the end of the stream.
    pub(super) async fn read(&mut self, stream: &mut ReadHalf<'_>) -> io::Result<Bytes> {
        if let Some(ready) = stream.readable().now_or_never() {
            ready?;
        } else {
            if self.bytes.capacity() > SMALLEST {
                // A large buffer must not outlive the burst it was made for.
                self.bytes = BytesMut::new();
            }
            stream.readable().await?;
        }
        if self.bytes.capacity() < self.size / 2 {
            self.bytes.reserve(self.size);
        }
        let room = self.bytes.capacity();
        let read = stream.read_buf(&mut self.bytes).await?;
        self.size = next_size(self.size, read, room);
        Ok(self.bytes.split().freeze())
    }
}

/// Grows quickly while reads fill the room given, shrinks when they use little of it.
fn next_size(size: usize, read: usize, room: usize) -> usize {
    if read == room {
        (size * 4).min(LARGEST)
    } else if read < size / 8 {
        (size / 2).max(SMALLEST)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_reads_reach_the_largest_size_in_two_steps() {
        let once = next_size(SMALLEST, SMALLEST, SMALLEST);
        assert_eq!(next_size(once, once, once), LARGEST);
        assert_eq!(next_size(LARGEST, LARGEST, LARGEST), LARGEST);
    }

    #[test]
    fn small_reads_return_to_the_smallest_size() {
        let mut size = LARGEST;
        for _ in 0..5 {
            size = next_size(size, 64, size);
        }
        assert_eq!(size, SMALLEST);
    }

    #[test]
    fn a_middling_read_keeps_the_size() {
        assert_eq!(next_size(LARGEST, LARGEST / 2, LARGEST), LARGEST);
    }
}
