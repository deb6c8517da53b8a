use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::tunnel::Stream;

/// Streams that wait for the driver to look at them. Asking an empty one costs an atomic load.
#[derive(Debug)]
pub(super) struct StreamList {
    is_filled: AtomicBool,
    /// `None` once there is no driver.
    streams: Mutex<Option<Vec<Arc<Stream>>>>,
}

impl StreamList {
    pub(super) fn new() -> Self {
        Self { is_filled: AtomicBool::new(false), streams: Mutex::new(Some(Vec::new())) }
    }

    /// Adds a stream. Whoever does wakes the driver after that.
    pub(super) fn push(&self, stream: Arc<Stream>) {
        if let Some(streams) = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            streams.push(stream);
            self.is_filled.store(true, Ordering::Release);
        }
    }

    /// Exchanges the streams with an empty list, if there are any; says whether there are.
    #[inline]
    pub(super) fn swap(&self, other: &mut Vec<Arc<Stream>>) -> bool {
        let is_filled = self.is_filled.load(Ordering::Acquire);
        if is_filled {
            self.swap_filled(other);
        }
        is_filled
    }

    fn swap_filled(&self, other: &mut Vec<Arc<Stream>>) {
        if let Some(streams) = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            self.is_filled.store(false, Ordering::Release);
            std::mem::swap(streams, other);
        }
    }

    /// There is no driver any more. Yields what it left undone.
    pub(super) fn close(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}
