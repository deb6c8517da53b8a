use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::{Registry, filter::Targets, reload};

use super::levels::{LogLevels, LogOverrides};

/// The layer that drops events below their level; it goes directly above a [`Registry`].
pub type LogFilter = reload::Layer<Targets, Registry>;

/// Changes what is logged, while running and from anywhere.
#[derive(Clone, Debug)]
pub struct LogHandle {
    startup: LogLevels,
    current: Arc<Mutex<LogLevels>>,
    filter: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    /// The filter for a subscriber, and the handle to it.
    pub fn new(levels: LogLevels) -> (LogFilter, Self) {
        let (layer, filter) = reload::Layer::new(levels.to_filter());
        (layer, Self { current: Arc::new(Mutex::new(levels.clone())), startup: levels, filter })
    }

    /// What is logged now.
    pub fn levels(&self) -> LogLevels {
        self.lock().clone()
    }

    /// Overrides some of the levels.
    pub fn add(&self, overrides: &LogOverrides) {
        let mut current = self.lock();
        *current = current.clone().with(overrides);
        self.apply(&current);
    }

    /// Goes back to the levels at start-up, with some overridden.
    pub fn reset(&self, overrides: &LogOverrides) {
        let mut current = self.lock();
        *current = self.startup.clone().with(overrides);
        self.apply(&current);
    }

    fn apply(&self, levels: &LogLevels) {
        // It fails only where the subscriber is gone, and then nothing is logged anyway.
        let _ = self.filter.reload(levels.to_filter());
    }

    fn lock(&self) -> MutexGuard<'_, LogLevels> {
        // Levels are replaced as a whole, so they are good even if whoever held the lock panicked.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
