use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Where the handles leave their orders for the connection, and what wakes it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `None` for as long as tunnels last.
    Drain {
        deadline: Option<Instant>,
    },
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
                let deadlines = [earlier, deadline].into_iter().flatten();
                Order::Drain { deadline: deadlines.min() }
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

/// Waits for the deadline of a drain, which may have been brought forward.
pub(crate) fn poll_deadline(
    sleep: &mut Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    sleep.as_mut().poll(cx)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn orders_only_become_stricter() {
        let now = Instant::now();
        let drain = |seconds| Order::Drain { deadline: Some(now + Duration::from_secs(seconds)) };
        let patient = Order::Drain { deadline: None };
        let table = [
            (vec![drain(2), drain(1)], drain(1)),
            (vec![drain(1), drain(2)], drain(1)),
            (vec![patient, drain(1)], drain(1)),
            (vec![drain(1), patient], drain(1)),
            (vec![patient, Order::Abort], Order::Abort),
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
