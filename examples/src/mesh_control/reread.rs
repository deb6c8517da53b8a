//! Files that are read again when they change.

use std::{
    error::Error,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_proxy::Report;
use tokio::sync::Mutex;

use super::line::line;

/// A value made of files, made again when their contents are others. While they are no good, it stays.
///
/// Who asks reads: the files are small, and no change is missed. Of what was read only a hash is kept.
pub(super) struct Reread<T> {
    what: &'static str,
    hasher: RandomState,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    made_of: u64,
    refused: Option<u64>,
    looked: Instant,
}

impl<T> Reread<T> {
    /// A value and what it was made of.
    pub(super) fn new(what: &'static str, source: &impl Hash, value: T) -> Self {
        let hasher = RandomState::new();
        let made_of = hasher.hash_one(source);
        let state = State { value: Arc::new(value), made_of, refused: None, looked: Instant::now() };
        Self { what, hasher, state: Mutex::new(state) }
    }

    /// The value, without a look at what it is made of.
    pub(super) async fn last(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().await.value)
    }

    /// The value, after a look at what it is made of, unless somebody looked a moment ago.
    pub(super) async fn recent<S: Hash, E: Error + 'static>(
        &self,
        read: impl AsyncFnOnce() -> Result<S, E>,
        make: impl AsyncFnOnce(S) -> Result<T, E>,
    ) -> Arc<T> {
        let mut state = self.state.lock().await;
        if state.looked.elapsed() >= RECENT {
            self.look(&mut state, read, make).await;
        }
        Arc::clone(&state.value)
    }

    /// The value, after a look at what it is made of. Tells once what is no good.
    pub(super) async fn get<S: Hash, E: Error + 'static>(
        &self,
        read: impl AsyncFnOnce() -> Result<S, E>,
        make: impl AsyncFnOnce(S) -> Result<T, E>,
    ) -> Arc<T> {
        let mut state = self.state.lock().await;
        self.look(&mut state, read, make).await;
        Arc::clone(&state.value)
    }

    async fn look<S: Hash, E: Error + 'static>(
        &self,
        state: &mut State<T>,
        read: impl AsyncFnOnce() -> Result<S, E>,
        make: impl AsyncFnOnce(S) -> Result<T, E>,
    ) {
        state.looked = Instant::now();
        let source = match read().await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!("{} cannot be read: {}", self.what, line(&Report(&error)));
                return;
            }
        };
        let made_of = self.hasher.hash_one(&source);
        if made_of == state.made_of || state.refused == Some(made_of) {
            return;
        }
        match make(source).await {
            Ok(value) => {
                tracing::info!("{} changed", self.what);
                (state.value, state.made_of, state.refused) = (Arc::new(value), made_of, None);
            }
            Err(error) => {
                let error = line(&Report(&error));
                tracing::warn!("{} changed and cannot be used: {error}", self.what);
                state.refused = Some(made_of);
            }
        }
    }
}

/// Long enough that connections of strangers read nothing, and shorter than clients wait before they try again.
const RECENT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io};

    use super::*;

    #[tokio::test]
    async fn what_is_no_good_is_tried_once_and_changes_nothing() {
        let value = Reread::new("a number", &"1", 1);
        let tried = Cell::new(0);
        let get = async |text: &'static str| {
            let make = async |text: &str| {
                tried.set(tried.get() + 1);
                text.parse::<u32>().map_err(io::Error::other)
            };
            *value.get(async || Ok(text), make).await
        };
        assert_eq!(get("1").await, 1);
        assert_eq!(tried.get(), 0);
        assert_eq!(get("x").await, 1);
        assert_eq!(get("x").await, 1);
        assert_eq!(tried.get(), 1);
        assert_eq!(get("2").await, 2);
        let unreadable = async || Err::<&str, _>(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(*value.get(unreadable, async |_| Ok(3)).await, 2);
    }

    #[tokio::test]
    async fn who_comes_right_after_somebody_reads_nothing() {
        let value = Reread::new("a number", &"1", 1);
        let read = async || -> Result<&str, io::Error> { panic!("it was read a moment ago") };
        assert_eq!(*value.recent(read, async |_| Ok(2)).await, 1);
    }
}
