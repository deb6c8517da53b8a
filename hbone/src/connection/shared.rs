use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Budget, ConnectionError, Control, Refusals, Settings,
    budget::{Charge, STEP},
    stream_list::StreamList,
};
use crate::{
    proto::{Flood, flood::Bucket},
    tunnel::Stream,
};

/// What a connection's driver and its tunnels share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Streams on which something happened that the driver has not looked at.
    ready: StreamList,
    /// Streams with something to send that h2 has not.
    unsent: StreamList,
    /// Counts the driver's turns.
    turn: AtomicU64,
    /// Whether the byte stream below took nothing when it was last tried.
    is_write_stalled: AtomicBool,
    /// Why the connection is over, if it is.
    over: OnceLock<Over>,
    /// Memory taken by bytes received and not released.
    held: AtomicUsize,
    /// Bytes received on the connection so far.
    received: AtomicU64,
    /// Frames of kind HEADERS received on the connection so far.
    heads: AtomicU64,
    /// How many may have been received when the driver next looks at its streams.
    turn_end: AtomicU64,
    /// Tunnels, and requests for one, so far, and those that are gone.
    opened: AtomicU64,
    gone: AtomicU64,
    /// Whether a tunnel has been in bulk.
    is_bulk: AtomicBool,
    stream_budget: usize,
    connection_budget: usize,
    /// After how many bytes a tunnel whose consumer keeps up is in bulk.
    bulk_threshold: u64,
    budget: Option<Budget>,
    refusals: Option<Refusals>,
    /// What the peer did too often, once it did.
    flood: OnceLock<Flood>,
    /// Requests that were taken back before they were answered.
    taken_back: Mutex<Bucket>,
    charge: Mutex<Charge>,
    control: Control,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    /// This side ended it.
    Closed,
    /// It ended by itself: the streams know how.
    Ended,
    /// The peer did something too often.
    Flooded(Flood),
    /// The peer did not answer a ping for this long.
    Silent(Duration),
}

