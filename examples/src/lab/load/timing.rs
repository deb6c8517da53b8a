use std::{
    fmt, io,
    net::{self, SocketAddr},
    panic,
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    runtime,
    time::{self, Instant},
};

use super::super::host::Host;

/// Bound on opening a connection under load.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// When a measurement begins and ends.
pub struct Timing<'a> {
    /// How long the load runs before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub duration: Duration,
    /// Called at the beginning and at the end of what counts, for instance to read what the proxies have used.
    pub at_edges: &'a mut (dyn FnMut() + Send),
}

impl fmt::Debug for Timing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { warm_up, duration, at_edges: _ } = self;
        f.debug_struct("Timing").field("warm_up", warm_up).field("duration", duration).finish_non_exhaustive()
    }
}

/// Where in its [`Timing`] a measurement is, for the tasks that make the load.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    const COUNTED: u8 = 1;
    const OVER: u8 = 2;

    /// Waits through the measurement; returns how long the counted part was.
    pub(super) async fn pass(&self, timing: Timing<'_>) -> Duration {
        time::sleep(timing.warm_up).await;
        (timing.at_edges)();
        let start = Instant::now();
        self.0.store(Self::COUNTED, Ordering::Relaxed);
        time::sleep(timing.duration).await;
        self.0.store(Self::OVER, Ordering::Relaxed);
        let elapsed = start.elapsed();
        (timing.at_edges)();
        elapsed
    }

    pub(super) fn is_counted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::COUNTED
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::OVER
    }
}

/// Runs a load on a thread of the host.
pub(super) fn on_host<R: Send, F: Future<Output = io::Result<R>>>(
    host: &Host,
    load: impl FnOnce() -> F + Send,
) -> io::Result<R> {
    host.namespace().run(|| block_on(load))?
}

/// Runs a load on a thread of its own, over connections that exist.
pub(super) fn on_thread<R: Send, F: Future<Output = io::Result<R>>>(
    load: impl FnOnce() -> F + Send,
) -> io::Result<R> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, || block_on(load))?;
        worker.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Takes over a connection.
pub(super) fn adopt(stream: net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

fn block_on<R, F: Future<Output = io::Result<R>>>(load: impl FnOnce() -> F) -> io::Result<R> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(load())
}

/// Opens a connection on which small messages are not held back.
pub(super) async fn connect(destination: SocketAddr) -> io::Result<TcpStream> {
    let stream = time::timeout(CONNECT_PATIENCE, TcpStream::connect(destination)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
