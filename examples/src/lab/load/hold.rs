use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{super::host::Host, server::LoadServer};

/// Bound on opening one connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens connections to the echo service, shows by a round trip that each is there, and leaves them idle.
///
/// # Errors
///
/// If one does not get through.
pub fn hold(client: &Host, server: &LoadServer, count: usize) -> io::Result<Vec<TcpStream>> {
    open(client, server.echo(), count, |stream| {
        let mut answer = [0; 1];
        stream.write_all(b"?")?;
        stream.read_exact(&mut answer)
    })
}

/// Opens connections to the source of bytes and reads nothing from them.
///
/// # Errors
///
/// If one does not get through.
pub fn stall(client: &Host, server: &LoadServer, count: usize) -> io::Result<Vec<TcpStream>> {
    open(client, server.source(), count, |_| Ok(()))
}

fn open(
    client: &Host,
    destination: SocketAddr,
    count: usize,
    check: impl Fn(&mut TcpStream) -> io::Result<()> + Sync,
) -> io::Result<Vec<TcpStream>> {
    client.namespace().run(|| {
        let one = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&destination, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            check(&mut stream)?;
            Ok(stream)
        };
        (0..count).map(|_| one()).collect()
    })?
}
