use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::{io::AsyncReadExt, net::tcp::ReadHalf};

use crate::socket::ReadSize;

/// Reads from a TCP socket into buffers sized by what the connection has been sending.
///
/// Nothing large is held while a connection is silent.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    size: ReadSize,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), size: ReadSize::new() }
    }

    /// Waits for the next bytes; an empty result is the end of the stream.
    pub(super) async fn read(&mut self, stream: &mut ReadHalf<'_>) -> io::Result<Bytes> {
        if let Some(ready) = stream.readable().now_or_never() {
            ready?;
        } else {
            if !ReadSize::is_small(self.bytes.capacity()) {
                self.bytes = BytesMut::new();
            }
            stream.readable().await?;
        }
        if self.bytes.capacity() < self.size.get() / 2 {
            self.bytes.reserve(self.size.get());
        }
        let room = self.bytes.capacity();
        let read = stream.read_buf(&mut self.bytes).await?;
        self.size.learn(read, room);
        Ok(self.bytes.split().freeze())
    }
}
