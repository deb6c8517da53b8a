use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    super::host::Host,
    latencies::Latencies,
    ping_pong::ask,
    server::LoadServer,
    timing::{Phase, Timing, connect, on_host},
};

/// What clients got through that open a connection for every message.
#[derive(Clone, Debug)]
pub struct Churn {
    /// How long it took from connecting to the answer.
    pub latencies: Latencies,
    /// How long was measured.
    pub elapsed: Duration,
}

impl Churn {
    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Lets `clients` open a connection, make one round trip and close it, again and again.
///
/// # Errors
///
/// If a connection fails or an answer is not what was asked.
pub fn churn(client: &Host, server: &LoadServer, clients: usize, timing: Timing<'_>) -> io::Result<Churn> {
    let echo = server.echo();
    on_host(client, || async move {
        let phase = Arc::<Phase>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(visit_repeatedly(echo, Arc::clone(&phase)));
        }
        let elapsed = phase.pass(timing).await;
        let mut times = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            times.append(&mut ended??);
        }
        Ok(Churn { latencies: times.into_iter().collect(), elapsed })
    })
}

async fn visit_repeatedly(echo: SocketAddr, phase: Arc<Phase>) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while !phase.is_over() {
        let start = Instant::now();
        let mut stream = connect(echo).await?;
        ask(&mut stream, times.len() as u64).await?;
        if phase.is_counted() {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}
