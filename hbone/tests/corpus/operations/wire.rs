use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// The network between two ends: passes bytes on in pieces of any size, takes its time, and can be cut.
#[derive(Default)]
pub(super) struct Wire {
    cut: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Wire {
    /// A wire that holds up to `capacity` bytes each way. Each of `pieces`, in turn and over again, says how much the
    /// next operation moves, or that it has to wait a little.
    pub(super) fn new(capacity: usize, pieces: Vec<u8>) -> (Arc<Self>, Plug, Plug) {
        let wire = Arc::new(Self::default());
        let (near, far) = duplex(capacity);
        let plug = |stream, next| Plug {
            wire: Arc::clone(&wire),
            stream,
            pieces: pieces.clone(),
            next,
            waited: false,
        };
        let (near, far) = (plug(near, 0), plug(far, pieces.len() / 2));
        (wire, near, far)
    }

    /// From now on both ends fail.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.waiting.lock().expect("no panic").drain(..).for_each(Waker::wake);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// After so many operations there are no more pieces: a schedule must not take for ever.
const SLOW: usize = 4_000;

/// One end of the wire.
pub(super) struct Plug {
    wire: Arc<Wire>,
    stream: DuplexStream,
    pieces: Vec<u8>,
    next: usize,
    /// The last operation had to wait; this one need not.
    waited: bool,
}

impl Plug {
    /// How much may be moved now.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.wire.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        {
            let mut waiting = self.wire.waiting.lock().expect("no panic");
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        let piece = self.pieces.get(self.next % self.pieces.len().max(1));
        let Some(&piece) = piece.filter(|_| self.next < SLOW) else { return Poll::Ready(Ok(usize::MAX)) };
        let piece = usize::from(piece);
        self.next += 1;
        if piece == 0 && !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        Poll::Ready(Ok(piece.pow(2).max(1)))
    }
}

impl AsyncRead for Plug {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let length = ready!(this.poll_piece(cx))?.min(buffer.remaining());
        let mut piece = buffer.take(length);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
        let (initialized, filled) = (piece.initialized().len(), piece.filled().len());
        let read = piece.filled().to_vec();
        debug_assert!(filled <= initialized);
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plug {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = ready!(this.poll_piece(cx))?.min(bytes.len());
        Pin::new(&mut this.stream).poll_write(cx, &bytes[..length])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
