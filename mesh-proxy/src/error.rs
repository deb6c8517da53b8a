use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use http::StatusCode;
use mesh_identity::VerifyError;
use thiserror::Error;

use crate::{
    relay::RelayError,
    route::{InboundError, RouteError},
    socket::DialError,
    state::UnknownWorkload,
    telemetry::{ConnectionRecord, DRAIN_TEXT, ResponseFlag},
    tls::Lost,
};

/// Why a connection through the proxy failed.
///
/// Where the reference node proxy has a text for it, the text is the same, because operators search for it. Print
/// the whole chain with [`Report`].
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// A policy denies the connection.
    #[error("connection closed due to policy rejection: {reason}")]
    Denied { reason: String },
    /// A change of state denies a connection that was open.
    #[error("connection closed due to policy change")]
    DeniedLate,
    /// The deadline of a drain passed.
    #[error("{DRAIN_TEXT}")]
    Drained,
    /// The upstream could not be reached.
    #[error("connection failed")]
    Dial(#[source] DialError),
    /// The client left before it had an answer.
    #[error("client gave up before it was answered")]
    GaveUp,
    /// One direction had ended, and nothing moved in the other for too long.
    #[error("half-closed connection silent for {limit:?}")]
    HalfOpen { limit: Duration },
    /// HTTP/2 could not be set up, or failed before the tunnel was open.
    #[error("http2 failed")]
    Http2(#[source] Box<dyn Error + Send + Sync>),
    /// The far proxy answered CONNECT with something other than success.
    #[error("http status: {0}")]
    HttpStatus(StatusCode),
    /// Too many peers are in their handshakes already.
    #[error("more than {limit} handshakes under way")]
    Handshakes { limit: usize },
    /// What is to be dialled went away or moved meanwhile.
    #[error("destination changed while it was being dialled")]
    Gone,
    /// No certificate is to be had for the workload.
    #[error("identity unavailable")]
    Identity(#[source] Box<dyn Error + Send + Sync>),
    /// An inbound request names no destination of ours.
    #[error(transparent)]
    Inbound(InboundError),
    /// Nothing answered on the HBONE port; often a NetworkPolicy does not let it pass.
    #[error("connection timed out, maybe a NetworkPolicy is blocking HBONE port {port}")]
    NetworkPolicy { port: u16, source: DialError },
    /// Somebody else's dial failed, and this connection waited for it.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// The connection under a tunnel ended for what its own end decided.
    #[error("connection closed: {0}")]
    Lost(Lost),
    /// The pool takes no more connections.
    #[error("connection pool unavailable")]
    Pool(#[source] Box<dyn Error + Send + Sync>),
    /// Bytes could not be moved.
    #[error("relay failed")]
    Relay(#[source] Box<dyn Error + Send + Sync>),
    /// A dial that failed a moment ago is not repeated yet.
    #[error("not dialled, the last attempt failed {ago:?} ago")]
    Remembered { ago: Duration, source: Arc<Self> },
    /// No upstream can be chosen.
    #[error(transparent)]
    Route(RouteError),
    /// A peer let a deadline pass.
    #[error("{step} not finished within {limit:?}")]
    Stalled { step: &'static str, limit: Duration },
    /// The TLS handshake failed.
    #[error("tls handshake failed")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// The worker carries as many tunnels as it may.
    #[error("more than {limit} tunnels on one worker")]
    Tunnels { limit: usize },
    /// The local workload is not in the mesh's state.
    #[error(transparent)]
    UnknownWorkload(UnknownWorkload),
}

impl ConnectionError {
    pub(crate) fn http2(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Http2(Box::new(error))
    }

    pub(crate) fn identity(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Identity(Box::new(error))
    }

    pub(crate) fn relay(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Relay(Box::new(error))
    }

    /// What went wrong in a handshake; of a certificate that was not taken rustls says less than we know.
    pub(crate) fn tls(error: io::Error) -> Self {
        Self::Tls(match VerifyError::find(&error) {
            Some(refused) => Box::new(refused.clone()),
            None => Box::new(error),
        })
    }

    /// The flag under which the connection's end is counted.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Denied { .. } | Self::DeniedLate => ResponseFlag::Deny,
            // Nobody failed.
            Self::Drained | Self::GaveUp | Self::HalfOpen { .. } | Self::Lost(Lost::Age) => {
                ResponseFlag::None
            }
            Self::Http2(_) => ResponseFlag::H2HandshakeFailure,
            Self::Identity(_) => ResponseFlag::IdentityError,
            Self::Lost(_) => ResponseFlag::CertRevoked,
            Self::NetworkPolicy { .. } => ResponseFlag::NetworkPolicy,
            Self::Remembered { source: error, .. } | Self::Shared(error) => error.flag(),
            // The reference counts a failed outbound handshake as a failed connect; dashboards expect it there.
            Self::Dial(_)
            | Self::Gone
            | Self::Handshakes { .. }
            | Self::HttpStatus(_)
            | Self::Inbound(_)
            | Self::Pool(_)
            | Self::Relay(_)
            | Self::Route(_)
            | Self::Stalled { .. }
            | Self::Tls(_)
            | Self::Tunnels { .. }
            | Self::UnknownWorkload(_) => ResponseFlag::Connect,
        }
    }
}

impl From<UnknownWorkload> for ConnectionError {
    fn from(error: UnknownWorkload) -> Self {
        Self::UnknownWorkload(error)
    }
}

/// Reports the end of a connection.
pub(crate) fn close(record: ConnectionRecord, result: Result<(), ConnectionError>) {
    match result {
        Ok(()) => record.close(ResponseFlag::None, None),
        Err(error) => record.close(error.flag(), Some(&Report(&error))),
    }
}

/// What the end of a relay means. A reset is an end like any other: the far side was told.
pub(crate) fn relayed(
    result: Result<(), RelayError>,
    record: &ConnectionRecord,
) -> Result<(), ConnectionError> {
    match result {
        Ok(()) => Ok(()),
        Err(RelayError::Reset(by)) => {
            record.reset(by);
            Ok(())
        }
        Err(RelayError::HalfOpen { limit }) => Err(ConnectionError::HalfOpen { limit }),
        Err(RelayError::Io(error)) => Err(ConnectionError::relay(error)),
        Err(RelayError::Tunnel(error)) => Err(match Lost::find(&error) {
            Some(lost) => ConnectionError::Lost(lost),
            None => ConnectionError::relay(error),
        }),
    }
}

/// Prints an error with its causes on one line, joined by colons; of more than 4 KiB the rest is an ellipsis.
///
/// Causes may quote what a peer or a file said. However much that is, a log line stays one that can be read.
///
/// ```
/// let refused = std::io::Error::other("connection refused");
/// assert_eq!(mesh_proxy::Report(&refused).to_string(), "connection refused");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(
    /// What is printed.
    pub &'a (dyn Error + 'static),
);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Bounded { inner: f, room: LONGEST_REPORT, is_full: false };
        let written = self.write(&mut line);
        if line.is_full { Ok(()) } else { written }
    }
}

