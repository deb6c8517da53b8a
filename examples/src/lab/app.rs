use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    host::Host,
    pattern::{Pattern, Tally},
};

const BUFFER: usize = 64 * 1024;
/// Bound on a silent client, so that no thread outlives its test for long.
const SILENCE: Duration = Duration::from_secs(30);
/// Bound on waiting for connections to finish.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server application that knows nothing of a mesh.
///
/// It stops to accept when dropped; connections it has end with their clients.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    port: u16,
    visits: Arc<Visits>,
}

impl App {
    /// Starts the application on a port of the host, on every address of both families; 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If the port is taken, or a thread cannot be started.
    pub fn start(host: &Host, port: u16, behaviour: Behaviour) -> io::Result<Self> {
        Self::serve(host.listen(port)?, behaviour)
    }

    /// Serves on a listener that exists.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn serve(listener: TcpListener, behaviour: Behaviour) -> io::Result<Self> {
        let app = Self { port: listener.local_addr()?.port(), listener, visits: Arc::default() };
        let (listener, visits) = (app.listener.try_clone()?, Arc::clone(&app.visits));
        thread::Builder::new()
            .name("lab-app".to_owned())
            .spawn(move || accept_all(&listener, behaviour, &visits))?;
        Ok(app)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses from which clients have connected, oldest first.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.visits.lock().peers.clone()
    }

    /// Waits for `count` connections to have finished and returns all that have; fewer after 10 s.
    pub fn finished(&self, count: usize) -> Vec<Visit> {
        let deadline = Instant::now() + PATIENCE;
        let mut log = self.visits.lock();
        while log.finished.len() < count {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            log = self.visits.grown.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        log.finished.clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Wakes the thread that accepts; it then ends and closes the port.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// What an [`App`] does with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Reads to the end of the client's bytes, then answers with their number.
    Count,
    /// Sends back what it reads, and its end after the client's.
    Echo,
    /// Sends that many bytes of the [`Pattern`] and ends its direction, while it reads to the end of the other.
    Exchange {
        /// How many.
        bytes: u64,
    },
}

/// One finished connection, as the application saw it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client sent.
    pub received: Tally,
    /// What ended the connection, if not both directions in order.
    pub error: Option<io::ErrorKind>,
}

#[derive(Debug, Default)]
struct Visits {
    log: Mutex<VisitLog>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct VisitLog {
    peers: Vec<SocketAddr>,
    finished: Vec<Visit>,
}

impl Visits {
    fn lock(&self) -> MutexGuard<'_, VisitLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept_all(listener: &TcpListener, behaviour: Behaviour, visits: &Arc<Visits>) {
    while let Ok((stream, peer)) = listener.accept() {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        visits.lock().peers.push(peer);
        let visits = Arc::clone(visits);
        // A connection without a thread is closed, which its client sees.
        let _ = thread::Builder::new().name("lab-app".to_owned()).spawn(move || {
            let mut received = Tally::default();
            let ended = serve(&stream, behaviour, &mut received);
            let visit = Visit { peer, received, error: ended.err().map(|error| error.kind()) };
            visits.lock().finished.push(visit);
            visits.grown.notify_all();
        });
    }
}

fn serve(stream: &TcpStream, behaviour: Behaviour, received: &mut Tally) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    stream.set_nodelay(true)?;
    match behaviour {
        Behaviour::Count => {
            read_to_end(stream, received)?;
            let mut writer = stream;
            write!(writer, "{}", received.bytes())?;
            stream.shutdown(Shutdown::Write)
        }
        Behaviour::Echo => {
            echo(stream, received)?;
            stream.shutdown(Shutdown::Write)
        }
        Behaviour::Exchange { bytes } => exchange(stream, bytes, received),
    }
}

fn echo(mut stream: &TcpStream, received: &mut Tally) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = stream.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
        received.add(part);
        stream.write_all(part)?;
    }
}

/// Sends `bytes` of the pattern and ends that direction, while it reads to the end of the other.
///
/// # Errors
///
/// If either direction ends otherwise.
pub fn exchange(stream: &TcpStream, bytes: u64, received: &mut Tally) -> io::Result<()> {
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            send(stream, bytes)?;
            stream.shutdown(Shutdown::Write)
        });
        let read = read_to_end(stream, received);
        let sent = sender.join().map_err(|_| io::ErrorKind::Other)?;
        read.and(sent)
    })
}

/// Sends `bytes` of the [`Pattern`].
///
/// # Errors
///
/// As [`Write::write_all`].
pub fn send(mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut pattern = Pattern::default();
    let mut left = bytes;
    while left > 0 {
        let slice = pattern.next_slice(left);
        stream.write_all(slice)?;
        left -= slice.len() as u64;
    }
    Ok(())
}

/// Reads until the other side ends its direction.
///
/// # Errors
///
/// As [`Read::read`].
pub fn read_to_end(mut stream: &TcpStream, received: &mut Tally) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = stream.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
        received.add(part);
    }
}
