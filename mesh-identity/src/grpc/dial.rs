//! Opening a byte stream to a server.

#[cfg(feature = "workload-api")]
use std::net::SocketAddr;
use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

#[cfg(feature = "workload-api")]
use tokio::net::TcpStream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

#[cfg(feature = "istio-ca")]
use super::{RootSourceError, TlsDialer};

/// How a server is reached.
#[derive(Debug)]
pub(crate) enum Dialer {
    /// In plain text, for servers on this machine.
    #[cfg(feature = "workload-api")]
    Tcp(SocketAddr),
    /// TLS in which the server proves its name.
    #[cfg(feature = "istio-ca")]
    Tls(Box<TlsDialer>),
    /// In plain text; the kernel says who is there.
    Unix(PathBuf),
}

impl Dialer {
    /// A number that changes when what is dialled with does, so that connections made before are replaced.
    pub(super) async fn epoch(&self) -> Result<u64, DialError> {
        match self {
            #[cfg(feature = "istio-ca")]
            Self::Tls(dialer) => dialer.epoch().await,
            _ => Ok(0),
        }
    }

    pub(super) async fn dial(&self) -> Result<(Box<dyn Stream>, u64), DialError> {
        match self {
            #[cfg(feature = "workload-api")]
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                let stream = stream.map_err(|error| DialError::connect(address, error))?;
                Ok((Box::new(stream), 0))
            }
            #[cfg(feature = "istio-ca")]
            Self::Tls(dialer) => dialer.dial().await,
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| DialError::connect(&path.display(), error))?;
                Ok((Box::new(stream), 0))
            }
        }
    }
}

/// What HTTP/2 runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection to a server. Clones share the cause: all calls that waited get the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// It cannot be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where it should be.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Connecting, with all handshakes, took too long.
    #[error("no connection within {} ms", .after.as_millis())]
    Deadline {
        /// How long that was.
        after: Duration,
    },
    /// It does not speak HTTP/2.
    #[error("http/2 handshake failed")]
    Http2(#[source] Arc<hyper::Error>),
    /// There is nothing to check its certificate with.
    #[cfg(feature = "istio-ca")]
    #[error("roots of the server are unavailable")]
    Roots(#[from] RootSourceError),
    /// It did not prove its name, or speaks no TLS that we do.
    #[cfg(feature = "istio-ca")]
    #[error("tls handshake with {name} failed")]
    Tls {
        /// The name it should have proved.
        name: String,
        /// What was wrong.
        source: Arc<io::Error>,
    },
}

impl DialError {
    pub(super) fn connect(address: &dyn fmt::Display, error: io::Error) -> Self {
        Self::Connect { address: address.to_string(), source: Arc::new(error) }
    }
}
