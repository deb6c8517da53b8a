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

use super::Shared;
use crate::proto::{
    Flood,
    flood::{Bucket, FrameMeter, Rate},
};

/// The stream below a connection: counts what arrives, and pauses when the driver's turn has brought enough, or when the
/// peer sends too much that serves no tunnel.
///
/// h2 would otherwise read on for as long as there is something, and pile up frames.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    io: T,
    shared: Arc<Shared>,
    /// What counts frames that serve no tunnel; a server's.
    frames: Option<(FrameMeter, Bucket)>,
}

impl<T> Metered<T> {
    pub(crate) fn new(io: T, shared: Arc<Shared>) -> Self {
        Self { io, shared, frames: None }
    }

    /// Counts the frames that serve no tunnel, too.
    pub(crate) fn with_frames(self, rate: Rate) -> Self {
        Self { frames: Some((FrameMeter::new(), Bucket::new(rate))), ..self }
    }

    fn note_sent(&mut self, written: &Poll<Result<usize>>) {
        if let (Some((meter, _)), Poll::Ready(Ok(bytes))) = (&mut self.frames, written) {
            meter.handle_sent(*bytes);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.shared.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let received = buffer.filled().get(before..).unwrap_or_default();
        self.shared.note_received(received.len());
        let this = &mut *self;
        if let Some((meter, bucket)) = &mut this.frames {
            let count = meter.handle_received(received);
            if count > 0 && !bucket.take(count, || Instant::now().into_std()) {
                this.shared.note_flood(Flood::ControlFrames);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
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
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
