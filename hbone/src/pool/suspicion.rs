use std::sync::atomic::{AtomicU64, Ordering};

/// That a connection's peer may be dead, since it left a request unanswered.
///
/// The answer may have been late for what lies behind the peer, so anything that arrives on the connection lays the
/// suspicion to rest; a ping sees to it that something does.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// How much had arrived, and one; 0 without suspicion.
    received: AtomicU64,
}

impl Suspicion {
    /// A request was left unanswered; `received` is how much had arrived by then.
    pub(super) fn note(&self, received: u64) {
        self.received.store(received.saturating_add(1), Ordering::Relaxed);
    }

    /// The peer has answered something. Whether that laid a suspicion to rest.
    pub(super) fn clear(&self) -> bool {
        self.received.load(Ordering::Relaxed) != 0 && self.received.swap(0, Ordering::Relaxed) != 0
    }

    /// Whether there is one still, by how much has `received` by now.
    pub(super) fn stands(&self, received: impl FnOnce() -> u64) -> bool {
        let then = self.received.load(Ordering::Relaxed);
        then != 0 && received() < then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_stands_until_anything_arrives() {
        let suspicion = Suspicion::default();
        assert!(!suspicion.stands(|| unreachable!("not asked")) && !suspicion.clear());
        suspicion.note(0);
        assert!(suspicion.stands(|| 0) && !suspicion.stands(|| 1));
        suspicion.note(70);
        assert!(suspicion.stands(|| 70) && !suspicion.stands(|| 71));
        assert!(suspicion.clear() && !suspicion.stands(|| 70) && !suspicion.clear());
    }
}
