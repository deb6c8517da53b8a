use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Waker},
};

use tokio::time::Instant;

/// Ends a server's connection from elsewhere. Clones control the same connection.
///
/// It can outlive the connection, and does nothing then.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Control>);

impl Handle {
    /// Drains the connection: tells the peer to open no more tunnels (GOAWAY), serves those it opens before it has heard
    /// of that, and lets open tunnels go on until `deadline`, when whatever is left is dropped.
    ///
    /// Keep calling [`accept`](super::Connection::accept): it yields what is still asked for, and `None` when the drain
    /// is complete. A later call can only bring the deadline forward.
    pub fn drain(&self, deadline: impl Into<Instant>) {
        self.0.order(Order::Drain { deadline: deadline.into() });
    }

    /// Ends the connection and all its tunnels now, with a GOAWAY if it can be written at once.
    pub fn abort(&self) {
        self.0.order(Order::Abort);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Where the handles leave their orders for the connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Drain { deadline: Instant },
    Abort,
}

#[derive(Debug, Default)]
struct State {
    order: Option<Order>,
    waker: Option<Waker>,
}

impl Control {
    /// What is ordered so far; wakes the task when that changes.
    pub(super) fn poll_order(&self, cx: &mut Context<'_>) -> Option<Order> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        state.order
    }

    fn order(&self, order: Order) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.order = Some(match (state.order, order) {
            (None, order) => order,
            (Some(Order::Drain { deadline: earlier }), Order::Drain { deadline }) => {
                Order::Drain { deadline: earlier.min(deadline) }
            }
            (Some(_), _) => Order::Abort,
        });
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn orders_only_become_stricter() {
        let now = Instant::now();
        let drain = |seconds| Order::Drain { deadline: now + Duration::from_secs(seconds) };
        let table = [
            (vec![drain(2), drain(1)], drain(1)),
            (vec![drain(1), drain(2)], drain(1)),
            (vec![drain(1), Order::Abort], Order::Abort),
            (vec![Order::Abort, drain(1)], Order::Abort),
        ];
        for (orders, expected) in table {
            let control = Control::default();
            orders.into_iter().for_each(|order| control.order(order));
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(control.poll_order(&mut cx), Some(expected));
        }
    }
}
