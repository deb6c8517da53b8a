use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::send_connect::Requests;
use crate::connection::{Order, Shared};

/// Ends a client's connection from elsewhere. Clones control the same connection.
///
/// It can outlive the connection, and does nothing then.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    requests: Weak<Requests>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, requests: Weak<Requests>) -> Self {
        Self { shared, requests }
    }

    /// Drains the connection: opens no more tunnels from now on, lets open ones and requests under way go on until
    /// `deadline`, and then drops whatever is left.
    ///
    /// The connection closes with the last tunnel, and GOAWAY tells the peer then: a client's earlier GOAWAY would say
    /// nothing, since it limits what the *peer* may open. A later call can only bring the deadline forward.
    pub fn drain(&self, deadline: impl Into<Instant>) {
        self.drain_until(Some(deadline.into()));
    }

    /// Drains the connection for as long as its tunnels last, see [`drain`](Self::drain).
    ///
    /// A later drain can still set a deadline.
    pub fn drain_without_deadline(&self) {
        self.drain_until(None);
    }

    fn drain_until(&self, deadline: Option<Instant>) {
        if let Some(requests) = self.requests.upgrade() {
            requests.close();
        }
        self.shared.control().order(Order::Drain { deadline });
    }

    /// Ends the connection and all its tunnels now.
    pub fn abort(&self) {
        if let Some(requests) = self.requests.upgrade() {
            requests.close();
        }
        self.shared.control().order(Order::Abort);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
