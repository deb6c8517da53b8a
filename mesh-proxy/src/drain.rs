//! Shutting down in two steps: stop taking work, then, at a deadline, stop working.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// How long connections cut at the deadline may take to say so to their peers.
pub(crate) const FAREWELL: Duration = Duration::from_millis(200);

/// Longer than any process lives, and can be added to any instant.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Where a proxy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes connections.
    Running,
    /// Takes none; those open may go on until the deadline.
    Draining {
        /// When what is still open is closed.
        deadline: Instant,
    },
}

/// Starts the drain of a proxy, from anywhere.
#[derive(Clone, Debug)]
pub struct DrainHandle {
    phase: watch::Sender<Phase>,
    default_deadline: Duration,
}

impl DrainHandle {
    pub(crate) fn new(default_deadline: Duration) -> Self {
        Self { phase: watch::Sender::new(Phase::Running), default_deadline }
    }

    /// Stops accepting and lets open connections finish within the configured deadline.
    ///
    /// A second call changes nothing, except to bring the deadline forward.
    pub fn drain(&self) {
        self.drain_within(self.default_deadline);
    }

    /// Stops accepting and lets open connections finish within `limit`.
    pub fn drain_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit.min(FOR_EVER);
        self.phase.send_if_modified(|phase| match *phase {
            Phase::Draining { deadline: earlier } if earlier <= deadline => false,
            _ => {
                *phase = Phase::Draining { deadline };
                true
            }
        });
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Running)
    }

    pub(crate) fn watch(&self) -> DrainWatch {
        DrainWatch { phase: self.phase.subscribe() }
    }
}

/// Sees a drain begin.
#[derive(Clone, Debug)]
pub(crate) struct DrainWatch {
    phase: watch::Receiver<Phase>,
}

impl DrainWatch {
    /// Resolves once a drain has begun, with its deadline; also if everyone who could drain is gone.
    ///
    /// Cancel safe.
    pub(crate) async fn started(&mut self) -> Instant {
        match self.phase.wait_for(|phase| *phase != Phase::Running).await.as_deref() {
            Ok(&Phase::Draining { deadline }) => deadline,
            Ok(Phase::Running) | Err(_) => Instant::now(),
        }
    }

    /// Whether a drain has begun.
    pub(crate) fn has_started(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Resolves when a drain has lasted for `grace`, or at its deadline if that comes first.
    ///
    /// Cancel safe.
    pub(crate) async fn lasted(&mut self, grace: Duration) {
        self.started().await;
        let _ = timeout(grace, self.expired()).await;
    }

    /// Resolves at the deadline of a drain, following it when it is brought forward.
    ///
    /// Cancel safe.
    pub(crate) async fn expired(&mut self) {
        loop {
            let deadline = self.started().await;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = self.phase.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_drain_expires_at_its_deadline() {
        let handle = DrainHandle::new(LIMIT);
        let mut watch = handle.watch();
        let begun = Instant::now();
        handle.drain();
        assert!(handle.is_draining());
        watch.expired().await;
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_ends_with_the_drain_at_the_latest() {
        for (grace, lasts) in [(LIMIT / 2, LIMIT / 2), (LIMIT * 2, LIMIT)] {
            let handle = DrainHandle::new(LIMIT);
            let mut watch = handle.watch();
            let begun = Instant::now();
            handle.drain();
            watch.lasted(grace).await;
            assert_eq!(begun.elapsed(), lasts);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_may_have_all_the_time_there_is() {
        let handle = DrainHandle::new(Duration::MAX);
        handle.drain();
        assert!(handle.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_drain_may_only_bring_the_deadline_forward() {
        let handle = DrainHandle::new(LIMIT);
        let mut watch = handle.watch();
        let begun = Instant::now();
        handle.drain_within(Duration::from_secs(2));
        handle.drain_within(Duration::from_secs(60));
        assert_eq!(watch.started().await, begun + Duration::from_secs(2));
        let expired = tokio::spawn(async move {
            watch.expired().await;
            begun.elapsed()
        });
        tokio::task::yield_now().await;
        handle.drain_within(Duration::from_secs(1));
        assert_eq!(expired.await.unwrap(), Duration::from_secs(1));
    }
}
