use std::{fmt, fs};

use nix::errno::Errno;

/// What stands in the way of a namespace, by the name an administrator knows it by.
///
/// The kernel answers most of these with the same `EPERM`, so the reason is inferred from what the system says about
/// itself; [`Unknown`](Self::Unknown) is the honest answer when nothing fits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// AppArmor takes the capabilities of unprivileged user namespaces away (Ubuntu 23.10 and later).
    AppArmor,
    /// An AppArmor profile that confines this process, as container runtimes give it.
    AppArmorProfile,
    /// The kernel has no user or network namespaces.
    NotBuilt,
    /// A seccomp filter denies the call, as container runtimes do by default.
    Seccomp,
    /// The process already runs threads.
    Threads,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian).
    UnprivilegedCloneSysctl,
    /// `user.max_user_namespaces` or `user.max_net_namespaces` is reached or 0.
    NamespaceLimitSysctl,
    /// None of the known obstacles fits.
    Unknown,
}

impl Refusal {
    /// What to change so that it works.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AppArmor => {
                "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
            }
            Self::AppArmorProfile => {
                "start the container with `--security-opt apparmor=unconfined`, or run outside of it"
            }
            Self::NotBuilt => "use a kernel built with CONFIG_USER_NS and CONFIG_NET_NS",
            Self::Seccomp => {
                "start the container with `--security-opt seccomp=unconfined`, or with the capabilities SYS_ADMIN and NET_ADMIN"
            }
            Self::Threads => "enter before any thread is started",
            Self::UnprivilegedCloneSysctl => {
                "run `sysctl -w kernel.unprivileged_userns_clone=1`, or run as root"
            }
            Self::NamespaceLimitSysctl => {
                "raise `user.max_user_namespaces` and `user.max_net_namespaces` with sysctl, or run as root"
            }
            Self::Unknown => "run as root, or where unprivileged user namespaces are allowed",
        }
    }

    /// Decides from the error of the refused call and what the system says about itself.
    pub(crate) fn diagnose(errno: Errno, system: &SystemFacts) -> Self {
        match errno {
            Errno::ENOSPC | Errno::EUSERS => Self::NamespaceLimitSysctl,
            Errno::EINVAL if system.threads > 1 => Self::Threads,
            Errno::EINVAL | Errno::ENOSYS => Self::NotBuilt,
            Errno::EPERM | Errno::EACCES if system.unprivileged_clone == Some(0) => {
                Self::UnprivilegedCloneSysctl
            }
            Errno::EPERM | Errno::EACCES if system.apparmor_restricts == Some(1) => Self::AppArmor,
            // A file or a mount that a security module denies; seccomp answers with the other error.
            Errno::EACCES if system.apparmor_profile => Self::AppArmorProfile,
            Errno::EPERM | Errno::EACCES if system.seccomp_filter => Self::Seccomp,
            Errno::EPERM if system.apparmor_profile => Self::AppArmorProfile,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppArmor => "AppArmor (kernel.apparmor_restrict_unprivileged_userns is 1)",
            Self::AppArmorProfile => "the AppArmor profile of this process",
            Self::NotBuilt => "a kernel without user and network namespaces",
            Self::Seccomp => "a seccomp filter",
            Self::Threads => "threads that already run",
            Self::UnprivilegedCloneSysctl => "the sysctl kernel.unprivileged_userns_clone, which is 0",
            Self::NamespaceLimitSysctl => {
                "the sysctl limit user.max_user_namespaces or user.max_net_namespaces"
            }
            Self::Unknown => "something unknown",
        })
    }
}

/// What the system says about itself; a value it does not have is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SystemFacts {
    pub(crate) unprivileged_clone: Option<u64>,
    pub(crate) apparmor_restricts: Option<u64>,
    pub(crate) apparmor_profile: bool,
    pub(crate) seccomp_filter: bool,
    pub(crate) capabilities: u64,
    pub(crate) threads: u64,
}

/// Bits of the capabilities that hosts, captured packets and namespaces need: NET_ADMIN, NET_RAW, SYS_ADMIN.
const NEEDED_CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 21;

impl SystemFacts {
    pub(crate) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let profile = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .unwrap_or_default();
        Self {
            unprivileged_clone: read_number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            // An unconfined process has that word here, or nothing; the mode follows a profile.
            apparmor_profile: profile.trim_end().ends_with("(enforce)"),
            // 2 is SECCOMP_MODE_FILTER.
            seccomp_filter: status_field(&status, "Seccomp:", 10) == Some(2),
            capabilities: status_field(&status, "CapEff:", 16).unwrap_or(0),
            threads: status_field(&status, "Threads:", 10).unwrap_or(1),
        }
    }

    /// Whether this process needs no user namespace.
    pub(crate) fn has_capabilities(&self) -> bool {
        self.capabilities & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn status_field(status: &str, name: &str, radix: u32) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(value.trim(), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_recognised() {
        let facts = SystemFacts { threads: 1, ..SystemFacts::default() };
        let debian = SystemFacts { unprivileged_clone: Some(0), seccomp_filter: true, ..facts.clone() };
        let ubuntu =
            SystemFacts { apparmor_restricts: Some(1), unprivileged_clone: Some(1), ..facts.clone() };
        let container = SystemFacts { seccomp_filter: true, unprivileged_clone: Some(1), ..facts.clone() };
        let docker = SystemFacts { apparmor_profile: true, seccomp_filter: true, ..facts.clone() };
        let threaded = SystemFacts { threads: 2, ..facts.clone() };
        let table = [
            (Errno::EPERM, &debian, Refusal::UnprivilegedCloneSysctl),
            (Errno::EPERM, &ubuntu, Refusal::AppArmor),
            (Errno::EACCES, &ubuntu, Refusal::AppArmor),
            (Errno::EPERM, &container, Refusal::Seccomp),
            (Errno::EACCES, &docker, Refusal::AppArmorProfile),
            (Errno::EPERM, &docker, Refusal::Seccomp),
            (Errno::EPERM, &facts, Refusal::Unknown),
            (Errno::ENOSPC, &container, Refusal::NamespaceLimitSysctl),
            (Errno::EUSERS, &facts, Refusal::NamespaceLimitSysctl),
            (Errno::EINVAL, &threaded, Refusal::Threads),
            (Errno::EINVAL, &facts, Refusal::NotBuilt),
            (Errno::ENOSYS, &facts, Refusal::NotBuilt),
        ];
        for (errno, system, expected) in table {
            assert_eq!(Refusal::diagnose(errno, system), expected, "{errno} with {system:?}");
        }
    }

    #[test]
    fn some_of_the_capabilities_are_not_enough() {
        let holds = |capabilities| SystemFacts { capabilities, ..SystemFacts::default() }.has_capabilities();
        assert!(holds(NEEDED_CAPABILITIES) && holds(u64::MAX));
        assert!(!holds(0) && !holds(1 << 21) && !holds(NEEDED_CAPABILITIES & !(1 << 12)));
    }

    #[test]
    fn status_fields_are_read() {
        let status =
            "Name:\tdemo\nThreads:\t3\nCapEff:\t000001ffffffffff\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "Threads:", 10), Some(3));
        assert_eq!(status_field(status, "CapEff:", 16), Some(0x1ff_ffff_ffff));
        assert_eq!(status_field(status, "Seccomp:", 10), Some(2));
        assert_eq!(status_field(status, "NoNewPrivs:", 10), None);
    }
}
