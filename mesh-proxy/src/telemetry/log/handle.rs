use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Dispatch, Metadata, subscriber::Interest};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::Context,
    reload,
};

use super::levels::{LogLevels, LogOverrides};

/// The layer that drops events below their level; it goes directly above a [`Registry`].
#[derive(Debug)]
pub struct LogFilter(reload::Layer<Targets, Registry>);

/// What a filter of levels has to say; it takes no interest in spans and events themselves.
impl Layer<Registry> for LogFilter {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        self.0.on_register_dispatch(subscriber);
    }

    fn on_layer(&mut self, subscriber: &mut Registry) {
        self.0.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, Registry>) -> bool {
        self.0.enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }
}

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
        (LogFilter(layer), Self { current: Arc::new(Mutex::new(levels.clone())), startup: levels, filter })
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
