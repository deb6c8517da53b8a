//! Reads files, and tells whether they are still those that were read.

use std::{
    fs::{self, File, Metadata},
    io::Read,
    path::{Path, PathBuf},
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::FileError;

/// What files look like from outside; `None` for one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looks(Vec<Option<Look>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    /// Which file it is: another one under the same name may have the length and the time of the one before.
    file: (u64, u64, i64, i64),
}

impl Looks {
    /// Follows symbolic links: what matters is the file that would be read.
    pub(super) fn now(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| fs::metadata(path).ok().map(|metadata| Look::of(&metadata))).collect())
    }
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok(), file: file(metadata) }
    }
}

/// Device, inode, and the time of the last change of anything, the permissions included.
#[cfg(unix)]
fn file(metadata: &Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn file(_: &Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

/// Reads a file of at most `limit` bytes. The memory is overwritten before it is given back.
pub(super) fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let expected = file.metadata().map_err(failed)?.len();
    if expected > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    // Room for all of it: a vector that grows leaves copies behind.
    let capacity = usize::try_from(expected).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
