//! Just enough of a SOCKS5 client (RFC 1928): addresses, no authentication.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// Bound on everything a client waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a proxy for a connection, from the address `source`.
pub(super) fn dial(source: IpAddr, proxy: SocketAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(source, proxy)?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    if method != [5, 0] {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut request = vec![5, 1, 0];
    match destination.ip() {
        IpAddr::V4(address) => {
            request.push(1);
            request.extend(address.octets());
        }
        IpAddr::V6(address) => {
            request.push(4);
            request.extend(address.octets());
        }
    }
    request.extend(destination.port().to_be_bytes());
    stream.write_all(&request)?;
    // The proxy answers with an IPv4 address, whatever was asked for.
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    match reply {
        [5, 0, ..] => Ok(stream),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// A way to connect from the address `source`, without a proxy.
pub(super) fn dial_directly(source: IpAddr) -> impl Fn(SocketAddr) -> io::Result<TcpStream> {
    move |destination| connect(source, destination)
}

fn connect(source: IpAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
