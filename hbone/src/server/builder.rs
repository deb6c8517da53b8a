use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::Connection;
use crate::{
    connection::{
        Driver, HandshakeError, KeepaliveDriver, Metered, Refusals, Settings, Shared,
        limits::{DATA_FRAME_BUDGET, FOR_EVER, RESETS_FOR_ERRORS},
        setters,
    },
    proto::{
        flood::{FrameMeter, Rate},
        idleness::Idleness,
    },
};

/// Starts HTTP/2 as a server on `io`, with the defaults of [`Builder`].
///
/// # Errors
///
/// If `io` fails, or the peer does not speak HTTP/2.
///
/// # Cancel safety
///
/// Not cancel safe: dropping the future drops `io`. It waits for the peer, so put a deadline around it.
pub async fn handshake<T>(io: T) -> Result<Connection<T>, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new().handshake(io).await
}

/// Tunes a server's connection. Every setting has a default that suits a mesh.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
    max_tunnels: u32,
    max_pending: usize,
    first_request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
}

impl Builder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self {
            settings: Settings::new(MAX_HEADER_LIST_SIZE),
            max_tunnels: MAX_TUNNELS,
            max_pending: MAX_PENDING,
            first_request_timeout: Some(FIRST_REQUEST_TIMEOUT),
            idle_timeout: Some(IDLE_TIMEOUT),
        }
    }

    /// How many tunnels the peer may have at once: 200 by default, as in the reference. Excess is refused with
    /// REFUSED_STREAM.
    pub fn max_tunnels(mut self, tunnels: u32) -> Self {
        self.max_tunnels = tunnels;
        self
    }

    /// How many requests may wait to be [accepted](Connection::accept) from the connection: 200 by default, as many as the
    /// peer may have tunnels. Excess, which only a peer that takes requests back can make, is refused with REFUSED_STREAM.
    pub fn max_pending(mut self, requests: usize) -> Self {
        self.max_pending = requests;
        self
    }

    /// How many requests a peer may take back before they were answered, or make that are none for a tunnel, at once, and
    /// how many more each second, before the connection is closed with ENHANCE_YOUR_CALM: 1000 and 1000 by default. Each
    /// may have cost a connection to its destination ("rapid reset").
    pub fn requests_taken_back(mut self, burst: u32, per_second: u32) -> Self {
        self.settings.taken_back = Rate { burst, per_second };
        self
    }

    /// How long a connection may wait for its first request before it is closed: a minute by default. `None` for ever.
    pub fn first_request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.first_request_timeout = timeout.map(|timeout| timeout.min(FOR_EVER));
        self
    }

    /// How long a connection may be without tunnels before it is drained: an hour by default, as in Envoy; twice that at
    /// most, since it is looked at once in that time. `None` for ever, as in the reference.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout.map(|timeout| timeout.min(FOR_EVER));
        self
    }

    setters!();

    /// How much memory unread bytes may take on the connection before new tunnels are refused with REFUSED_STREAM, so
    /// that the peer opens them on another: 256 MiB by default. Open tunnels go on.
    pub fn connection_budget(mut self, bytes: usize) -> Self {
        self.settings.connection_budget = bytes;
        self
    }

    /// Counts what the connection refuses by itself. By default nobody does.
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.settings.refusals = Some(refusals);
        self
    }

    /// How large the headers of a request may be: 64 KiB by default, as in the reference.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.settings.max_header_list_size = bytes;
        self
    }

    /// Starts HTTP/2 as a server on `io`.
    ///
    /// # Errors
    ///
    /// If `io` fails, or the peer does not speak HTTP/2.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`. It waits for the peer, so put a deadline around it.
    pub async fn handshake<T>(&self, io: T) -> Result<Connection<T>, HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = &self.settings;
        let shared = Shared::new(settings);
        let io = Metered::new(io, Arc::clone(&shared), FrameMeter::of_client(), settings.control_frames);
        let mut connection = h2::server::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(settings.max_header_list_size)
            .max_send_buffer_size(settings.send_buffer)
            .data_frame_budget(DATA_FRAME_BUDGET)
            .max_concurrent_streams(self.max_tunnels)
            // The driver takes requests as they arrive, and counts those that are taken back; h2 sees only what came
            // and went within a turn.
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(RESETS_FOR_ERRORS))
            .handshake(io)
            .await
            .map_err(HandshakeError::from_h2)?;
        // Not asked for unless used, since h2 then looks for pings each time it is polled.
        let keepalive = settings.keepalive.and_then(|(interval, timeout)| {
            Some(KeepaliveDriver::new(interval, timeout, connection.ping_pong()?))
        });
        let now = Instant::now();
        let idleness = Idleness::new(self.first_request_timeout, self.idle_timeout, now.into_std());
        Ok(Connection::new(connection, keepalive, Driver::new(shared, settings), idleness, self.max_pending))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// The reference's.
pub(crate) const MAX_TUNNELS: u32 = 200;
/// The reference's.
const MAX_HEADER_LIST_SIZE: u32 = 64 << 10;
/// As many as there may be tunnels.
const MAX_PENDING: usize = 200;
/// More requests with their resets, 24 bytes at least, than come in a turn of the driver, so that its count decides.
const PENDING_RESETS: usize = 8192;
/// A client dials when it has a request; nothing but a handshake in between takes time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Envoy's; the pools of clients let go of a connection after minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
