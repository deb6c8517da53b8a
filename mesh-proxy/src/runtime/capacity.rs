use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Direction;

/// How many connections one worker may serve at once: as many inbound as outbound.
///
/// They are counted apart because anybody who reaches the workload's address can make inbound ones, and shall not keep
/// the workload itself from connecting.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    limit: u32,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
}

impl Capacity {
    pub(crate) fn new(limit: u32) -> Self {
        let places = || Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { limit, inbound: places(), outbound: places() }
    }

    /// Takes a place if there is one.
    pub(crate) fn try_take(&self, direction: Direction) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.places(direction)).try_acquire_owned().ok()
    }

    /// Whether there is a place now.
    pub(crate) fn has_room(&self, direction: Direction) -> bool {
        self.places(direction).available_permits() > 0
    }

    /// Waits for a place.
    ///
    /// Cancel safe.
    pub(crate) async fn take(&self, direction: Direction) -> OwnedSemaphorePermit {
        let place = Arc::clone(self.places(direction)).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// Resolves once no place is taken.
    ///
    /// Cancel safe.
    pub(crate) async fn unused(&self) {
        for places in [&self.inbound, &self.outbound] {
            drop(places.acquire_many(self.limit).await);
        }
    }

    fn places(&self, direction: Direction) -> &Arc<Semaphore> {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn neither_direction_takes_the_others_places() {
        let capacity = Capacity::new(1);
        let inbound = capacity.try_take(Direction::Inbound).unwrap();
        assert!(capacity.try_take(Direction::Inbound).is_none());
        let outbound = capacity.try_take(Direction::Outbound).unwrap();
        for permit in [inbound, outbound] {
            assert!(capacity.unused().now_or_never().is_none());
            drop(permit);
        }
        capacity.unused().await;
    }

    #[tokio::test]
    async fn as_many_as_can_be_counted_are_counted() {
        let capacity = Capacity::new(u32::MAX);
        let permit = capacity.take(Direction::Outbound).await;
        assert!(capacity.unused().now_or_never().is_none());
        drop(permit);
        capacity.unused().await;
    }
}
