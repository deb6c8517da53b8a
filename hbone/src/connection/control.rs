use std::{
    sync::{Mutex, PoisonError},
    task::{Context, Waker},
};

use tokio::time::Instant;

/// Where the handles leave their orders for the connection, and what wakes it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
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
    pub(crate) fn poll_order(&self, cx: &mut Context<'_>) -> Option<Order> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        state.order
    }

    /// Adds an order; they only become stricter.
    pub(crate) fn order(&self, order: Order) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.order = Some(match (state.order, order) {
            (None, order) => order,
            (Some(Order::Drain { deadline: earlier }), Order::Drain { deadline }) => {
                Order::Drain { deadline: earlier.min(deadline) }
            }
            (Some(_), _) => Order::Abort,
        });
        drop(state);
        self.wake();
    }

    /// Has the connection look again.
    pub(super) fn wake(&self) {
        let waker = self.state.lock().unwrap_or_else(PoisonError::into_inner).waker.take();
        if let Some(waker) = waker {
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
