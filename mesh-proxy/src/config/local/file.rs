use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{LocalConfig, LocalConfigError};

/// A local configuration file that is read again when it changes.
///
/// The file is looked at four times a second: what its path leads to, when that was modified and how large it is.
/// That notices every way in which such files are replaced, on every file system: a write in place, a rename
/// over it, and the swap of a symbolic link in a parent directory by which Kubernetes updates mounted
/// volumes. Change notification misses the latter unless each directory on the way is watched, and does not
/// exist on some network file systems.
#[derive(Debug)]
pub struct LocalConfigFile {
    path: Arc<Path>,
    looks: Option<Interval>,
    seen: Seen,
}

impl LocalConfigFile {
    /// Names the file to read; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Arc::from(path.into()), looks: None, seen: Seen::Nothing }
    }

    /// Waits for content not returned before, and reads it. The first call returns at once.
    ///
    /// Reading and parsing take place on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or its content is not a valid configuration: once per content, so that one
    /// mistake makes one message. The next call waits for the next change.
    ///
    /// # Cancel safety
    ///
    /// Safe: content that was being read when the future is dropped is read again by the next call.
    pub async fn next(&mut self) -> Result<LocalConfig, LocalConfigError> {
        loop {
            self.looks.get_or_insert_with(looks).tick().await;
            let (path, seen) = (Arc::clone(&self.path), self.seen.clone());
            let look = tokio::task::spawn_blocking(move || look(&path, seen)).await;
            // The task is never aborted, and a bug in it must not end the source: as with an unreadable file.
            let (seen, news) = look.unwrap_or_else(|error| {
                let failure = io::Error::other(error);
                (Seen::Unreadable(failure.kind()), Some(Err(read_error(&self.path, failure))))
            });
            self.seen = seen;
            if let Some(news) = news {
                return news;
            }
        }
    }
}

fn looks() -> Interval {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// What the last look found.
#[derive(Clone, Debug)]
enum Seen {
    Content {
        fingerprint: Fingerprint,
        /// Of the content returned last.
        hash: u64,
        /// Of content that may still be being written.
        unsettled: Option<u64>,
    },
    Nothing,
    Unreadable(io::ErrorKind),
}

type News = Option<Result<LocalConfig, LocalConfigError>>;

/// Reads the file if it may have changed since the last look.
fn look(path: &Path, seen: Seen) -> (Seen, News) {
    let content = fs::metadata(path).map(|metadata| Fingerprint::of(&metadata)).and_then(|fingerprint| {
        let unchanged =
            matches!(&seen, Seen::Content { fingerprint: last, unsettled: None, .. } if !last.fresh && *last == fingerprint);
        let text = if unchanged { None } else { Some(fs::read_to_string(path)?) };
        Ok((fingerprint, text))
    });
    match content {
        Ok((_, None)) => (seen, None),
        Ok((fingerprint, Some(text))) => {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let hash = hasher.finish();
            let Seen::Content { fingerprint: last, hash: last_hash, unsettled } = seen else {
                return (Seen::Content { fingerprint, hash, unsettled: None }, Some(text.parse()));
            };
            if hash == last_hash {
                return (Seen::Content { fingerprint, hash, unsettled: None }, None);
            }
            if fingerprint.file == last.file && unsettled != Some(hash) {
                // A file written in place passes through states that its author never meant, and half of
                // the policies may read well: what counts is what two looks agree on.
                return (Seen::Content { fingerprint, hash: last_hash, unsettled: Some(hash) }, None);
            }
            let news = if text.trim().is_empty() { Err(LocalConfigError::Empty) } else { text.parse() };
            (Seen::Content { fingerprint, hash, unsettled: None }, Some(news))
        }
        Err(error) => {
            let kind = error.kind();
            let same = matches!(seen, Seen::Unreadable(last) if last == kind);
            (Seen::Unreadable(kind), (!same).then(|| Err(read_error(path, error))))
        }
    }
}

fn read_error(path: &Path, source: io::Error) -> LocalConfigError {
    LocalConfigError::Read { path: path.to_owned(), source }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    file: (u64, u64),
    size: u64,
    modified: Option<SystemTime>,
    /// Set for a file that was modified just now: a second write within the clock's granularity would not
    /// show.
    fresh: bool,
}

impl Fingerprint {
    fn of(metadata: &fs::Metadata) -> Self {
        let modified = metadata.modified().ok();
        let fresh = modified.is_none_or(|time| time.elapsed().is_ok_and(|age| age < CLOCK_GRANULARITY));
        Self { file: (metadata.dev(), metadata.ino()), size: metadata.size(), modified, fresh }
    }
}

/// A quarter of the second within which a change is to be in force: it may take two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// More than the resolution of any file system's clock but for FAT's two seconds.
const CLOCK_GRANULARITY: Duration = Duration::from_secs(1);
