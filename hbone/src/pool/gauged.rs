use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's byte stream, watched for whether it takes what is to be sent.
#[derive(Debug)]
pub(super) struct Gauged<T> {
    io: T,
    gauge: Gauge,
}

/// Whether a byte stream does not take more at the moment, so that tunnels wait for each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<AtomicBool>);

impl<T> Gauged<T> {
    pub(super) fn new(io: T) -> (Self, Gauge) {
        let gauge = Gauge::default();
        (Self { io, gauge: gauge.clone() }, gauge)
    }

    fn note<O>(&self, written: Poll<O>) -> Poll<O> {
        self.gauge.0.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl Gauge {
    /// Cost: one atomic load.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gauged<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gauged<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // TLS keeps records that the socket did not take until it is flushed.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
