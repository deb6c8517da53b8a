use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Lets a pool's tasks know that it drains, and whoever drains it that they are gone.
#[derive(Debug)]
pub(super) struct Drain {
    tasks: watch::Sender<usize>,
    deadline: watch::Sender<Option<Instant>>,
}

/// A task of a pool's, until dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Drain>);

impl Drain {
    pub(super) fn new() -> Self {
        Self { tasks: watch::Sender::new(0), deadline: watch::Sender::new(None) }
    }

    /// Counts a task.
    pub(super) fn enter(self: &Arc<Self>) -> Running {
        self.tasks.send_modify(|tasks| *tasks += 1);
        Running(Arc::clone(self))
    }

    /// Starts the drain, or brings its deadline forward.
    pub(super) fn begin(&self, deadline: Instant) {
        self.deadline.send_if_modified(|current| match current {
            Some(earlier) if *earlier <= deadline => false,
            _ => {
                *current = Some(deadline);
                true
            }
        });
    }

    /// Resolves once no task is left.
    ///
    /// Cancel safe.
    pub(super) async fn finished(&self) {
        // The sender is part of `self`, so the wait ends for no other reason.
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }
}

impl Running {
    /// Runs `task` to its end, or until the pool drains.
    ///
    /// Cancel safe if `task` is.
    pub(super) async fn unless_drained<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        let mut deadline = self.0.deadline.subscribe();
        unless(task, async { drop(deadline.wait_for(Option::is_some).await) }).await
    }

    /// Runs `task` to its end, or until the deadline of a drain.
    ///
    /// Cancel safe if `task` is.
    pub(super) async fn unless_expired<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        unless(task, self.expired()).await
    }

    /// Resolves at the deadline of a drain, following it when it is brought forward.
    async fn expired(&self) {
        let mut deadline = self.0.deadline.subscribe();
        loop {
            let until = deadline.wait_for(Option::is_some).await.ok().and_then(|until| *until);
            let Some(until) = until else { return };
            if timeout_at(until, deadline.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// Runs `task` to its end, or until `stop` is over.
async fn unless<T>(task: impl Future<Output = T>, stop: impl Future<Output = ()>) -> Option<T> {
    let (mut task, mut stop) = (pin!(task), pin!(stop));
    let race = poll_fn(|cx| match task.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => stop.as_mut().poll(cx).map(|()| None),
    });
    race.await
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|tasks| *tasks -= 1);
    }
}
