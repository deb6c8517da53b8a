use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::Alarm;

/// Where the handles leave their orders for the connection, and what wakes it.
#[derive(Debug)]
pub(crate) struct Control {
    /// Whether the connection is to look again: something was ordered, or its waker is used up.
    is_changed: AtomicBool,
    state: Mutex<State>,
}

/// What the connection knows of its orders, so that it looks only when they have changed.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    order: Option<Order>,
    /// What was left with the control.
    waker: Option<Waker>,
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
    /// What is ordered so far; wakes the task when that changes. Cost, unless it has: an atomic load.
    #[inline]
    pub(crate) fn poll_order(&self, known: &mut Orders, cx: &mut Context<'_>) -> Option<Order> {
        let is_known = known.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_known || self.is_changed.load(Ordering::Acquire) {
            self.look(known, cx);
        }
        known.order
    }

    fn look(&self, known: &mut Orders, cx: &Context<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_changed.store(false, Ordering::Release);
        state.waker = Some(cx.waker().clone());
        *known = Orders { order: state.order, waker: state.waker.clone() };
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_changed.store(true, Ordering::Release);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { is_changed: AtomicBool::new(true), state: Mutex::default() }
    }
}

/// Waits for the deadline of a drain, which may have been brought forward.
pub(crate) fn poll_deadline(alarm: &mut Option<Alarm>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let alarm = alarm.get_or_insert_with(|| Alarm::new(deadline));
    if alarm.deadline() != deadline {
        alarm.reset(deadline);
    }
    alarm.poll(cx)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::WakeFlag;

    #[test]
    fn connection_is_woken_for_each_order_by_the_waker_it_used_last() {
        let cx = Context::from_waker(Waker::noop());
        let control = Control::default();
        let mut known = Orders::default();
        let order = Order::Drain { deadline: None };
        for (expected, next) in [(None, order), (Some(order), Order::Abort), (Some(Order::Abort), order)] {
            let mut flags = [WakeFlag::lowered(), WakeFlag::lowered()];
            for flag in &flags {
                let waker = flag.waker();
                for _ in 0..2 {
                    let seen = control.poll_order(&mut known, &mut Context::from_waker(&waker));
                    assert_eq!(seen, expected);
                }
            }
            control.order(next);
            assert_eq!(flags.each_mut().map(|flag| flag.take(&cx)), [false, true]);
        }
    }

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
            assert_eq!(control.poll_order(&mut Orders::default(), &mut cx), Some(expected));
        }
    }
}
