use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::connection::{Order, Shared};

/// Ends a server's connection from elsewhere. Clones control the same connection.
///
/// It can outlive the connection, and does nothing then.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Drains the connection: tells the peer to open no more tunnels (GOAWAY), serves those it opens before it has heard
    /// of that, and lets open tunnels go on until `deadline`, when whatever is left is dropped.
    ///
    /// Keep calling [`accept`](super::Connection::accept): it yields what is still asked for, and `None` when the drain
    /// is complete. A later call can only bring the deadline forward.
    pub fn drain(&self, deadline: impl Into<Instant>) {
        self.shared.control().order(Order::Drain { deadline: Some(deadline.into()) });
    }

    /// Drains the connection for as long as its tunnels last, see [`drain`](Self::drain).
    ///
    /// A later drain can still set a deadline.
    pub fn drain_without_deadline(&self) {
        self.shared.control().order(Order::Drain { deadline: None });
    }

    /// Ends the connection and all its tunnels now, with a GOAWAY if it can be written at once.
    pub fn abort(&self) {
        self.shared.control().order(Order::Abort);
    }

    /// How much memory the connection takes with bytes that were received and not yet released.
    pub fn held_bytes(&self) -> usize {
        self.shared.held()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
