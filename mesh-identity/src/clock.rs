//! The wall clock, as certificates read it.

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The system's wall clock, behind it by at most a tick of the kernel: certificates count in seconds, and it is asked for
/// each connection. On Linux it costs a tenth of what reading the exact time does.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl TimeProvider for SystemClock {
    #[cfg(target_os = "linux")]
    fn current_time(&self) -> Option<UnixTime> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let seconds = u64::try_from(now.tv_sec).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }

    #[cfg(not(target_os = "linux"))]
    fn current_time(&self) -> Option<UnixTime> {
        rustls::time_provider::DefaultTimeProvider.current_time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_exact_one_to_a_second() {
        let before = UnixTime::now().as_secs();
        let now = SystemClock.current_time().unwrap().as_secs();
        assert!((before.saturating_sub(1)..=UnixTime::now().as_secs()).contains(&now));
    }
}