impl Shared {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            ready: StreamList::new(),
            unsent: StreamList::new(),
            turn: AtomicU64::new(0),
            is_write_stalled: AtomicBool::new(false),
            over: OnceLock::new(),
            held: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            turn_end: AtomicU64::new(u64::MAX),
            opened: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            is_bulk: AtomicBool::new(false),
            stream_budget: settings.stream_budget(),
            connection_budget: settings.connection_budget,
            bulk_threshold: 4 * u64::from(settings.stream_window),
            budget: settings.budget.clone(),
            refusals: settings.refusals.clone(),
            flood: OnceLock::new(),
            taken_back: Mutex::new(Bucket::new(settings.taken_back)),
            charge: Mutex::new(Charge::default()),
            control: Control::default(),
        })
    }

    #[inline]
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Puts a stream before the driver. Called by h2, with its locks held.
    pub(crate) fn push_ready(&self, stream: Arc<Stream>) {
        self.ready.push(stream);
    }

    /// Exchanges the list of streams to look at with an empty one; says whether there are any.
    #[inline]
    pub(super) fn swap_ready(&self, other: &mut Vec<Arc<Stream>>) -> bool {
        self.ready.swap(other)
    }

    /// Puts a stream before the driver that has something to send, and wakes it.
    pub(crate) fn push_unsent(&self, stream: Arc<Stream>) {
        self.unsent.push(stream);
        self.control.wake();
    }

    /// Exchanges the list of streams with something to send with an empty one; says whether there are any.
    #[inline]
    pub(super) fn swap_unsent(&self, other: &mut Vec<Arc<Stream>>) -> bool {
        self.unsent.swap(other)
    }

    /// There is no driver any more. Yields what it left undone.
    pub(super) fn close_ready(&self) -> Vec<Arc<Stream>> {
        drop(self.unsent.close());
        self.ready.close()
    }

    /// Which turn the driver is in, or had last.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Whether the byte stream below took nothing when it was last tried.
    pub(crate) fn is_write_stalled(&self) -> bool {
        self.is_write_stalled.load(Ordering::Relaxed)
    }

    pub(super) fn note_write(&self, is_pending: bool) {
        self.is_write_stalled.store(is_pending, Ordering::Relaxed);
    }

    /// The connection is over. The first cause counts.
    pub(crate) fn end(&self, cause: Over) {
        let _ = self.over.set(cause);
    }

    /// Whether the connection is over, which h2 tells a sender in the same words as a reset.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    /// What to tell a tunnel to which h2 says that its connection was lost by `error`.
    pub(crate) fn why_lost(&self, error: ConnectionError) -> ConnectionError {
        match self.over.get() {
            Some(Over::Silent(timeout)) => ConnectionError::KeepaliveTimeout(*timeout),
            Some(Over::Flooded(flood)) => ConnectionError::PeerFlood(*flood),
            Some(Over::Closed) => ConnectionError::Closed,
            Some(Over::Ended) | None => error,
        }
    }

    /// The cost of what is held went from one amount to another.
    pub(crate) fn recount(&self, before: usize, now: usize) {
        if now > before {
            self.held.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            let held = self.held.fetch_sub(before - now, Ordering::Relaxed);
            self.note_relief(held, held - (before - now));
        }
    }

    /// Less is held than before. The driver may have no reason to look for long, but others wait for it.
    fn note_relief(&self, before: usize, now: usize) {
        if self.budget.is_some() && before / STEP != now / STEP {
            self.settle();
        }
        if before >= self.connection_budget && now < self.connection_budget {
            self.control.wake();
        }
    }

    /// Memory taken by bytes received and not released.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether so much is held that the connection should take no more tunnels.
    pub(crate) fn is_saturated(&self) -> bool {
        self.held() >= self.connection_budget
    }

    /// Refuses another tunnel if the process holds too much, and counts that.
    pub(crate) fn admit(&self) -> bool {
        self.budget.as_ref().is_none_or(Budget::admit)
    }

    /// A request was turned down without anybody hearing of it.
    pub(crate) fn note_refusal(&self) {
        if let Some(refusals) = &self.refusals {
            refusals.note();
        }
    }

    pub(crate) fn stream_budget(&self) -> usize {
        self.stream_budget
    }

    pub(crate) fn connection_budget(&self) -> usize {
        self.connection_budget
    }

    /// A tunnel's consumer has taken `bytes` so far and keeps up.
    pub(crate) fn note_progress(&self, bytes: u64) {
        if bytes >= self.bulk_threshold && !self.is_bulk.load(Ordering::Relaxed) {
            self.is_bulk.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk.load(Ordering::Relaxed)
    }

    /// One more. To be called by one thread at a time: a server's driver, or a client with its requests locked.
    pub(crate) fn tunnel_opened(&self) {
        self.opened.store(self.opened() + 1, Ordering::Relaxed);
    }

    pub(crate) fn tunnel_gone(&self) {
        self.gone.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn tunnels(&self) -> usize {
        // In this order: what is gone was opened before.
        let gone = self.gone.load(Ordering::Acquire);
        usize::try_from(self.opened().saturating_sub(gone)).unwrap_or(usize::MAX)
    }

    /// How many tunnels there were so far, with requests for one.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many bytes have arrived so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn note_received(&self, bytes: usize) {
        // Only the driver writes it.
        self.received.store(self.received() + bytes as u64, Ordering::Relaxed);
    }

    /// How many frames of kind HEADERS have arrived so far: no fewer than requests.
    pub(crate) fn heads(&self) -> u64 {
        self.heads.load(Ordering::Relaxed)
    }

    pub(super) fn note_heads(&self, heads: u64) {
        self.heads.store(heads, Ordering::Relaxed);
    }

    /// Whether the driver is to look at its streams before more is received.
    #[inline]
    pub(super) fn is_turn_over(&self) -> bool {
        self.received() >= self.turn_end.load(Ordering::Relaxed) || self.flood().is_some()
    }

    /// Whether nothing has been received since the driver last looked at its streams.
    #[inline]
    pub(super) fn is_turn_fresh(&self) -> bool {
        self.received().saturating_add(TURN) <= self.turn_end.load(Ordering::Relaxed)
    }

    /// The peer did something too often: the driver, which is woken for it, closes the connection.
    pub(super) fn note_flood(&self, flood: Flood) {
        if self.flood.set(flood).is_ok() {
            self.control.wake();
        }
    }

    /// A request was taken back before it was answered, or is none for a tunnel.
    pub(crate) fn note_taken_back(&self) {
        let mut bucket = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        let is_within = bucket.take(1, || Instant::now().into_std());
        drop(bucket);
        if !is_within {
            self.note_flood(Flood::Requests);
        }
    }

    #[inline]
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get().copied()
    }

    #[inline]
    pub(super) fn begin_turn(&self) {
        // Only the driver writes it.
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
        self.turn_end.store(self.received() + TURN, Ordering::Relaxed);
    }

    /// Brings the process's account up to date.
    #[inline]
    pub(super) fn settle(&self) {
        if let Some(budget) = &self.budget {
            self.charge.lock().unwrap_or_else(PoisonError::into_inner).settle(budget, self.held());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            self.charge.get_mut().unwrap_or_else(PoisonError::into_inner).settle(budget, 0);
        }
    }
}

/// How much is received before the driver takes it out of h2, which keeps each frame in some 250 bytes of its own: 6,500
/// of the smallest.
const TURN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::{
        connection::{Orders, WakeFlag},
        proto::flood::Rate,
    };

    #[test]
    fn flood_wakes_the_driver_once() {
        let settings = Settings { taken_back: Rate { burst: 1, per_second: 0 }, ..Settings::new(0) };
        let shared = Shared::new(&settings);
        for (is_flood, is_woken) in [(false, false), (true, true), (true, false)] {
            let mut flag = WakeFlag::lowered();
            shared.control().poll_order(&mut Orders::default(), &mut Context::from_waker(&flag.waker()));
            shared.note_taken_back();
            let was_woken = flag.take(&Context::from_waker(Waker::noop()));
            assert_eq!((shared.flood().is_some(), was_woken), (is_flood, is_woken));
        }
    }

    #[test]
    fn turn_is_fresh_until_something_arrives() {
        let shared = Shared::new(&Settings::new(0));
        for received in [1, 1 << 20, 0] {
            shared.begin_turn();
            assert!(shared.is_turn_fresh());
            shared.note_received(received);
            assert_eq!(shared.is_turn_fresh(), received == 0);
        }
    }
}
