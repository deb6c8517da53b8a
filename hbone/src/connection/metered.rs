use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{Order, Shared, lingering::Lingering};
use crate::proto::{
    Flood,
    flood::{Bucket, FrameMeter, Rate},
};

/// The stream below a connection: counts what arrives, and pauses when the driver's turn has brought enough, or when the
/// peer sends too much that serves no tunnel.
///
/// h2 would otherwise read on for as long as there is something, and pile up frames. The end of the stream comes in a turn
/// of its own: h2 fails all streams with it, also those whose own end it has just read and nobody has looked at.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    io: Lingering<T>,
    shared: Arc<Shared>,
    /// Reads the frames that arrive.
    meter: FrameMeter,
    /// Counts those that serve no tunnel.
    bucket: Bucket,
    /// The end, until the turn it waits for.
    end: Option<Result<()>>,
}

impl<T> Metered<T> {
    /// The stream to a peer that `meter` knows, and how many frames without use it may send.
    pub(crate) fn new(io: T, shared: Arc<Shared>, meter: FrameMeter, rate: Rate) -> Self {
        let bucket = Bucket::new(rate);
        Self { io: Lingering::new(io), shared, meter, bucket, end: None }
    }

    fn note_sent(&mut self, written: &Poll<Result<usize>>) {
        self.shared.note_write(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.meter.handle_sent(*bytes);
        }
    }

    fn note_received(&mut self, received: &[u8]) {
        self.shared.note_received(received.len());
        self.meter.handle_opened(self.shared.opened());
        let had_few = self.meter.empty() < FEW_EMPTY_FRAMES;
        let count = self.meter.handle_received(received);
        self.shared.note_heads(self.meter.heads());
        if count == 0 {
            return;
        }
        if !self.bucket.take(count, || Instant::now().into_std()) {
            self.shared.note_flood(Flood::ControlFrames);
        }
        if had_few && self.meter.empty() >= FEW_EMPTY_FRAMES {
            self.shared.control().order(Order::Drain { deadline: None });
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        let awaits_turn = this.end.is_some() && !this.shared.is_turn_fresh();
        if awaits_turn || this.shared.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(end) = this.end.take() {
            return Poll::Ready(end);
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.io).poll_read(cx, buffer));
        let received = buffer.filled().get(before..).unwrap_or_default();
        if received.is_empty() && !this.shared.is_turn_fresh() {
            this.end = Some(read);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.note_received(received);
        Poll::Ready(read)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.note_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        self.note_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // TLS keeps records that the socket did not take until it is flushed.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.shared.note_write(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// h2 closes a connection, with all its tunnels, at the 101st DATA frame without payload in its life. After this many, new
/// tunnels go to another, so that a peer that sends one now and then loses nothing by it.
const FEW_EMPTY_FRAMES: u32 = 80;
