use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::peers::PeerGuard;
use crate::socket::ReadSize;

/// A TCP stream that is read in large pieces for a reader that asks for small ones.
///
/// rustls asks for 4 KiB at a time, which costs five system calls per record of a bulk transfer. Copying from a
/// buffer that is still in the cache costs far less. Nothing large is held while the connection is silent.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    stream: TcpStream,
    /// What was read and not yet taken.
    buffer: BytesMut,
    size: ReadSize,
    /// Ends the connection, once its peer is known, when the peer is no longer trusted.
    peer: Option<PeerGuard>,
}

impl ReadAhead {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::new(), size: ReadSize::new(), peer: None }
    }

    /// Fails reads and writes from the moment that the peer is lost, and wakes who waits for one of them: a peer that stops
    /// reading keeps nothing. One task drives both.
    pub(super) fn end_with(&mut self, peer: PeerGuard) {
        self.peer = Some(peer);
    }

    /// What a write comes to.
    fn poll_write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(lost) = self.peer.as_ref().and_then(PeerGuard::lost) {
            return Poll::Ready(Err(lost));
        }
        let written = write(Pin::new(&mut self.stream), cx);
        match &self.peer {
            Some(peer) if written.is_pending() => peer.poll_lost(cx).map(Err),
            _ => written,
        }
    }

    /// Reads once into the empty buffer; it stays empty at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(lost) = self.peer.as_ref().and_then(PeerGuard::lost) {
            return Poll::Ready(Err(lost));
        }
        if self.stream.poll_read_ready(cx)?.is_pending() {
            if let Some(peer) = &self.peer
                && let Poll::Ready(lost) = peer.poll_lost(cx)
            {
                return Poll::Ready(Err(lost));
            }
            if !ReadSize::is_small(self.buffer.capacity()) {
                self.buffer = BytesMut::new();
            }
            return Poll::Pending;
        }
        self.buffer.reserve(self.size.get());
        let room = self.buffer.capacity();
        let read = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(cx))?;
        self.size.learn(read, room);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            ready!(this.poll_fill(cx))?;
        }
        let length = this.buffer.len().min(buf.remaining());
        if let Some(bytes) = this.buffer.get(..length) {
            buf.put_slice(bytes);
        }
        this.buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, ReadAhead) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), ReadAhead::new(far.unwrap().0))
    }

    #[tokio::test]
    async fn small_reads_see_every_byte_in_order() {
        let (mut near, mut ahead) = pair().await;
        let sent: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
        let send = async {
            near.write_all(&sent).await.unwrap();
            drop(near);
        };
        let receive = async {
            let (mut received, mut piece) = (Vec::new(), [0; 97]);
            loop {
                match ahead.read(&mut piece).await.unwrap() {
                    0 => return received,
                    length => received.extend_from_slice(&piece[..length]),
                }
            }
        };
        let ((), received) = tokio::join!(send, receive);
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_silent_connection_holds_no_large_buffer() {
        let (mut near, mut ahead) = pair().await;
        near.write_all(&vec![0; 300_000]).await.unwrap();
        let mut all = vec![0; 300_000];
        ahead.read_exact(&mut all).await.unwrap();
        let mut one = [0; 1];
        assert!(futures_util::poll!(pin!(ahead.read(&mut one))).is_pending());
        assert!(ReadSize::is_small(ahead.buffer.capacity()));
    }
}
