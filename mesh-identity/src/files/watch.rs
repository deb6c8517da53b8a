//! Notices that files were replaced.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{read::Looks, settle::Settle};

/// Waits until any of some files has been replaced, rewritten, made or removed.
///
/// It looks at them once a second, through symbolic links, and reports a change when nothing has moved for half a second
/// more: within two seconds, and once for a set that is replaced one by one. Kubernetes replaces a mounted secret by
/// swapping one link above all its files; that is one change.
#[derive(Debug)]
pub struct FileWatch {
    paths: Vec<PathBuf>,
    settle: Settle<Looks>,
    ticks: Interval,
}

impl FileWatch {
    /// How often the files are looked at by default.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// How long nothing must have moved by default.
    pub const QUIET: Duration = Duration::from_millis(500);

    /// Watches files, which need not exist, for changes from now on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        let mut settle = Settle::new(Self::QUIET);
        settle.was_read(Looks::now(&paths));
        Self { paths, settle, ticks: ticks(Self::INTERVAL) }
    }

    /// Looks at the files so often; at least a millisecond apart.
    #[must_use]
    pub fn interval(self, every: Duration) -> Self {
        Self { ticks: ticks(every.max(Duration::from_millis(1))), ..self }
    }

    /// Reports a change when nothing has moved for so long.
    #[must_use]
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.settle.quiet(quiet);
        self
    }

    /// Waits for the next change.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a change it saw is reported by the next call.
    pub async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            let paths = self.paths.clone();
            // A file system that does not answer must not hold up the runtime.
            let Ok(looks) = tokio::task::spawn_blocking(move || Looks::now(&paths)).await else { continue };
            if self.settle.see(looks, Instant::now().into_std()) {
                return;
            }
        }
    }

    /// Watches other files, from now on.
    pub(super) fn watching(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.paths = paths.into_iter().collect();
        self.settle.was_read(Looks::now(&self.paths));
        self
    }

    /// Starts from how the files looked when they were read.
    pub(super) fn was_read(&mut self, looks: Looks) {
        self.settle.was_read(looks);
    }

    /// The next look counts as a change.
    pub(super) fn read_again(&mut self) {
        self.settle.forget();
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