impl Report<'_> {
    fn write(&self, line: &mut impl fmt::Write) -> fmt::Result {
        write!(line, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(line, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// Passes on what there is room for, and fails from then on.
struct Bounded<'a, 'b> {
    inner: &'a mut fmt::Formatter<'b>,
    room: usize,
    is_full: bool,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_full {
            return Err(fmt::Error);
        }
        if text.len() <= self.room {
            self.room -= text.len();
            return self.inner.write_str(text);
        }
        self.is_full = true;
        let end = (0..=self.room).rev().find(|&end| text.is_char_boundary(end));
        self.inner.write_str(text.get(..end.unwrap_or(0)).unwrap_or_default())?;
        self.inner.write_str("…")?;
        Err(fmt::Error)
    }
}

/// Longer than any chain of ours that quotes nobody.
const LONGEST_REPORT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{ConnectionMeta, Direction, NoopObserver, ResetBy, Transport};

    #[test]
    fn a_report_says_each_cause_once() {
        let refused = io::Error::from_raw_os_error(111);
        let error = ConnectionError::Dial(DialError::Connect(refused));
        assert_eq!(Report(&error).to_string(), "connection failed: Connection refused (os error 111)");
    }

    /// An error that is its own cause.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("über")
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Self)
        }
    }

    #[test]
    fn a_report_is_one_line_of_bounded_length() {
        let text = Report(&Endless).to_string();
        assert!(text.starts_with("über: über: ") && text.ends_with('…'), "{text}");
        assert!((LONGEST_REPORT - 4..=LONGEST_REPORT).contains(&(text.len() - '…'.len_utf8())));
        let fits = io::Error::other("x".repeat(LONGEST_REPORT));
        assert_eq!(Report(&fits).to_string().len(), LONGEST_REPORT);
        let all = io::Error::other("x".repeat(LONGEST_REPORT + 1));
        assert_eq!(Report(&all).to_string(), format!("{}…", "x".repeat(LONGEST_REPORT)));
    }

    /// telemetry#22, routing#45
    #[test]
    fn silence_on_the_hbone_port_names_its_usual_suspect() {
        let error = ConnectionError::NetworkPolicy {
            port: 15008,
            source: DialError::Timeout { timeout: Duration::from_secs(10) },
        };
        let text = Report(&error).to_string();
        assert!(
            text.starts_with("connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: ")
        );
        assert_eq!(error.flag(), ResponseFlag::NetworkPolicy);
    }

    /// telemetry#24, sockets#51
    #[test]
    fn a_reset_is_not_an_error() {
        let anywhere = "192.0.2.1:80".parse().unwrap();
        let meta = ConnectionMeta::new(Direction::Inbound, Transport::Tcp, anywhere, anywhere);
        let record = ConnectionRecord::open(&NoopObserver, meta);
        assert!(relayed(Err(RelayError::Reset(ResetBy::Upstream)), &record).is_ok());
    }

    #[test]
    fn a_waiter_is_counted_as_the_dial_it_waited_for() {
        let shared = ConnectionError::Shared(Arc::new(ConnectionError::Denied { reason: String::new() }));
        assert_eq!(shared.flag(), ResponseFlag::Deny);
    }
}
