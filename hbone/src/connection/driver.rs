use std::sync::Arc;

use super::{Over, Settings, Shared};
use crate::{
    proto::credit::{Growth, Lending},
    tunnel::Stream,
};

/// The part of a connection's driver that both ends have: takes what arrived out of h2, and gives credit.
///
/// One turn is [`begin`](Self::begin), h2's own polling, [`drain`](Self::drain), and then what
/// [`next_window`](Self::next_window) and [`next_stream_window`](Self::next_stream_window) say.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    lending: Lending,
    growth: Growth,
    /// Empty between turns.
    streams: Vec<Arc<Stream>>,
    /// Whether nothing could be written when the turn began.
    was_stalled: bool,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, settings: &Settings) -> Self {
        Self {
            shared,
            lending: Lending::new(settings.connection_window),
            growth: Growth::new(settings.stream_window, settings.stream_window_limit),
            streams: Vec::new(),
            was_stalled: false,
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Gives h2 what is gathered to be sent, and lets it receive, up to a limit.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.shared.begin_turn();
        self.was_stalled = self.shared.is_write_stalled();
        if !self.was_stalled {
            self.flush();
        }
    }

    /// Takes out of h2 what arrived on streams, so that nothing is left there.
    #[inline]
    pub(crate) fn drain(&mut self) {
        if self.was_stalled && !self.shared.is_write_stalled() {
            self.flush();
        }
        if self.shared.swap_ready(&mut self.streams) {
            for stream in self.streams.drain(..) {
                stream.drain();
            }
        }
        self.shared.settle();
    }

    #[inline]
    fn flush(&mut self) {
        if self.shared.swap_unsent(&mut self.streams) {
            for stream in self.streams.drain(..) {
                stream.flush();
            }
        }
    }

    /// The window to give the connection, if it is to change.
    #[inline]
    pub(crate) fn next_window(&mut self) -> Option<u32> {
        self.lending.update(self.shared.held())
    }

    /// The window to give all streams, if it is to change.
    #[inline]
    pub(crate) fn next_stream_window(&self) -> Option<u32> {
        if !self.shared.is_bulk() {
            return None;
        }
        self.growth.next(self.shared.tunnels(), self.shared.connection_budget())
    }

    /// The streams' window is on its way to the peer.
    pub(crate) fn stream_window_sent(&mut self) {
        self.growth.done();
    }

    /// The connection is over. `drop_connection` makes h2 say so to its streams.
    pub(crate) fn end(&mut self, cause: Over, drop_connection: impl FnOnce()) {
        self.shared.end(cause);
        drop_connection();
        for stream in self.shared.close_ready() {
            stream.drain();
        }
    }
}
