//! Files that are read again when they change.

use std::{error::Error, sync::Arc};

use mesh_proxy::Report;
use tokio::sync::Mutex;

/// A value made of files, made again when their contents are others. While they are no good, it stays.
///
/// Who asks reads: the files are small, and no change is missed.
pub(super) struct Reread<S, T> {
    what: &'static str,
    state: Mutex<State<S, T>>,
}

struct State<S, T> {
    value: Arc<T>,
    source: S,
    refused: Option<S>,
}

impl<S: Clone + PartialEq, T> Reread<S, T> {
    /// A value and what it was made of.
    pub(super) fn new(what: &'static str, source: S, value: T) -> Self {
        Self { what, state: Mutex::new(State { value: Arc::new(value), source, refused: None }) }
    }

    /// The value, without a look at what it is made of.
    pub(super) async fn last(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().await.value)
    }

    /// The value, after a look at what it is made of. Tells once what is no good.
    pub(super) async fn get<E: Error + 'static>(
        &self,
        source: Result<S, E>,
        make: impl FnOnce(&S) -> Result<T, E>,
    ) -> Arc<T> {
        let mut state = self.state.lock().await;
        match source {
            Ok(source) if source == state.source || state.refused.as_ref() == Some(&source) => {}
            Ok(source) => match make(&source) {
                Ok(value) => {
                    tracing::info!("{} changed", self.what);
                    *state = State { value: Arc::new(value), source, refused: None };
                }
                Err(error) => {
                    tracing::warn!("{} changed and cannot be used: {}", self.what, Report(&error));
                    state.refused = Some(source);
                }
            },
            Err(error) => tracing::warn!("{} cannot be read: {}", self.what, Report(&error)),
        }
        Arc::clone(&state.value)
    }
}
