use std::{
    io,
    net::{self, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    super::host::Host,
    server::{BUFFER, LoadServer},
    timing::{Phase, Timing, adopt, connect, on_host, on_thread},
};

/// Bound on the answer to everything that was sent.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Which way bulk data goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

/// What arrived of as much as could be sent.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Bytes that arrived while it was measured.
    pub bytes: u64,
    /// How long was measured.
    pub elapsed: Duration,
}

impl Bulk {
    /// Gigabits per second.
    pub fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.elapsed.as_secs_f64()
    }
}

/// Sends as much as fits over `connections` at once.
///
/// # Errors
///
/// If a connection breaks before the end.
pub fn bulk(
    client: &Host,
    server: &LoadServer,
    connections: usize,
    direction: Direction,
    timing: Timing<'_>,
) -> io::Result<Bulk> {
    let taken = Arc::<AtomicU64>::default();
    let mut arrived = [0; 2];
    let mut edges = arrived.iter_mut();
    let mut at_edges = || {
        (timing.at_edges)();
        if let Some(edge) = edges.next() {
            *edge = match direction {
                Direction::Down => taken.load(Ordering::Relaxed),
                Direction::Up => server.received(),
            };
        }
    };
    let timing = Timing { warm_up: timing.warm_up, duration: timing.duration, at_edges: &mut at_edges };
    let elapsed = on_host(client, || async {
        let phase = Arc::<Phase>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            match direction {
                Direction::Down => {
                    tasks.spawn(drink(server.source(), Arc::clone(&phase), Arc::clone(&taken)))
                }
                Direction::Up => tasks.spawn(pour_into(server.sink(), Arc::clone(&phase))),
            };
        }
        let elapsed = phase.pass(timing).await;
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(elapsed)
    })?;
    let [start, end] = arrived;
    Ok(Bulk { bytes: end - start, elapsed })
}

async fn drink(source: SocketAddr, phase: Arc<Phase>, taken: Arc<AtomicU64>) -> io::Result<()> {
    let mut stream = connect(source).await?;
    let mut buffer = vec![0; BUFFER];
    while !phase.is_over() {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(())
}

async fn pour_into(sink: SocketAddr, phase: Arc<Phase>) -> io::Result<()> {
    pour(&mut connect(sink).await?, &phase).await
}

/// Sends as much as fits over a connection that exists, to an application that reads to the end and answers with the
/// number of bytes; the time until its answer counts.
///
/// # Errors
///
/// If the connection breaks or the answer is not a number.
pub fn bulk_over(connection: net::TcpStream, timing: Timing<'_>) -> io::Result<Bulk> {
    on_thread(|| async move {
        let mut stream = adopt(connection)?;
        let phase = Phase::default();
        let start = Instant::now();
        let (poured, _) = tokio::join!(pour(&mut stream, &phase), phase.pass(timing));
        poured?;
        stream.shutdown().await?;
        let mut answer = String::new();
        time::timeout(ANSWER_PATIENCE, stream.read_to_string(&mut answer)).await??;
        let bytes = answer.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Bulk { bytes, elapsed: start.elapsed() })
    })
}

async fn pour(stream: &mut TcpStream, phase: &Phase) -> io::Result<()> {
    let buffer = vec![7; BUFFER];
    while !phase.is_over() {
        stream.write_all(&buffer).await?;
    }
    Ok(())
}
