use std::time::Duration;

/// What both builders set. Each default says where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) max_frame_size: u32,
    pub(crate) max_header_list_size: u32,
    pub(crate) send_buffer: usize,
    pub(crate) keepalive: Option<(Duration, Duration)>,
}

impl Settings {
    pub(crate) fn new(max_header_list_size: u32) -> Self {
        Self {
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            max_frame_size: MAX_FRAME_SIZE,
            max_header_list_size,
            send_buffer: SEND_BUFFER,
            keepalive: Some((KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT)),
        }
    }

    /// What unread DATA frames may cost beyond their payload before the connection is closed with ENHANCE_YOUR_CALM:
    /// h2 counts 256 bytes for each, less its payload, which is about what it spends.
    pub(crate) fn data_frame_budget(&self) -> usize {
        let window = usize::try_from(self.connection_window).unwrap_or(usize::MAX);
        (window / 2).max(MIN_DATA_FRAME_BUDGET)
    }
}

/// Window sizes are 31 bits (RFC 9113 §6.9.1).
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;
/// RFC 9113 §6.5.2.
pub(crate) const MIN_FRAME_SIZE_LIMIT: u32 = 1 << 14;
/// RFC 9113 §6.5.2.
pub(crate) const MAX_FRAME_SIZE_LIMIT: u32 = (1 << 24) - 1;

/// 8 Gbit/s over 1 ms; a quarter of the reference's, since a stalled tunnel may cost this much memory.
const STREAM_WINDOW: u32 = 1 << 20;
/// 256 stream windows: more tunnels than either side lets into a connection, so that no number of stalled ones leaves
/// the others without credit. The reference has four stream windows, and four stalled readers block it.
const CONNECTION_WINDOW: u32 = 256 * STREAM_WINDOW;
/// Frames of one tunnel delay the others' by their length, and each is held until complete. The reference allows 1 MiB.
const MAX_FRAME_SIZE: u32 = 64 << 10;
/// Four frames on their way from the application to the connection; h2's default is 400 KiB.
const SEND_BUFFER: usize = 256 << 10;
/// The reference's.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The reference's.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// 100,000 one-byte frames on one connection.
const MIN_DATA_FRAME_BUDGET: usize = 100_000 * 256;

#[cfg(test)]
mod tests {
    use super::*;

    // hbone#20
    #[test]
    fn default_connection_window_outlasts_any_number_of_stalled_tunnels() {
        const { assert!(CONNECTION_WINDOW / STREAM_WINDOW > crate::server::DEFAULT_MAX_TUNNELS) };
    }

    // hbone#19
    #[test]
    fn data_frame_budget_allows_chatty_tunnels_with_any_window() {
        let small = Settings { connection_window: 0, ..Settings::new(0) };
        assert_eq!(small.data_frame_budget(), 25_600_000);
        assert_eq!(Settings::new(0).data_frame_budget(), 128 << 20);
    }
}
