//! This program as a plain TCP relay: what two hops and the capture cost before anybody encrypts or decides anything.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
    thread,
};

use socket2::SockRef;
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpSocket, TcpStream},
    runtime,
};

/// Where captured connections arrive: outgoing ones, incoming ones.
const PORTS: [u16; 2] = [15001, 15006];
/// Mark by which the redirection rules know the relay's own packets.
const MARK: u32 = 0x539;
/// Bytes copied at once, in each direction.
const BUFFER: usize = 64 * 1024;

/// The line it writes when it takes connections.
pub(super) const READY: &str = "relay ready";

/// Runs the relay on as many threads until the process is killed.
pub(super) fn main(workers: usize) -> ExitCode {
    match serve(workers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(workers: usize) -> io::Result<()> {
    let listeners = PORTS.map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let [outgoing, incoming] = listeners;
    let (outgoing, incoming) = (outgoing?, incoming?);
    outgoing.set_nonblocking(true)?;
    incoming.set_nonblocking(true)?;
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let listeners = [outgoing.try_clone()?, incoming.try_clone()?];
            thread::Builder::new().name("relay".to_owned()).spawn(move || work(listeners))
        })
        .collect::<io::Result<_>>()?;
    println!("{READY}");
    io::stdout().flush()?;
    for thread in threads {
        thread.join().map_err(|_| io::ErrorKind::Other)??;
    }
    Ok(())
}

fn work(listeners: [TcpListener; 2]) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let [outgoing, incoming] = listeners;
        tokio::try_join!(accept_all(outgoing), accept_all(incoming)).map(drop)
    })
}

async fn accept_all(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (downstream, _) = listener.accept().await?;
        // A connection that cannot go on ends; whoever measures sees it.
        tokio::spawn(relay(downstream));
    }
}

async fn relay(mut downstream: TcpStream) -> io::Result<()> {
    let mut upstream = dial(original_destination(&downstream)?).await?;
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER).await.map(drop)
}

fn original_destination(downstream: &TcpStream) -> io::Result<SocketAddr> {
    let address = SockRef::from(downstream).original_dst_v4()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

async fn dial(destination: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    SockRef::from(&socket).set_mark(MARK)?;
    socket.connect(destination).await
}
