use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, SendConnect};
use crate::connection::{
    HandshakeError, KeepaliveDriver, Liveness, Settings,
    limits::{MAX_FRAME_SIZE_LIMIT, MAX_WINDOW, MIN_FRAME_SIZE_LIMIT},
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

    /// How much a peer may send into a tunnel that is not being read: 1 MiB by default.
    ///
    /// Bounds both the rate over a long way, at one window per round trip, and the memory a stalled tunnel costs.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.settings.stream_window = bytes.min(MAX_WINDOW);
        self
    }

    /// How much a peer may send into all tunnels together: 256 MiB by default.
    ///
    /// Below the stream window times the number of tunnels, stalled tunnels can stall the others.
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.settings.connection_window = bytes.min(MAX_WINDOW);
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

    /// How long after the handshake and each answer to send a ping, and how long to wait for the answer: 10 s and 20 s
    /// by default, as in the reference.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.keepalive = Some((interval, timeout));
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
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(settings.max_header_list_size)
            .max_send_buffer_size(settings.send_buffer)
            .data_frame_budget(settings.data_frame_budget())
            .initial_max_send_streams(INITIAL_PEER_LIMIT)
            .enable_push(false)
            .handshake(io)
            .await
            .map_err(HandshakeError::from_h2)?;
        let keepalive = settings
            .keepalive
            .zip(connection.ping_pong())
            .map(|((interval, timeout), ping_pong)| KeepaliveDriver::new(interval, timeout, ping_pong));
        let liveness = Liveness::default();
        Ok((SendConnect::new(send, liveness.clone()), Connection::new(connection, keepalive, liveness)))
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
