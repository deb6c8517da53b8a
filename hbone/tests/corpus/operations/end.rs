use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hbone::{RecvHalf, ResetReason, SendHalf, Tunnel, TunnelError};

use super::model::Model;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// One end of an open tunnel.
pub(super) struct End {
    side: usize,
    model: Arc<Model>,
    recv: Option<RecvHalf>,
    send: Option<SendHalf>,
    /// Received and not released.
    held: usize,
    /// An error was received; nothing comes after it.
    failed: bool,
    /// It was this end that reset the tunnel.
    reset: bool,
}

impl End {
    pub(super) fn new(side: usize, tunnel: Tunnel, model: Arc<Model>) -> Self {
        let (recv, send) = tunnel.into_split();
        Self { side, model, recv: Some(recv), send: Some(send), held: 0, failed: false, reset: false }
    }

    fn peer(&self) -> usize {
        1 - self.side
    }

    pub(super) fn write(&mut self, length: usize) {
        let Some(send) = &mut self.send else { return };
        let mut data = Bytes::from(self.model.next_bytes(self.side, length));
        match send.poll_send(&mut Context::from_waker(Waker::noop()), &mut data) {
            Poll::Ready(Ok(sent)) => {
                assert_eq!(sent + data.len(), length);
                self.model.handle_sent(self.side, sent);
            }
            Poll::Ready(Err(error)) => {
                let closed = matches!(error, TunnelError::Closed) && self.model.is_finished(self.side);
                assert!(closed || self.model.is_disturbed(), "{error:?}");
                assert_eq!(data.len(), length, "a failed write takes nothing");
            }
            Poll::Pending => {}
        }
    }

    pub(super) fn read(&mut self) {
        let Some(recv) = &mut self.recv else { return };
        if let Poll::Ready(read) = recv.poll_data(&mut Context::from_waker(Waker::noop())) {
            self.handle_read(read);
        }
    }

    /// Takes note of what was read; says whether there may be more.
    fn handle_read(&mut self, read: Option<Result<Bytes, TunnelError>>) -> bool {
        match read {
            Some(Ok(data)) => {
                assert!(!self.failed, "bytes after an error");
                self.model.handle_received(self.peer(), &data);
                self.held += data.len();
                true
            }
            Some(Err(error)) => {
                assert!(self.model.is_disturbed(), "{error:?}");
                self.failed = true;
                false
            }
            None => {
                assert!(!self.failed, "an end after an error");
                self.model.handle_ended(self.peer());
                assert!(self.recv.as_ref().is_some_and(RecvHalf::is_finished));
                false
            }
        }
    }

    /// Releases up to `length` of what is held; asks for as much in any case, which must not give more.
    pub(super) fn release(&mut self, length: usize) {
        let Some(recv) = &mut self.recv else { return };
        recv.release(length);
        let released = length.min(self.held);
        self.held -= released;
        self.model.handle_released(self.peer(), released);
    }

    pub(super) fn finish(&mut self) {
        let Some(send) = &mut self.send else { return };
        match send.finish() {
            // A reset of our own is told to nobody twice.
            Ok(()) => self.model.handle_finished(self.side),
            Err(error) => assert!(self.model.is_disturbed(), "{error:?}"),
        }
    }

    pub(super) fn reset(&mut self, reason: ResetReason) {
        if let Some(send) = &mut self.send {
            self.model.disturb();
            self.reset = true;
            send.reset(reason);
        }
    }

    pub(super) fn drop_recv(&mut self) {
        if !self.model.has_ended(self.peer()) {
            self.model.disturb();
        }
        if self.recv.take().is_some() {
            self.model.handle_receiver_gone(self.peer());
        }
    }

    pub(super) fn drop_send(&mut self) {
        if !self.model.is_finished(self.side) {
            self.model.disturb();
        }
        self.send = None;
    }

    pub(super) fn look_for_reset(&mut self) {
        let Some(send) = &mut self.send else { return };
        if let Poll::Ready(error) = send.poll_stopped(&mut Context::from_waker(Waker::noop())) {
            assert!(self.model.is_disturbed(), "{error:?}");
            assert!(!self.reset || matches!(error, TunnelError::Closed), "{error:?}");
        }
    }

    /// Finishes, reads to the end and releases everything.
    pub(super) async fn settle(mut self) {
        self.finish();
        self.release(usize::MAX);
        while !self.failed
            && !self.model.has_ended(self.peer())
            && let Some(recv) = &mut self.recv
        {
            let read = recv.data().await;
            if !self.handle_read(read) {
                break;
            }
            self.release(usize::MAX);
        }
    }
}
