use std::{
    fs::{self, Metadata},
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
///
/// Content counts once two looks in a row have found it, however it came there. A file is written piece by piece, under
/// its own name or a new one, and a piece may read well and lack the policies that protect the rest.
#[derive(Debug)]
pub struct LocalConfigFile {
    path: Arc<Path>,
    looks: Option<Interval>,
    seen: Seen,
}

impl LocalConfigFile {
    /// Names the file to read; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Arc::from(path.into()), looks: None, seen: Seen::default() }
    }

    /// Waits for content not returned before, and reads it. The first call takes two looks, a quarter of a second.
    ///
    /// Reading and parsing take place on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no regular file or larger than 1 GiB, its content is not a valid configuration, or it is empty and was not always: once
    /// per content, so that one mistake makes one message. The next call waits for the next change.
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
                let mut seen = self.seen.clone();
                let news = seen.unreadable(&self.path, io::Error::other(error));
                (seen, news)
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

/// What the looks so far have found.
#[derive(Clone, Debug, Default)]
struct Seen {
    last: Last,
    /// Of the content returned last, also while the file cannot be read.
    returned: Option<u64>,
    /// Whether any content returned was more than blanks.
    had_content: bool,
}

/// What the last look found.
#[derive(Clone, Debug, Default)]
enum Last {
    #[default]
    Nothing,
    /// Content that two looks agreed on.
    Settled(Fingerprint),
    Unreadable(io::ErrorKind),
    /// Content that may still be being written.
    Unsettled(u64),
}

type News = Option<Result<LocalConfig, LocalConfigError>>;

/// Reads the file if it may have changed since the last look.
fn look(path: &Path, mut seen: Seen) -> (Seen, News) {
    let content = fs::metadata(path).and_then(|metadata| is_acceptable(&metadata).map(|()| metadata));
    let content = content.map(|metadata| Fingerprint::of(&metadata)).and_then(|fingerprint| {
        let unchanged = matches!(&seen.last, Last::Settled(last) if !last.fresh && *last == fingerprint);
        let text = if unchanged { None } else { Some(fs::read_to_string(path)?) };
        Ok((fingerprint, text))
    });
    let news = match content {
        Ok((fingerprint, text)) => text.and_then(|text| seen.readable(fingerprint, &text)),
        Err(error) => seen.unreadable(path, error),
    };
    (seen, news)
}

impl Seen {
    fn readable(&mut self, fingerprint: Fingerprint, text: &str) -> News {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        if self.returned == Some(hash) {
            self.last = Last::Settled(fingerprint);
            return None;
        }
        if !matches!(self.last, Last::Unsettled(last) if last == hash) {
            self.last = Last::Unsettled(hash);
            return None;
        }
        self.last = Last::Settled(fingerprint);
        self.returned = Some(hash);
        let is_empty = text.trim().is_empty();
        if is_empty && self.had_content {
            return Some(Err(LocalConfigError::Empty));
        }
        self.had_content |= !is_empty;
        Some(text.parse())
    }

    fn unreadable(&mut self, path: &Path, error: io::Error) -> News {
        let kind = error.kind();
        let is_known = matches!(self.last, Last::Unreadable(last) if last == kind);
        self.last = Last::Unreadable(kind);
        (!is_known).then(|| Err(read_error(path, error)))
    }
}

/// A pipe can be read once and may never end; a file as large as that would fill the memory.
fn is_acceptable(metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > LARGEST {
        let text = format!("larger than {LARGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(())
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
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let fresh = modified.is_none_or(|time| time.elapsed().is_ok_and(|age| age < CLOCK_GRANULARITY));
        Self { file: (metadata.dev(), metadata.ino()), size: metadata.size(), modified, fresh }
    }
}

/// A quarter of the second within which a change is to be in force: it takes two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A hundred thousand workloads take some 50 MB.
const LARGEST: u64 = 1 << 30;

/// More than the resolution of any file system's clock but for FAT's two seconds.
const CLOCK_GRANULARITY: Duration = Duration::from_secs(1);
