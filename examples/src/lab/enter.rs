use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};
use thiserror::Error;

use super::{
    refusal::{Refusal, SystemFacts},
    tool::{Tool, ToolError},
};

/// Directories that exist everywhere and hold no programs: one is covered by the private file system.
const SCRATCH_PLACES: [&str; 3] = ["/dev/shm", "/mnt", "/media"];

/// The private namespaces of this process: proof that nothing built on it can touch the machine.
#[derive(Debug)]
pub struct Workspace {
    privilege: Privilege,
    scratch: PathBuf,
}

impl Workspace {
    /// What made the namespaces possible.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// An empty directory in memory that only this process and its children see, gone when the last of them ends.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Brings the loopback interface of the private network namespace up, for what runs there without a host.
    ///
    /// # Errors
    ///
    /// If `ip` is missing or fails.
    pub fn raise_loopback(&self) -> Result<(), ToolError> {
        Tool::Ip.run_here(["link", "set", "lo", "up"])
    }
}

/// What made the namespaces possible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Privilege {
    /// The process had the capabilities, as root has.
    Capabilities,
    /// A user namespace, in which an unprivileged user has them.
    UserNamespace,
}

/// Moves this process into a mount and a network namespace of its own, and into a user namespace if it needs one.
///
/// Call it at the start of `main`: a process that has threads cannot change its user namespace.
///
/// # Errors
///
/// If the system refuses; the error says what does, and what to do.
pub fn enter() -> Result<Workspace, EnterError> {
    let inner = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let privilege = if unshare(inner).is_ok() {
        Privilege::Capabilities
    } else {
        // Asked before: inside, the process is user 0 of its own namespace.
        let (user, group) = (geteuid(), getegid());
        refused_at(Step::Unshare, unshare(CloneFlags::CLONE_NEWUSER | inner))?;
        map_ids(user.as_raw(), group.as_raw())?;
        Privilege::UserNamespace
    };
    // Without this, what is mounted below would show outside.
    refused_at(
        Step::Mount,
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>),
    )?;
    Ok(Workspace { privilege, scratch: mount_scratch()? })
}

/// Why this process could not move into namespaces of its own.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The system refuses a step.
    #[error("{step} is refused by {refusal}")]
    Refused {
        /// What was tried.
        step: Step,
        /// What stands in the way.
        refusal: Refusal,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl EnterError {
    /// What stands in the way.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused { refusal, .. } => *refusal,
        }
    }
}

/// A step into the namespaces, as an error names it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Step {
    /// Mapping this user to user 0 inside.
    #[error("mapping this user into a user namespace")]
    MapIds,
    /// Mounting inside the mount namespace.
    #[error("mounting inside a new mount namespace")]
    Mount,
    /// Leaving the namespaces shared with the machine.
    #[error("making user, mount and network namespaces")]
    Unshare,
}

fn map_ids(user: u32, group: u32) -> Result<(), EnterError> {
    // An unprivileged group map needs this first; kernels before 3.19 have no such file and no such rule.
    let _ = fs::write("/proc/self/setgroups", "deny");
    for (file, id) in [("/proc/self/uid_map", user), ("/proc/self/gid_map", group)] {
        fs::write(file, format!("0 {id} 1")).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
            refusal(Step::MapIds, errno)
        })?;
    }
    Ok(())
}

fn mount_scratch() -> Result<PathBuf, EnterError> {
    let mut last = Errno::ENOENT;
    for place in SCRATCH_PLACES {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0700")) {
            Ok(()) => return Ok(PathBuf::from(place)),
            Err(errno) => last = errno,
        }
    }
    Err(refusal(Step::Mount, last))
}

fn refused_at(step: Step, result: nix::Result<()>) -> Result<(), EnterError> {
    result.map_err(|errno| refusal(step, errno))
}

fn refusal(step: Step, errno: Errno) -> EnterError {
    EnterError::Refused {
        step,
        refusal: Refusal::diagnose(errno, &SystemFacts::read()),
        source: errno.into(),
    }
}
