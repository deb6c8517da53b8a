use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};

use super::{Endpoint, answer};

/// What a process still has to do before it is ready for traffic; clones share it.
///
/// ```
/// let readiness = mesh_proxy::admin::Readiness::new();
/// let task = readiness.pending("state manager");
/// assert_eq!(readiness.pending_tasks(), ["state manager"]);
/// drop(task);
/// assert!(readiness.is_ready());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How many tasks of each name are pending.
    pending: BTreeMap<&'static str, usize>,
    draining: bool,
}

impl Readiness {
    /// Ready at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task, at start or later; dropping the result says that it is done.
    pub fn pending(&self, name: &'static str) -> PendingTask {
        *self.lock().pending.entry(name).or_default() += 1;
        PendingTask { readiness: self.clone(), name }
    }

    /// Says that the process takes no more traffic, for the rest of its life.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Whether nothing is pending and no drain has begun.
    pub fn is_ready(&self) -> bool {
        self.verdict() == Verdict::Ready
    }

    /// The names of what is pending, sorted.
    pub fn pending_tasks(&self) -> Vec<&'static str> {
        self.lock().pending.keys().copied().collect()
    }

    fn verdict(&self) -> Verdict {
        let state = self.lock();
        if state.draining {
            Verdict::Draining
        } else if state.pending.is_empty() {
            Verdict::Ready
        } else {
            Verdict::Pending(state.pending.keys().copied().collect())
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether to send traffic here, at one moment.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Draining,
    Pending(Vec<&'static str>),
    Ready,
}

/// Something that has to be done before a process is ready.
#[derive(Debug)]
#[must_use = "dropping the task says that it is done"]
pub struct PendingTask {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for PendingTask {
    fn drop(&mut self) {
        let mut state = self.readiness.lock();
        if let Some(count) = state.pending.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                state.pending.remove(self.name);
            }
        }
    }
}

/// Answers `GET /healthz/ready`: 200 if ready, 500 with what is pending, 503 during a drain.
#[derive(Clone, Debug)]
pub struct ReadinessEndpoint(Readiness);

impl ReadinessEndpoint {
    /// Answers from `readiness`.
    pub fn new(readiness: Readiness) -> Self {
        Self(readiness)
    }
}

impl Endpoint for ReadinessEndpoint {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        if request.uri.path() != "/healthz/ready" {
            return answer::empty(StatusCode::NOT_FOUND);
        }
        if request.method != Method::GET {
            return answer::empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        match self.0.verdict() {
            Verdict::Draining => answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Verdict::Pending(tasks) => {
                let text = format!("not ready, pending: {}\n", tasks.join(", "));
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            Verdict::Ready => answer::text(StatusCode::OK, "ready\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_outweighs_what_is_pending() {
        let readiness = Readiness::new();
        assert_eq!(readiness.verdict(), Verdict::Ready);
        let task = readiness.pending("state");
        assert_eq!(readiness.verdict(), Verdict::Pending(vec!["state"]));
        readiness.drain();
        assert_eq!(readiness.verdict(), Verdict::Draining);
        drop(task);
        assert_eq!(readiness.verdict(), Verdict::Draining);
    }
}
