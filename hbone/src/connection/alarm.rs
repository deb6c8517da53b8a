use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that costs little to ask while its time has not come, as in each turn of a connection.
///
/// Asking a [`Sleep`] leaves a waker with it, which takes four atomics. Here that is done once for each deadline and task;
/// until then the cost is a load.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// What was left with it.
    waker: Option<Waker>,
}

impl Alarm {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), waker: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.waker = None;
    }

    /// Resolves once the deadline has passed; wakes the task then.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_set = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_set && !self.sleep.is_elapsed() { Poll::Pending } else { self.ask(cx) }
    }

    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let elapsed = self.sleep.as_mut().poll(cx);
        self.waker = elapsed.is_pending().then(|| cx.waker().clone());
        elapsed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::connection::WakeFlag;

    #[tokio::test(start_paused = true)]
    async fn task_that_asked_last_is_woken_when_the_time_comes() {
        const WAIT: Duration = Duration::from_secs(5);
        let mut tasks = [WakeFlag::lowered(), WakeFlag::lowered()];
        let [first, second] = tasks.each_ref().map(WakeFlag::waker);
        let mut woken = || tasks.each_mut().map(|task| task.take(&Context::from_waker(Waker::noop())));
        let mut alarm = Alarm::new(Instant::now() + WAIT);
        for waker in [&first, &first, &second, &second] {
            assert!(alarm.poll(&mut Context::from_waker(waker)).is_pending());
        }
        advance(WAIT + MARGIN).await;
        assert_eq!(woken(), [false, true]);
        for waker in [&second, &first] {
            assert!(alarm.poll(&mut Context::from_waker(waker)).is_ready(), "whoever asks");
        }

        alarm.reset(Instant::now() + WAIT);
        for _ in 0..2 {
            assert!(alarm.poll(&mut Context::from_waker(&second)).is_pending());
        }
        alarm.reset(Instant::now() + 2 * WAIT);
        advance(WAIT + MARGIN).await;
        assert!(alarm.poll(&mut Context::from_waker(&second)).is_pending(), "put off");
        alarm.reset(Instant::now() + MARGIN);
        assert!(alarm.poll(&mut Context::from_waker(&second)).is_pending());
        advance(2 * MARGIN).await;
        assert_eq!(woken(), [false, true]);
        assert!(alarm.poll(&mut Context::from_waker(&second)).is_ready(), "brought forward");
    }

    /// Timers go off at the end of their millisecond.
    const MARGIN: Duration = Duration::from_millis(1);
}
