/// Writes the setters that both builders have, in an `impl` of a type with `settings: Settings`.
macro_rules! setters {
    () => {
        /// How much a peer may send into a tunnel that is not being read, for good: the window neither starts smaller nor
        /// grows.
        ///
        /// Bounds both the rate over a long way, at one window per round trip, and the memory a stalled tunnel costs. By
        /// default it is 1 MiB and grows, see [`stream_window_limit`](Self::stream_window_limit).
        pub fn stream_window(mut self, bytes: u32) -> Self {
            self.settings.stream_window = bytes.clamp(1, $crate::connection::limits::MAX_WINDOW);
            self.settings.stream_window_limit = self.settings.stream_window;
            self
        }

        /// How large the windows of a connection's tunnels become once one of them is in bulk: 4 MiB by default.
        ///
        /// That is when its consumer has taken four windows and keeps up. HTTP/2 has one size for all tunnels, so they grow
        /// only while all that are open could stall within the [`connection_budget`](Self::connection_budget). Below the
        /// [`stream_window`](Self::stream_window) there is no growth. To be set after it.
        pub fn stream_window_limit(mut self, bytes: u32) -> Self {
            self.settings.stream_window_limit = bytes.min($crate::connection::limits::MAX_WINDOW);
            self
        }

        /// How much a peer may send into all tunnels together beyond what is held for those that are not being read: 16 MiB
        /// by default, as in the reference, which however counts what is held. At least the 65,535 it begins with (RFC 9113
        /// §6.9.2).
        pub fn connection_window(mut self, bytes: u32) -> Self {
            use $crate::connection::limits::{INITIAL_WINDOW, MAX_WINDOW};
            self.settings.connection_window = bytes.clamp(INITIAL_WINDOW, MAX_WINDOW);
            self
        }

        /// How much memory the unread bytes of one tunnel may take before it is reset with ENHANCE_YOUR_CALM: by default
        /// twice its largest window and 4 KiB, which no peer that keeps to the window can exceed.
        pub fn stream_budget(mut self, bytes: usize) -> Self {
            self.settings.stream_budget = Some(bytes);
            self
        }

        /// Makes the connection part of the process's [`Budget`](crate::Budget). By default there is none.
        pub fn budget(mut self, budget: $crate::Budget) -> Self {
            self.settings.budget = Some(budget);
            self
        }

        /// The longest frame the peer may send: 64 KiB by default, at least 16 KiB and below 16 MiB (RFC 9113 §6.5.2).
        pub fn max_frame_size(mut self, bytes: u32) -> Self {
            use $crate::connection::limits::{MAX_FRAME_SIZE_LIMIT, MIN_FRAME_SIZE_LIMIT};
            self.settings.max_frame_size = bytes.clamp(MIN_FRAME_SIZE_LIMIT, MAX_FRAME_SIZE_LIMIT);
            self
        }

        /// How much of what was written may wait in each tunnel for the connection to take it: 256 KiB by default.
        pub fn send_buffer(mut self, bytes: usize) -> Self {
            self.settings.send_buffer = bytes;
            self
        }

        /// How long after the handshake to send a ping, and after that to a peer from which nothing has arrived for so long;
        /// and how long to wait for anything to arrive then: 10 s and 20 s by default, as in the reference.
        pub fn keepalive(mut self, interval: std::time::Duration, timeout: std::time::Duration) -> Self {
            use $crate::connection::limits::FOR_EVER;
            self.settings.keepalive = Some((interval.min(FOR_EVER), timeout.min(FOR_EVER)));
            self
        }

        /// Sends no pings. A peer that vanishes is then noticed only when something is sent.
        pub fn without_keepalive(mut self) -> Self {
            self.settings.keepalive = None;
            self
        }

        /// How many frames that serve no tunnel (pings, settings, priorities and the like) a peer may send at once, and how
        /// many more each second, before the connection is closed, by servers with ENHANCE_YOUR_CALM: 1000 and 100 by default; Envoy lets
        /// as many wait to be answered.
        pub fn control_frames(mut self, burst: u32, per_second: u32) -> Self {
            self.settings.control_frames = $crate::proto::flood::Rate { burst, per_second };
            self
        }
    };
}
pub(crate) use setters;
