use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination a captured connection was dialled for.
///
/// Asks the connection tracker (`SO_ORIGINAL_DST`), by the option of the peer's address family; without an entry the
/// `local` address is the destination (TPROXY, or a connection made to us on purpose).
pub(crate) fn original_destination(stream: &TcpStream, local: SocketAddr) -> SocketAddr {
    let socket = SockRef::from(stream);
    // The v4 option also answers on a dual-stack socket that carries an IPv4 flow.
    let tracked = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    tracked.ok().and_then(|address| address.as_socket()).map_or(local, canonical)
}

/// Turns an IPv4-mapped IPv6 address, as dual-stack sockets report it, into the IPv4 address it means.
///
/// Everything taken from a socket passes here once, so that policy, look-ups and logs see one form.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else { return address };
    match v6.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sockets#2
    #[test]
    fn a_mapped_address_becomes_plain_ipv4() {
        assert_eq!(canonical("[::ffff:192.0.2.7]:80".parse().unwrap()), "192.0.2.7:80".parse().unwrap());
        assert_eq!(canonical("[2001:db8::7]:80".parse().unwrap()), "[2001:db8::7]:80".parse().unwrap());
        assert_eq!(canonical("192.0.2.7:80".parse().unwrap()), "192.0.2.7:80".parse().unwrap());
    }

    /// sockets#4
    #[tokio::test]
    async fn without_a_tracked_flow_the_local_address_is_the_destination() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (accepted, _)) = (client.unwrap(), accepted.unwrap());
        assert_eq!(original_destination(&accepted, address), address);
    }
}
