use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::{OriginalSource, SocketOptions};

/// Length of the accept queue; the kernel bounds it further by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound listener, and whether connections dialled on its behalf may carry a client's address.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: TcpListener,
    pub(crate) transparent: bool,
}

/// Binds a listener at `address` that shares its port with the other workers of this process.
///
/// `transparent` says how hard to try for `IP_TRANSPARENT`, without which source addresses cannot be preserved. Accepted
/// connections inherit `options` (but for the mark, which is for those we dial).
pub(crate) fn bind(
    address: SocketAddr,
    transparent: OriginalSource,
    options: &SocketOptions,
) -> Result<Bound, ListenError> {
    let error = |source| ListenError::Bind { address, source };
    let socket = new_socket(address).map_err(error)?;
    let transparent = match transparent {
        OriginalSource::Off => false,
        OriginalSource::Prefer => set_transparent(&socket, address).is_ok(),
        OriginalSource::Require => {
            set_transparent(&socket, address)
                .map_err(|source| ListenError::Transparent { address, source })?;
            true
        }
    };
    // Accepted connections inherit it; without it one in TIME_WAIT would keep a restarted process from binding.
    socket.set_reuse_address(true).map_err(error)?;
    socket.set_reuse_port(true).map_err(error)?;
    options.apply_to_listener(&socket).map_err(error)?;
    socket.bind(&address.into()).map_err(error)?;
    socket.listen(BACKLOG).map_err(error)?;
    Ok(Bound { listener: socket.into(), transparent })
}

/// Fails where somebody else listens at `address` already.
///
/// Workers share a port by `SO_REUSEPORT`, which would also let a second process of the same user take half of
/// our connections silently. A probe without that option finds the squatter.
pub(crate) fn ensure_free(address: SocketAddr) -> Result<(), ListenError> {
    let probe = || -> io::Result<()> {
        let socket = new_socket(address)?;
        // Connections of an earlier process in TIME_WAIT are no conflict; a listener is.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    probe().map_err(|source| ListenError::Bind { address, source })
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Dual stack whatever `net.ipv6.bindv6only` says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // The option lives at SOL_IP and covers both families of a dual-stack socket.
    socket.set_ip_transparent_v4(true)?;
    if address.is_ipv6() { socket.set_ip_transparent_v6(true) } else { Ok(()) }
}

/// Why a listener could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be bound: in use, not ours, or not permitted.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Source addresses must be preserved, and the kernel does not let us.
    #[error(
        "cannot preserve source addresses on {address}: IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW"
    )]
    Transparent {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::socket::Keepalive;

    #[test]
    fn workers_share_a_port_but_a_stranger_is_found() {
        let first =
            bind("127.0.0.1:0".parse().unwrap(), OriginalSource::Off, &SocketOptions::default()).unwrap();
        let address = first.listener.local_addr().unwrap();
        bind(address, OriginalSource::Off, &SocketOptions::default()).unwrap();
        assert!(matches!(ensure_free(address), Err(ListenError::Bind { .. })));
        drop(first);
    }

    #[test]
    fn a_free_port_is_free() {
        let bound =
            bind("127.0.0.1:0".parse().unwrap(), OriginalSource::Off, &SocketOptions::default()).unwrap();
        let address = bound.listener.local_addr().unwrap();
        drop(bound);
        ensure_free(address).unwrap();
    }

    #[test]
    fn a_connection_left_in_time_wait_is_no_conflict() {
        let bound =
            bind("127.0.0.1:0".parse().unwrap(), OriginalSource::Off, &SocketOptions::default()).unwrap();
        bound.listener.set_nonblocking(false).unwrap();
        let address = bound.listener.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        // Whoever closes first keeps the connection in TIME_WAIT.
        drop(bound.listener.accept().unwrap());
        drop(bound);
        assert_eq!(io::Read::read(&mut client, &mut [0; 1]).unwrap(), 0);
        drop(client);
        ensure_free(address).unwrap();
        bind(address, OriginalSource::Off, &SocketOptions::default()).unwrap();
    }

    #[test]
    fn source_preservation_switched_off_is_not_tried() {
        assert!(
            !bind("127.0.0.1:0".parse().unwrap(), OriginalSource::Off, &SocketOptions::default())
                .unwrap()
                .transparent
        );
    }

    /// sockets#15, sockets#16
    #[test]
    fn accepted_connections_inherit_the_options() {
        let keepalive =
            Keepalive { time: Duration::from_secs(77), interval: Duration::from_secs(33), retries: 5 };
        let options = SocketOptions::default().keepalive(Some(keepalive)).user_timeout(true);
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let bound = bind(address.parse().unwrap(), OriginalSource::Off, &options).unwrap();
            bound.listener.set_nonblocking(false).unwrap();
            let _client = std::net::TcpStream::connect(bound.listener.local_addr().unwrap()).unwrap();
            let accepted = Socket::from(bound.listener.accept().unwrap().0);
            assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), keepalive.time);
            assert_eq!(accepted.tcp_keepalive_interval().unwrap(), keepalive.interval);
            assert_eq!(accepted.tcp_keepalive_retries().unwrap(), keepalive.retries);
            let all = keepalive.time + keepalive.interval * keepalive.retries;
            assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(all));
        }
    }
}
