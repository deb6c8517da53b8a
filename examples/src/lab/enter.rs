use std::{
    fmt, fs, io,
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
    probe,
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
/// Call it near the start of `main`, after [`exec_if_asked`](super::exec_if_asked): a process that has threads cannot
/// change its user namespace. A child process tries first, so that an error leaves this one as it was.
///
/// # Errors
///
/// If the system refuses; the error says what does, and its [`Refusal`] what to do.
pub fn enter() -> Result<Workspace, EnterError> {
    probe::probe()?;
    enter_here().map_err(|(step, errno)| EnterError::refused(step, errno))
}

/// Takes the steps; after an error some of them are taken.
pub(super) fn enter_here() -> Result<Workspace, (Step, Errno)> {
    let inner = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let privilege = if SystemFacts::read().has_capabilities() && unshare(inner).is_ok() {
        Privilege::Capabilities
    } else {
        // Asked before: inside, the process is user 0 of its own namespace.
        let (user, group) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER | inner).map_err(|errno| (Step::Unshare, errno))?;
        map_ids(user.as_raw(), group.as_raw()).map_err(|error| {
            (Step::MapIds, error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
        })?;
        Privilege::UserNamespace
    };
    // Without this, what is mounted below would show outside.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| (Step::Mount, errno))?;
    let scratch = mount_scratch().map_err(|errno| (Step::Mount, errno))?;
    Ok(Workspace { privilege, scratch })
}

/// Why this process could not move into namespaces of its own.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// It could not be found out whether it can.
    #[error("namespaces cannot be tried in a child process")]
    Probe {
        /// Why not.
        source: io::Error,
    },
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
            Self::Probe { .. } => Refusal::Unknown,
            Self::Refused { refusal, .. } => *refusal,
        }
    }

    pub(super) fn refused(step: Step, errno: Errno) -> Self {
        Self::Refused { step, refusal: Refusal::diagnose(errno, &SystemFacts::read()), source: errno.into() }
    }
}

/// A step into the namespaces, as an error names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Mapping this user to user 0 inside.
    MapIds,
    /// Mounting inside the mount namespace.
    Mount,
    /// Leaving the namespaces shared with the machine.
    Unshare,
}

impl Step {
    pub(super) const ALL: [Self; 3] = [Self::MapIds, Self::Mount, Self::Unshare];

    /// The word for it between processes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MapIds => "map-ids",
            Self::Mount => "mount",
            Self::Unshare => "unshare",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MapIds => "mapping this user into a user namespace",
            Self::Mount => "mounting inside a new mount namespace",
            Self::Unshare => "making user, mount and network namespaces",
        })
    }
}

fn map_ids(user: u32, group: u32) -> io::Result<()> {
    // An unprivileged group map needs this first; kernels before 3.19 have no such file and no such rule.
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

fn mount_scratch() -> nix::Result<PathBuf> {
    let mut last = Errno::ENOENT;
    for place in SCRATCH_PLACES {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0700")) {
            Ok(()) => return Ok(PathBuf::from(place)),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}
