use std::{
    fmt, fs, thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where and when something was measured.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The processors' name for themselves.
    pub(super) processor: String,
    /// How many.
    pub(super) processors: usize,
    /// Release of the kernel.
    pub(super) kernel: String,
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
        Self {
            processor: name.unwrap_or("unknown processor").to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, unix_time: _ } = self;
        write!(f, "{processors} × {processor}, Linux {kernel}")
    }
}
