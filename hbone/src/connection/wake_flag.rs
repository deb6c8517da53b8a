use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// Tells a connection that is polled whether anything has happened since it last had its turn.
///
/// A server's is polled again for each request that it yields, usually at once, and a turn is some thousand instructions
/// and a read. Everything that a turn registers a waker with gets this one instead of the task's.
#[derive(Debug)]
pub(crate) struct WakeFlag {
    inner: Arc<Inner>,
    /// Of the task that polled last.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Inner {
    is_raised: AtomicBool,
    /// Of the task that polled first, which usually is the only one: it is woken without a lock.
    first: OnceLock<Waker>,
    /// Whether another has polled since.
    is_moved: AtomicBool,
    /// Of the task that polled last, then.
    last: Mutex<Option<Waker>>,
}

impl WakeFlag {
    /// A flag that is raised: there is a first turn.
    pub(crate) fn new() -> Self {
        let inner = Inner {
            is_raised: AtomicBool::new(true),
            first: OnceLock::new(),
            is_moved: AtomicBool::new(false),
            last: Mutex::new(None),
        };
        Self { inner: Arc::new(inner), task: None }
    }

    /// A flag that tells a test whether it was woken.
    #[cfg(test)]
    pub(crate) fn lowered() -> Self {
        let mut flag = Self::new();
        flag.take(&Context::from_waker(Waker::noop()));
        flag
    }

    /// Raises the flag, to be used in turns.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.inner))
    }

    /// Lowers the flag; says whether it was raised. The task is woken when it is raised again.
    #[inline]
    pub(crate) fn take(&mut self, cx: &Context<'_>) -> bool {
        if self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.inner.is_raised.load(Ordering::Acquire) && self.inner.is_raised.swap(false, Ordering::AcqRel)
        } else {
            self.change_task(cx.waker())
        }
    }

    fn change_task(&mut self, task: &Waker) -> bool {
        if self.inner.first.set(task.clone()).is_err() {
            *self.inner.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
            self.inner.is_moved.store(true, Ordering::Release);
        }
        self.task = Some(task.clone());
        // Written to in any case: who raises the flag after this finds the task, who raised it before is seen.
        self.inner.is_raised.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_raised.swap(true, Ordering::AcqRel) {
            // The task has been woken and has not come yet.
            return;
        }
        if !self.is_moved.load(Ordering::Acquire) {
            if let Some(task) = self.first.get() {
                task.wake_by_ref();
            }
            return;
        }
        let task = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn task_that_polled_last_is_woken_once_until_it_polls_again() {
        let mut flag = WakeFlag::new();
        let tasks = [Arc::new(Task::default()), Arc::new(Task::default())];
        let wakers = tasks.clone().map(Waker::from);
        let [first, second] = &wakers;
        let waker = flag.waker();
        assert!(flag.take(&Context::from_waker(first)), "the first turn");
        assert!(!flag.take(&Context::from_waker(first)), "nothing happened");
        assert!(!flag.take(&Context::from_waker(second)), "nor for another task");
        for _ in 0..3 {
            waker.wake_by_ref();
        }
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
        assert!(flag.take(&Context::from_waker(second)));
        waker.wake();
        assert_eq!(tasks[1].0.load(Ordering::Relaxed), 2);
        assert!(flag.take(&Context::from_waker(first)), "whoever comes");
    }
}
