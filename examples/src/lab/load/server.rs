use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    sync::oneshot,
};

use super::super::host::Host;

/// Bytes read or written at once.
pub(super) const BUFFER: usize = 128 * 1024;
/// Messages of the echo service are small.
const ECHO_BUFFER: usize = 1024;
/// Pause between two looks at what is still open.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);

/// The applications that the generators talk to: an echo, a sink and a source of bytes, each on its own port.
#[derive(Debug)]
pub struct LoadServer {
    address: IpAddr,
    ports: Ports,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    echo: u16,
    sink: u16,
    source: u16,
}

#[derive(Debug, Default)]
struct Counters {
    /// Connections that are open.
    open: AtomicUsize,
    /// Bytes that the sink has taken.
    received: AtomicU64,
    /// Bytes that the source has given.
    sent: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Service {
    Echo,
    Sink,
    Source,
}

impl LoadServer {
    /// Starts the applications on ports of the host that the system chooses.
    ///
    /// # Errors
    ///
    /// If a port cannot be bound or a thread not started.
    pub fn start(host: &Host) -> io::Result<Self> {
        let [echo, sink, source] = [host.listen(0)?, host.listen(0)?, host.listen(0)?];
        let port = |listener: &TcpListener| Ok::<_, io::Error>(listener.local_addr()?.port());
        let ports = Ports { echo: port(&echo)?, sink: port(&sink)?, source: port(&source)? };
        let services = [(echo, Service::Echo), (sink, Service::Sink), (source, Service::Source)];
        for (listener, _) in &services {
            listener.set_nonblocking(true)?;
        }
        let counters = Arc::<Counters>::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&counters);
        // Its sockets belong to the host already, whichever namespace the thread is in.
        let thread = thread::Builder::new().name("load-server".to_owned()).spawn(move || {
            runtime.block_on(async {
                for (listener, service) in services {
                    tokio::spawn(accept_all(listener, service, Arc::clone(&shared)));
                }
                // Ends with a message as well as without one.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { address: host.v4(), ports, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until no connection is open.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] if some are still open after `patience`.
    pub fn settle(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while self.counters.open.load(Ordering::Relaxed) > 0 {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(SETTLE_INTERVAL);
        }
        Ok(())
    }

    /// Waits until the source has given nothing for as long as `quiet`: nobody reads, and everything between is full.
    /// Returns what it has given since the start.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] if it still gives something after `patience`.
    pub fn fill(&self, quiet: Duration, patience: Duration) -> io::Result<u64> {
        let start = Instant::now();
        let (mut sent, mut since) = (self.sent(), start);
        while since.elapsed() < quiet {
            if start.elapsed() > patience {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(SETTLE_INTERVAL);
            let now = self.sent();
            if now != sent {
                (sent, since) = (now, Instant::now());
            }
        }
        Ok(sent)
    }

    /// Bytes that the source has given since the start.
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    pub(super) fn echo(&self) -> SocketAddr {
        (self.address, self.ports.echo).into()
    }

    pub(super) fn sink(&self) -> SocketAddr {
        (self.address, self.ports.sink).into()
    }

    pub(super) fn source(&self) -> SocketAddr {
        (self.address, self.ports.source).into()
    }

    /// Bytes that the sink has taken since the start.
    pub(super) fn received(&self) -> u64 {
        self.counters.received.load(Ordering::Relaxed)
    }
}

impl Drop for LoadServer {
    fn drop(&mut self) {
        // Wakes the thread, which ends with everything open.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept_all(listener: TcpListener, service: Service, counters: Arc<Counters>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let counters = Arc::clone(&counters);
        counters.open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            // A client that leaves in the middle is how most measurements end.
            let _ = match service {
                Service::Echo => echo(stream).await,
                Service::Sink => sink(stream, &counters.received).await,
                Service::Source => source(stream, &counters.sent).await,
            };
            counters.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; ECHO_BUFFER];
    loop {
        let count = stream.read(&mut buffer).await?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
        stream.write_all(part).await?;
    }
}

async fn sink(mut stream: TcpStream, received: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
}

async fn source(mut stream: TcpStream, sent: &AtomicU64) -> io::Result<()> {
    let buffer = vec![7; BUFFER];
    loop {
        let count = stream.write(&buffer).await?;
        sent.fetch_add(count as u64, Ordering::Relaxed);
    }
}
