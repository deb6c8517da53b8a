use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, SendConnect};
use crate::{
    connection::{
        Driver, HandshakeError, KeepaliveDriver, Metered, Settings, Shared,
        limits::{DATA_FRAME_BUDGET, RESETS_FOR_ERRORS},
        setters,
    },
    proto::flood::FrameMeter,
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

    setters!();

    /// How much memory unread bytes may take on the connection before new tunnels should go to another, see
    /// [`SendConnect::is_saturated`]: 256 MiB by default.
    pub fn connection_budget(mut self, bytes: usize) -> Self {
        self.settings.connection_budget = bytes;
        self
    }

    /// How large the headers of a response may be: 16 KiB by default, as in the reference.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.settings.max_header_list_size = bytes;
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
        let io = Metered::new(io, Arc::clone(&shared), FrameMeter::of_server(), settings.control_frames);
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
            .handshake(io)
            .await
            .map_err(HandshakeError::from_h2)?;
        // Not asked for unless used, since h2 then looks for pings each time it is polled.
        let keepalive = settings.keepalive.and_then(|(interval, timeout)| {
            Some(KeepaliveDriver::new(interval, timeout, connection.ping_pong()?))
        });
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
