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
};
use crate::{
    proto::{Flood, flood::Bucket},
    tunnel::Stream,
};

/// What a connection's driver and its tunnels share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Streams on which something happened that the driver has not looked at. `None` once there is no driver.
    ready: Mutex<Option<Vec<Arc<Stream>>>>,
    /// Streams with something to send that h2 has not. `None` once there is no driver.
    unsent: Mutex<Option<Vec<Arc<Stream>>>>,
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
    /// How many may have been received when the driver next looks at its streams.
    turn_end: AtomicU64,
    tunnels: AtomicUsize,
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
    broken_off: Mutex<Bucket>,
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
            ready: Mutex::new(Some(Vec::new())),
            unsent: Mutex::new(Some(Vec::new())),
            turn: AtomicU64::new(0),
            is_write_stalled: AtomicBool::new(false),
            over: OnceLock::new(),
            held: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            turn_end: AtomicU64::new(u64::MAX),
            tunnels: AtomicUsize::new(0),
            is_bulk: AtomicBool::new(false),
            stream_budget: settings.stream_budget(),
            connection_budget: settings.connection_budget,
            bulk_threshold: 4 * u64::from(settings.stream_window),
            budget: settings.budget.clone(),
            refusals: settings.refusals.clone(),
            flood: OnceLock::new(),
            broken_off: Mutex::new(Bucket::new(settings.broken_off)),
            charge: Mutex::new(Charge::default()),
            control: Control::default(),
        })
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Puts a stream before the driver. Called by h2, with its locks held.
    pub(crate) fn push_ready(&self, stream: Arc<Stream>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = &mut *ready {
            ready.push(stream);
        }
    }

    /// Exchanges the list of streams to look at with an empty one.
    pub(super) fn swap_ready(&self, other: &mut Vec<Arc<Stream>>) {
        swap(&self.ready, other);
    }

    /// Puts a stream before the driver that has something to send, and wakes it.
    pub(crate) fn push_unsent(&self, stream: Arc<Stream>) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsent) = &mut *unsent {
            unsent.push(stream);
        }
        drop(unsent);
        self.control.wake();
    }

    /// Exchanges the list of streams with something to send with an empty one.
    pub(super) fn swap_unsent(&self, other: &mut Vec<Arc<Stream>>) {
        swap(&self.unsent, other);
    }

    /// There is no driver any more. Yields what it left undone.
    pub(super) fn close_ready(&self) -> Vec<Arc<Stream>> {
        let unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(unsent);
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
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

    pub(crate) fn tunnel_opened(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tunnel_gone(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// How many bytes have arrived so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn note_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the driver is to look at its streams before more is received.
    pub(super) fn is_turn_over(&self) -> bool {
        self.received() >= self.turn_end.load(Ordering::Relaxed) || self.flood().is_some()
    }

    /// Whether nothing has been received since the driver last looked at its streams.
    pub(super) fn is_turn_fresh(&self) -> bool {
        self.received().saturating_add(TURN) <= self.turn_end.load(Ordering::Relaxed)
    }

    /// The peer did something too often: the driver, which is woken for it, closes the connection.
    pub(super) fn note_flood(&self, flood: Flood) {
        if self.flood.set(flood).is_ok() {
            self.control.wake();
        }
    }

    /// A request was taken back, or broken off, before it was answered.
    pub(crate) fn note_broken_off(&self) {
        let mut bucket = self.broken_off.lock().unwrap_or_else(PoisonError::into_inner);
        let is_within = bucket.take(1, || Instant::now().into_std());
        drop(bucket);
        if !is_within {
            self.note_flood(Flood::Requests);
        }
    }

    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get().copied()
    }

    pub(super) fn begin_turn(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
        self.turn_end.store(self.received() + TURN, Ordering::Relaxed);
    }

    /// Brings the process's account up to date.
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

fn swap(list: &Mutex<Option<Vec<Arc<Stream>>>>, other: &mut Vec<Arc<Stream>>) {
    if let Some(list) = &mut *list.lock().unwrap_or_else(PoisonError::into_inner) {
        std::mem::swap(list, other);
    }
}

/// How much is received before the driver takes it out of h2, which keeps each frame in some 250 bytes of its own: 6,500
/// of the smallest.
const TURN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        task::{Context, Wake, Waker},
    };

    use super::*;
    use crate::proto::flood::Rate;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn flood_wakes_the_driver_once() {
        let settings = Settings { broken_off: Rate { burst: 1, per_second: 0 }, ..Settings::new(0) };
        let shared = Shared::new(&settings);
        for (is_flood, is_woken) in [(false, false), (true, true), (true, false)] {
            let flag = Arc::new(Flag::default());
            shared.control().poll_order(&mut Context::from_waker(&Waker::from(Arc::clone(&flag))));
            shared.note_broken_off();
            assert_eq!((shared.flood().is_some(), flag.0.load(Ordering::Relaxed)), (is_flood, is_woken));
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
