//! Revocation lists from a file.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use super::{FileWatch, read::read, retry::Retry};
use crate::Revocation;

/// Keeps revocation lists as a file says: PEM with any number of lists, or one in DER.
///
/// The file may be missing, broken or unreadable, at the start or later: the lists before stay, the failure is logged and
/// shows in the [status](Revocation::status), and the next good file is taken. What peers are refused meanwhile is for the
/// [policy](crate::RevocationPolicy).
#[derive(Debug)]
pub struct RevocationFile {
    path: PathBuf,
    revocation: Revocation,
}

impl RevocationFile {
    /// Reads the file for the first time, which blocks for as long as that takes.
    pub fn open(path: impl Into<PathBuf>, revocation: Revocation) -> Self {
        let file = Self { path: path.into(), revocation };
        file.reload();
        file
    }

    /// What it keeps.
    pub fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// Reads the file now, which blocks for as long as that takes. Whether it was taken.
    pub fn reload(&self) -> bool {
        load(&self.path, &self.revocation) == Reading::Taken
    }

    /// Reads the file whenever it changes, for as long as it is polled: within two seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it.
    pub async fn follow(&self) -> Infallible {
        self.follow_with(FileWatch::new([])).await
    }

    /// The same with a watch of other timing. What it was made to watch is not looked at.
    ///
    /// # Cancel safety
    ///
    /// As [`follow`](Self::follow).
    pub async fn follow_with(&self, watch: FileWatch) -> Infallible {
        let mut watch = watch.watching([self.path.clone()]);
        // It may have changed since it was opened.
        watch.read_again();
        let mut retry = Retry::default();
        loop {
            retry.next(&mut watch).await;
            let (path, revocation) = (self.path.clone(), self.revocation.clone());
            match tokio::task::spawn_blocking(move || load(&path, &revocation)).await {
                Ok(Reading::Failed) => retry.failed(),
                Ok(Reading::Refused | Reading::Taken) => retry.done(),
                // A panic while reading would be a bug, and cost this one reading.
                Err(_) => {}
            }
        }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It could not be read, which may pass.
    Failed,
    /// It is no good, or not there, until it changes.
    Refused,
    Taken,
}

fn load(path: &Path, revocation: &Revocation) -> Reading {
    let loaded = match read(path, LIMIT) {
        Ok(bytes) => revocation.load(&bytes).map_err(|error| (Reading::Refused, error.to_string())),
        Err(error) => {
            revocation.failed(&error);
            Err((if error.may_pass() { Reading::Failed } else { Reading::Refused }, error.chain()))
        }
    };
    let path = path.display();
    match loaded {
        Ok(()) => {
            let lists = revocation.lists();
            let (count, revoked) = (lists.len(), lists.revoked_certificates());
            tracing::info!(target: TARGET, %path, lists = count, revoked, "revocation lists loaded");
            Reading::Taken
        }
        Err((reading, error)) => {
            tracing::warn!(target: TARGET, %path, %error, "no revocation lists read, those before stay");
            reading
        }
    }
}

const TARGET: &str = "crl";

/// Bytes of a file: about a million revoked certificates.
const LIMIT: u64 = 64 * 1024 * 1024;
