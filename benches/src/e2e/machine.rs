use std::{
    fmt, fs, thread,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where and when something was measured.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The processors' name for themselves.
    pub(super) processor: String,
    /// How many.
    pub(super) processors: usize,
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Congestion control of TCP.
    pub(super) congestion: String,
    /// Seconds since 1970.
    pub(super) unix_time: u64,
}

impl Machine {
    /// Looks around.
    pub(super) fn look() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            processors.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
        Self {
            congestion: congestion.trim().to_owned(),
            processor: name.unwrap_or("unknown processor").to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, congestion, unix_time: _ } = self;
        write!(f, "{processors} × {processor}, Linux {kernel}, TCP {congestion}")
    }
}

/// Lets this process, and the proxies it starts, have as many connections open as the system allows.
pub(super) fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it stays low, a measurement may fail for want of descriptors and then says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
