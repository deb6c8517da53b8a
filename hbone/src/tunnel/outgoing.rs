use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::{connection::Shared, proto::SendQueue};

/// The sending direction of an open tunnel: h2's, and what small writes are gathered before it.
///
/// A small write goes to h2 at once, which wakes the driver. Those that follow before the driver has had its turn are
/// gathered, and passed on in that turn as one frame; while the connection's byte stream takes nothing, all are. So at
/// most two frames of a tunnel for each turn are small ones, and next to none where nothing moves.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    queue: SendQueue,
    phase: Phase,
    /// The driver's turn in which h2 was last given something.
    turn: Option<u64>,
    /// Whether the driver knows that something is gathered.
    is_listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Finished,
    Reset,
}

/// Why nothing more can be sent.
pub(super) enum Gone {
    /// The stream takes no more.
    Closed,
    Failed(h2::Error),
}

/// What is to be done after something was given to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// h2 has it.
    Sent,
    /// It is gathered, and the driver has to be told.
    List,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, queue: SendQueue::default(), phase: Phase::Open, turn: None, is_listed: false }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether nothing was ever given to be sent.
    fn is_unused(&self) -> bool {
        self.turn.is_none() && self.queue.is_empty()
    }

    /// Waits until something can be sent; yields how much, up to `wanted` and a chunk.
    pub(super) fn poll_capacity(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Gone>> {
        let wanted = wanted.clamp(1, MAX_CHUNK);
        let queued = self.queue.len();
        self.stream.reserve_capacity(wanted + queued);
        loop {
            let granted = self.stream.capacity().saturating_sub(queued).min(wanted);
            if granted > 0 {
                return Poll::Ready(Ok(granted));
            }
            // A grant may have been taken back by a change of settings by the time it is looked at.
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(Gone::Failed(error))),
                None => return Poll::Ready(Err(Gone::Closed)),
            }
        }
    }

    /// Sends bytes for which there is capacity.
    pub(super) fn send(&mut self, data: Bytes, connection: &Shared) -> Result<Given, Gone> {
        let turn = connection.turn();
        let may_gather = data.len() < SMALL && self.queue.len() + data.len() <= MAX_CHUNK;
        let is_close = self.turn == Some(turn) || !self.queue.is_empty() || connection.is_write_stalled();
        if may_gather && is_close {
            self.queue.push(data);
            let is_listed = std::mem::replace(&mut self.is_listed, true);
            return Ok(if is_listed { Given::Sent } else { Given::List });
        }
        self.flush()?;
        self.turn = Some(turn);
        self.stream.send_data(data, false).map_err(|_| Gone::Closed)?;
        Ok(Given::Sent)
    }

    /// Passes on what is gathered, as the driver does.
    pub(super) fn flush_listed(&mut self) {
        self.is_listed = false;
        // Whoever sends or finishes next learns why it failed.
        let _ = self.flush();
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.queue.is_empty() {
            return Ok(());
        }
        self.stream.send_data(self.queue.take(), false).map_err(|_| Gone::Closed)
    }

    /// Gives back what was reserved beyond what is gathered.
    pub(super) fn cancel_reserve(&mut self) {
        self.stream.reserve_capacity(self.queue.len());
    }

    /// Ends the direction, with what is gathered.
    pub(super) fn finish(&mut self) -> Result<(), Gone> {
        self.stream.send_data(self.queue.take(), true).map_err(|_| Gone::Closed)?;
        self.phase = Phase::Finished;
        Ok(())
    }

    /// The peer, which has finished, does not want to hear of our end.
    pub(super) fn finish_unheard(&mut self) {
        self.phase = Phase::Finished;
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.queue.take();
        self.stream.send_reset(reason);
    }

    /// Nobody will send any more, after a reset.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Reset;
    }

    /// Nobody will send any more: resets what was not finished.
    ///
    /// h2 resets a stream with CANCEL as its last handle is dropped, after it has sent what it was given. So nothing is left
    /// to do for one that was given nothing, nor for one that the peer has reset.
    pub(super) fn give_up(&mut self, is_last_user: bool, was_reset: bool) {
        if self.phase == Phase::Open && !was_reset && !(is_last_user && self.is_unused()) {
            self.reset(Reason::CANCEL);
        }
    }

    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.stream.poll_reset(cx)
    }
}

/// The longest payload sent in one frame, whatever the peer would take: the next frame of another tunnel waits for it.
pub(super) const MAX_CHUNK: usize = 64 << 10;
/// Writes below this are gathered. From here on what h2 keeps of a frame is below a tenth of it.
const SMALL: usize = 4 << 10;
