use std::{
    future::Future,
    io::{Error, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A connection's byte stream, whose end loses nothing that had been sent before it.
///
/// A peer that has said everything leaves without reading what we still say to it, window updates for instance. Two
/// things would be lost by that, and are not:
///
/// * **What it sent and we have not read yet.** A write then fails, and h2 gives the connection up where it stands. So
///   a failed write is kept back until nothing more can be read; what is written meanwhile goes nowhere.
/// * **What we sent and it has not read yet.** A socket that is closed with bytes unread resets the connection
///   (RFC 1122 §4.2.2.13), and the peer's kernel may throw away what it holds. So after our end we read on until the
///   peer's, for a while.
#[derive(Debug)]
pub(super) struct Lingering<T> {
    io: T,
    state: State,
    /// Nothing more can be read.
    is_read: bool,
}

#[derive(Debug)]
enum State {
    Open,
    /// Nothing can be written any more. Why, until that has been told.
    Broken(Option<Error>),
    /// We have ended, and wait for the peer to.
    Ended(Pin<Box<Sleep>>),
}

impl<T> Lingering<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, state: State::Open, is_read: false }
    }

    /// Makes a success of a failed write, and keeps the failure. The reader is woken to see what there still is.
    fn hold_back<R>(
        &mut self,
        written: Poll<Result<R>>,
        success: impl FnOnce() -> R,
        cx: &Context<'_>,
    ) -> Poll<Result<R>> {
        let Poll::Ready(Err(error)) = written else { return written };
        self.state = State::Broken(Some(error));
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(success()))
    }

    fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lingering<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.remaining();
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Pending => match &mut this.state {
                State::Broken(error) => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
                State::Open | State::Ended(_) => Poll::Pending,
            },
            Poll::Ready(read) => {
                this.is_read |= read.is_err() || (buffer.remaining() == before && before > 0);
                Poll::Ready(read)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Ok(buffer.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.hold_back(written, || buffer.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let all = || buffers.iter().map(|buffer| buffer.len()).sum();
        if self.is_broken() {
            return Poll::Ready(Ok(all()));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        self.hold_back(written, all, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.hold_back(flushed, || (), cx)
    }

    /// Ends our side, and waits until the peer has ended its own or has had time to. That a peer has left before it
    /// heard our goodbye is no failure.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if let State::Open = this.state {
            this.state = match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
                Ok(()) => State::Ended(Box::pin(sleep(PATIENCE))),
                Err(error) => State::Broken(Some(error)),
            };
        }
        let State::Ended(patience) = &mut this.state else { return Poll::Ready(Ok(())) };
        let mut space = [0; 4 << 10];
        for _ in 0..READS {
            if this.is_read {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut this.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return patience.as_mut().poll(cx).map(Ok),
                // An end of whatever kind.
                Poll::Ready(read) => this.is_read = read.is_err() || buffer.filled().is_empty(),
            }
        }
        cx.waker().wake_by_ref();
        patience.as_mut().poll(cx).map(Ok)
    }
}

/// How long to wait for the peer's end. Twice what Go's HTTP server allows.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to read before others get their turn.
const READS: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, timeout},
    };

    use super::*;

    /// Takes nothing, and has nothing to read until dropped.
    struct Deaf(DuplexStream);

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize>> {
            Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
        }
    }

    #[tokio::test]
    async fn what_came_before_a_failed_write_is_read() {
        let (near, mut far) = duplex(64);
        far.write_all(b"hello").await.unwrap();
        drop(far);
        let mut near = Lingering::new(near);
        near.write_all(b"nobody reads this").await.unwrap();
        near.flush().await.unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        near.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn failed_write_is_told_once_there_is_nothing_to_read() {
        let (near, mut far) = duplex(64);
        let mut near = Lingering::new(Deaf(near));
        far.write_all(b"x").await.unwrap();
        let written = near.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"bc")]).await;
        assert_eq!(written.unwrap(), 3);
        assert_eq!(near.read(&mut [0; 2]).await.unwrap(), 1);
        assert_eq!(near.read(&mut [0; 2]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn goodbye_that_nobody_hears_is_no_failure() {
        let (near, _far) = duplex(64);
        let start = Instant::now();
        Lingering::new(Deaf(near)).shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn our_end_waits_for_the_peers_and_reads_until_then() {
        let (near, mut far) = duplex(64);
        let ending = tokio::spawn(async move { Lingering::new(near).shutdown().await });
        // More than fits: it is read.
        far.write_all(&[7; 200_000]).await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        assert!(!ending.is_finished());
        let start = Instant::now();
        drop(far);
        ending.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_does_not_end_is_waited_for_in_vain_for_a_while() {
        let (near, mut far) = duplex(64);
        let mut near = Lingering::new(near);
        let start = Instant::now();
        let chattering = async {
            while far.write_all(b"chatter").await.is_ok() {
                sleep(PATIENCE / 10).await;
            }
        };
        let ended = async {
            near.shutdown().await.unwrap();
            drop(near);
        };
        timeout(2 * PATIENCE, async { tokio::join!(chattering, ended) }).await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_ended_before_is_not_waited_for() {
        let (near, far) = duplex(64);
        drop(far);
        let mut near = Lingering::new(near);
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        let start = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
