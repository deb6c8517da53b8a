//! When files that could not be read are tried again though they have not changed.

use std::time::Duration;

use super::FileWatch;

/// Growing pauses after readings that failed for a reason that passes by itself.
#[derive(Debug, Default)]
pub(super) struct Retry(Option<Duration>);

impl Retry {
    /// The last reading failed, and another may not.
    pub(super) fn failed(&mut self) {
        self.0 = Some(self.0.map_or(FIRST, |pause| (pause * 2).min(LAST)));
    }

    /// The last reading succeeded, or another would be of no use.
    pub(super) fn done(&mut self) {
        self.0 = None;
    }

    /// Waits until the files are to be read: because they have changed, or once more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn next(&self, watch: &mut FileWatch) {
        match self.0 {
            // That they changed is seen by the next look at them.
            Some(pause) => drop(tokio::time::timeout(pause, watch.changed()).await),
            None => watch.changed().await,
        }
    }
}

const FIRST: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(60);
