use std::time::Duration;

use super::{Budget, Refusals};
use crate::proto::flood::Rate;

/// What both builders set. Each default says where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) stream_window: u32,
    pub(crate) stream_window_limit: u32,
    pub(crate) connection_window: u32,
    /// `None` for what any peer that keeps to its window needs.
    pub(crate) stream_budget: Option<usize>,
    pub(crate) connection_budget: usize,
    pub(crate) budget: Option<Budget>,
    pub(crate) refusals: Option<Refusals>,
    pub(crate) control_frames: Rate,
    pub(crate) taken_back: Rate,
    pub(crate) max_frame_size: u32,
    pub(crate) max_header_list_size: u32,
    pub(crate) send_buffer: usize,
    pub(crate) keepalive: Option<(Duration, Duration)>,
}

impl Settings {
    pub(crate) fn new(max_header_list_size: u32) -> Self {
        Self {
            stream_window: STREAM_WINDOW,
            stream_window_limit: STREAM_WINDOW_LIMIT,
            connection_window: CONNECTION_WINDOW,
            stream_budget: None,
            connection_budget: CONNECTION_BUDGET,
            budget: None,
            refusals: None,
            control_frames: CONTROL_FRAMES,
            taken_back: TAKEN_BACK,
            max_frame_size: MAX_FRAME_SIZE,
            max_header_list_size,
            send_buffer: SEND_BUFFER,
            keepalive: Some((KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT)),
        }
    }

    /// What the unread bytes of a tunnel may cost: by default what a window full of them can at most.
    pub(crate) fn stream_budget(&self) -> usize {
        let window = usize::try_from(self.stream_window.max(self.stream_window_limit)).unwrap_or(usize::MAX);
        self.stream_budget.unwrap_or_else(|| window.saturating_mul(2).saturating_add(STREAM_OVERHEAD))
    }
}

/// RFC 9113 §6.5.2.
pub(crate) const MIN_FRAME_SIZE_LIMIT: u32 = 1 << 14;
/// RFC 9113 §6.5.2.
pub(crate) const MAX_FRAME_SIZE_LIMIT: u32 = (1 << 24) - 1;
/// RFC 9113 §6.9.2: a connection's window is not smaller to begin with.
pub(crate) const INITIAL_WINDOW: u32 = 65_535;
/// How often h2 may reset a stream because of what the peer did on it, over the connection's life, before it closes the
/// connection. Late frames for streams that are long gone count, so it has to last for weeks; but each reset that cannot be
/// written takes some 700 bytes, which nothing else bounds: 46 MB. h2's default is 1,024.
pub(crate) const RESETS_FOR_ERRORS: usize = 65_536;
/// Longer times are the same to everybody, and can be added to any instant.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// What undrained DATA frames may cost beyond their payload before h2 closes the connection, at 256 bytes for each less
/// its payload: 400,000 frames of one byte, sixty times what arrives in a turn of the driver.
pub(crate) const DATA_FRAME_BUDGET: usize = 100 << 20;

/// 8 Gbit/s over 1 ms; a quarter of the reference's, since a stalled tunnel may cost this much memory.
const STREAM_WINDOW: u32 = 1 << 20;
/// 1.7 Gbit/s over 20 ms, and the reference's window.
const STREAM_WINDOW_LIMIT: u32 = 4 << 20;
/// Four large windows on their way at a time, not counting what is held; the reference's.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// 256 windows of 1 MiB, more than either side lets tunnels into a connection; or 64 of 4 MiB.
const CONNECTION_BUDGET: usize = 256 << 20;
/// What a few bytes cost.
const STREAM_OVERHEAD: usize = 4 << 10;
/// Frames of one tunnel delay the others' by their length, and each is held until complete. The reference allows 1 MiB.
const MAX_FRAME_SIZE: u32 = 64 << 10;
/// Four frames on their way from the application to the connection; h2's default is 400 KiB.
const SEND_BUFFER: usize = 256 << 10;
/// Envoy lets as many wait to be answered; pings come once in ten seconds.
const CONTROL_FRAMES: Rate = Rate { burst: 1000, per_second: 100 };
/// Five times as many as a peer may have at once, and as many again each second: applications that give up soon are no
/// attack, however many.
const TAKEN_BACK: Rate = Rate { burst: 1000, per_second: 1000 };
/// The reference's.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The reference's.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    // hbone#20
    #[test]
    fn connection_budget_outlasts_any_number_of_stalled_tunnels() {
        const {
            assert!(CONNECTION_BUDGET / STREAM_WINDOW as usize > crate::server::DEFAULT_MAX_TUNNELS as usize);
        };
    }

    #[test]
    fn stream_budget_covers_a_window_of_anything_unless_set() {
        let settings = Settings::new(0);
        assert!(settings.stream_budget() > 2 * STREAM_WINDOW_LIMIT as usize);
        assert_eq!(Settings { stream_budget: Some(7), ..settings }.stream_budget(), 7);
    }
}
