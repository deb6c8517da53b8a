use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Lets the tunnels of a connection know that it is over, which h2 tells a sender in the same words as a reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness(Arc<AtomicBool>);

impl Liveness {
    /// The connection is over.
    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the connection is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
