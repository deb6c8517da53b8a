use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, SendConnect};
use crate::connection::{
    Budget, Driver, HandshakeError, KeepaliveDriver, Metered, Settings, Shared,
    limits::{
        DATA_FRAME_BUDGET, FOR_EVER, INITIAL_WINDOW, MAX_FRAME_SIZE_LIMIT, MAX_WINDOW, MIN_FRAME_SIZE_LIMIT,
        RESETS_FOR_ERRORS,
    },
};

/// Starts HTTP/2 as a client on `io`, with the defaults of [`Builder`].
///
/// # Errors
///
/// If `io` fails. A peer that does not speak HTTP/2 shows only later, as an error of the connection.
///
/// # Cancel safety
///
/// Not cancel safe: dropping the future drops `io`.
pub async fn handshake<T>(io: T) -> Result<(SendConnect, Connection<T>), HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new().handshake(io).await
}

/// Tunes a client's connection. Every setting has a default that suits a mesh.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
}

impl Builder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self { settings: Settings::new(MAX_HEADER_LIST_SIZE) }
    }

    /// How much a peer may send into a tunnel that is not being read, for good: the window neither starts smaller nor
    /// grows.
    ///
    /// Bounds both the rate over a long way, at one window per round trip, and the memory a stalled tunnel costs. By
    /// default it is 1 MiB and grows, see [`stream_window_limit`](Self::stream_window_limit).
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.settings.stream_window = bytes.clamp(1, MAX_WINDOW);
        self.settings.stream_window_limit = self.settings.stream_window;
        self
    }

    /// How large the windows of a connection's tunnels become once one of them is in bulk: 4 MiB by default.
    ///
    /// That is when its consumer has taken four windows and keeps up. HTTP/2 has one size for all tunnels, so they grow
    /// only while all that are open could stall within the [`connection_budget`](Self::connection_budget). Below the
    /// [`stream_window`](Self::stream_window) there is no growth. To be set after it.
    pub fn stream_window_limit(mut self, bytes: u32) -> Self {
        self.settings.stream_window_limit = bytes.min(MAX_WINDOW);
        self
    }

    /// How much a peer may send into all tunnels together beyond what is held for those that are not being read: 16 MiB
    /// by default, as in the reference, which however counts what is held. At least the 65,535 it begins with (RFC 9113
    /// §6.9.2).
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.settings.connection_window = bytes.clamp(INITIAL_WINDOW, MAX_WINDOW);
        self
    }

    /// How much memory the unread bytes of one tunnel may take before it is reset with ENHANCE_YOUR_CALM: by default
    /// twice its largest window and 4 KiB, which no peer that keeps to the window can exceed.
    pub fn stream_budget(mut self, bytes: usize) -> Self {
        self.settings.stream_budget = Some(bytes);
        self
    }

    /// How much memory unread bytes may take on the connection before new tunnels should go to another, see
    /// [`SendConnect::is_saturated`]: 256 MiB by default.
    pub fn connection_budget(mut self, bytes: usize) -> Self {
        self.settings.connection_budget = bytes;
        self
    }

    /// Makes the connection part of the process's [`Budget`]. By default there is none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = Some(budget);
        self
    }

    /// The longest frame the peer may send: 64 KiB by default, at least 16 KiB and below 16 MiB (RFC 9113 §6.5.2).
    pub fn max_frame_size(mut self, bytes: u32) -> Self {
        self.settings.max_frame_size = bytes.clamp(MIN_FRAME_SIZE_LIMIT, MAX_FRAME_SIZE_LIMIT);
        self
    }

    /// How large the headers of a response may be: 16 KiB by default, as in the reference.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.settings.max_header_list_size = bytes;
        self
    }

    /// How much of what was written may wait in each tunnel for the connection to take it: 256 KiB by default.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.settings.send_buffer = bytes;
        self
    }

    /// How long after the handshake to send a ping, and after that to a peer from which nothing has arrived for so long;
    /// and how long to wait for an answer: 10 s and 20 s by default, as in the reference.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.keepalive = Some((interval.min(FOR_EVER), timeout.min(FOR_EVER)));
        self
    }

    /// Sends no pings. A peer that vanishes is then noticed only when something is sent.
    pub fn without_keepalive(mut self) -> Self {
        self.settings.keepalive = None;
        self
    }

    /// Starts HTTP/2 as a client on `io`.
    ///
    /// # Errors
    ///
    /// If `io` fails. A peer that does not speak HTTP/2 shows only later, as an error of the connection.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`.
    pub async fn handshake<T>(&self, io: T) -> Result<(SendConnect, Connection<T>), HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = &self.settings;
        let shared = Shared::new(settings);
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(settings.max_header_list_size)
            .max_send_buffer_size(settings.send_buffer)
            .data_frame_budget(DATA_FRAME_BUDGET)
            .initial_max_send_streams(INITIAL_PEER_LIMIT)
            .enable_push(false)
            .max_local_error_reset_streams(Some(RESETS_FOR_ERRORS))
            .handshake(Metered::new(io, Arc::clone(&shared)))
            .await
            .map_err(HandshakeError::from_h2)?;
        let keepalive = settings
            .keepalive
            .zip(connection.ping_pong())
            .map(|((interval, timeout), ping_pong)| KeepaliveDriver::new(interval, timeout, ping_pong));
        let driver = Driver::new(Arc::clone(&shared), settings);
        let send = SendConnect::new(send, shared);
        let requests = Arc::downgrade(send.requests());
        Ok((send, Connection::new(connection, keepalive, driver, requests)))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// How many tunnels may be opened before the peer has said how many it takes: one, so that the first saves a round
/// trip and no peer's limit is ever exceeded.
pub(crate) const INITIAL_PEER_LIMIT: usize = 1;

/// The reference's.
const MAX_HEADER_LIST_SIZE: u32 = 16 << 10;
