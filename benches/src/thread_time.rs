use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long this thread has computed so far: what others compute on the same processors is not counted.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a thread computes forward")
}
