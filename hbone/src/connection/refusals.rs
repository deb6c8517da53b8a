use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts the requests that servers' connections turned down by themselves, so that nobody else heard of them.
///
/// Those are requests that are none for a tunnel, and those beyond what the peer may have waiting, the connection may hold
/// or the process's [`Budget`](crate::Budget) allows; not those beyond [`Builder::max_tunnels`](crate::server::Builder::max_tunnels),
/// which HTTP/2 itself refuses. Give clones of one to all builders.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// Starts at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
