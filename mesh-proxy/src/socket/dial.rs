use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};

use super::SocketOptions;

/// The address a dialled connection leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialSource {
    /// Whatever the kernel picks.
    Any,
    /// One of our own addresses.
    Own(IpAddr),
    /// Somebody else's address (`IP_TRANSPARENT`, `IP_FREEBIND`); needs `CAP_NET_ADMIN`.
    Transparent(IpAddr),
}

/// Connects to `destination` from `source` within `timeout`.
///
/// # Cancel safety
///
/// Dropping the future closes the half-made connection.
pub(crate) async fn dial(
    destination: SocketAddr,
    source: DialSource,
    options: &SocketOptions,
    timeout: Duration,
) -> Result<TcpStream, DialError> {
    let socket = prepare(destination, source, options)?;
    match tokio::time::timeout(timeout, socket.connect(destination)).await {
        Ok(connected) => connected.map_err(DialError::Connect),
        Err(_elapsed) => Err(DialError::Timeout { timeout }),
    }
}

fn prepare(
    destination: SocketAddr,
    source: DialSource,
    options: &SocketOptions,
) -> Result<TcpSocket, DialError> {
    let stream = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(destination), stream, Some(Protocol::TCP))
        .map_err(DialError::Socket)?;
    options.apply_to_dialled(&socket).map_err(DialError::Socket)?;
    match source {
        DialSource::Any => {}
        DialSource::Own(ip) => bind_source(&socket, ip).map_err(DialError::Socket)?,
        DialSource::Transparent(ip) => {
            assume(&socket, ip).map_err(|source| DialError::SourceAddress { address: ip, source })?;
        }
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn assume(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    // It allows the bind, too: IP_FREEBIND, which the reference sets as well, would be one more system call for nothing.
    match ip {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    bind_source(socket, ip)
}

fn bind_source(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    // Without it the kernel reserves one local port per source address at bind, and runs out after some 28,000
    // connections; with it the port is chosen at connect, by the whole four-tuple.
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

/// Why an upstream connection could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DialError {
    /// The destination answered with a refusal, or no route leads there.
    #[error(transparent)]
    Connect(io::Error),
    /// A socket could not be made or configured: descriptors, memory or privileges are short.
    #[error("cannot prepare a socket")]
    Socket(#[source] io::Error),
    /// The connection cannot carry the client's own address.
    #[error("cannot dial from the source address {address}")]
    SourceAddress {
        /// The address to preserve.
        address: IpAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("no answer within {timeout:?}")]
    Timeout {
        /// The bound that passed.
        timeout: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_dial_leaves_from_the_own_address_asked_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let source: IpAddr = "127.0.0.9".parse().unwrap();
        let options = SocketOptions::default();
        let dialled = dial(address, DialSource::Own(source), &options, TIMEOUT);
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        assert_eq!(accepted.unwrap().1.ip(), source);
        assert!(dialled.unwrap().nodelay().unwrap());
    }

    /// sockets#11, sockets#13, sockets#15, sockets#16, sockets#17
    #[tokio::test]
    async fn a_dialled_socket_has_the_options() {
        let options = SocketOptions::default().user_timeout(true);
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            for source in [DialSource::Any, DialSource::Own(address.ip())] {
                let dialled =
                    Socket::from(dial(address, source, &options, TIMEOUT).await.unwrap().into_std().unwrap());
                assert!(dialled.tcp_nodelay().unwrap() && dialled.keepalive().unwrap());
                assert!(!dialled.reuse_port().unwrap());
                assert_eq!(dialled.tcp_keepalive_time().unwrap(), Duration::from_secs(180));
                assert_eq!(dialled.tcp_keepalive_interval().unwrap(), Duration::from_secs(180));
                assert_eq!(dialled.tcp_keepalive_retries().unwrap(), 9);
                assert_eq!(dialled.tcp_user_timeout().unwrap(), Some(Duration::from_secs(1800)));
                assert_eq!(dialled.mark().unwrap(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_a_connect_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let result = dial(address, DialSource::Any, &SocketOptions::default(), TIMEOUT).await;
        assert!(matches!(result, Err(DialError::Connect(_))));
    }
}
