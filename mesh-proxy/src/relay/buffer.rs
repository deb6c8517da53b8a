use std::io;

use bytes::{Buf, Bytes, BytesMut};
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
            self.renew();
        }
        let room = self.bytes.capacity();
        let read = stream.read_buf(&mut self.bytes).await?;
        self.size.learn(read, room);
        Ok(self.bytes.split().freeze())
    }

    /// Makes room for the next read, keeping nothing: what was read has been handed out.
    fn renew(&mut self) {
        let size = self.size.get();
        if ReadSize::is_small(size) {
            self.bytes.reserve(size);
            return;
        }
        self.bytes = BytesMut::with_capacity(size + OFFSET);
        self.bytes.resize(OFFSET, 0);
        self.bytes.advance(OFFSET);
    }
}

/// Where large reads begin in their pages. They are copied into TLS records, which begin some bytes into a page; some
/// processors copy at a fraction of their speed if source and destination lie as close as that modulo 4,096.
const OFFSET: usize = 2048;
