use std::{
    io, mem, net,
    sync::{Arc, Mutex, PoisonError},
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
    latencies::Latencies,
    server::LoadServer,
    timing::{Phase, Timing, adopt, connect, on_host, on_thread},
};

/// Bytes of one question and of its answer.
const MESSAGE: usize = 64;
/// How long after the end an answer is awaited before its connection counts as stuck.
const GRACE: Duration = Duration::from_millis(250);

/// What connections with one small message under way each got through.
#[derive(Clone, Debug)]
pub struct PingPong {
    /// How long a round trip took.
    pub latencies: Latencies,
    /// How long was measured.
    pub elapsed: Duration,
    /// Connections that got no answer any more.
    pub stuck: usize,
}

impl PingPong {
    /// Round trips per second.
    pub fn rate(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends small messages to the echo service on `connections` at once, each when the last one is back.
///
/// # Errors
///
/// If a connection breaks or an answer is not what was asked. An answer that does not come makes a connection
/// [stuck](PingPong::stuck) instead.
pub fn ping_pong(
    client: &Host,
    server: &LoadServer,
    connections: usize,
    timing: Timing<'_>,
) -> io::Result<PingPong> {
    let echo = server.echo();
    on_host(client, || async move {
        let meter = Arc::<Meter>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let meter = Arc::clone(&meter);
            tasks.spawn(async move { ask_repeatedly(connect(echo).await?, &meter).await });
        }
        finish(tasks, &meter, timing).await
    })
}

/// The same over connections that exist, to applications that send back what they read.
///
/// # Errors
///
/// As [`ping_pong`].
pub fn ping_pong_over(
    connections: impl IntoIterator<Item = net::TcpStream> + Send,
    timing: Timing<'_>,
) -> io::Result<PingPong> {
    on_thread(|| async move {
        let meter = Arc::<Meter>::default();
        let mut tasks = JoinSet::new();
        for connection in connections {
            let (stream, meter) = (adopt(connection)?, Arc::clone(&meter));
            tasks.spawn(async move { ask_repeatedly(stream, &meter).await });
        }
        finish(tasks, &meter, timing).await
    })
}

async fn finish(
    mut tasks: JoinSet<io::Result<()>>,
    meter: &Meter,
    timing: Timing<'_>,
) -> io::Result<PingPong> {
    let elapsed = meter.phase.pass(timing).await;
    let deadline = Instant::now() + GRACE;
    while let Ok(Some(ended)) = time::timeout_at(deadline, tasks.join_next()).await {
        ended??;
    }
    let stuck = tasks.len();
    let times = mem::take(&mut *meter.times.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(PingPong { latencies: times.into_iter().collect(), elapsed, stuck })
}

#[derive(Debug, Default)]
struct Meter {
    phase: Phase,
    times: Mutex<Vec<Duration>>,
}

async fn ask_repeatedly(mut stream: TcpStream, meter: &Meter) -> io::Result<()> {
    let mut number = 0;
    while !meter.phase.is_over() {
        let asked = Instant::now();
        ask(&mut stream, number).await?;
        number += 1;
        if meter.phase.is_counted() {
            meter.times.lock().unwrap_or_else(PoisonError::into_inner).push(asked.elapsed());
        }
    }
    Ok(())
}

/// One round trip; the number in the message shows that the answer belongs to it.
pub(super) async fn ask(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    let mut question = [7; MESSAGE];
    let mut answer = [0; MESSAGE];
    if let Some(head) = question.first_chunk_mut() {
        *head = number.to_ne_bytes();
    }
    stream.write_all(&question).await?;
    stream.read_exact(&mut answer).await?;
    if question == answer { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
