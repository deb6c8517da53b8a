use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::pattern::Pattern;

/// Bytes of one question and of one answer.
const MESSAGE: usize = 64;
/// Round trips before the clock runs: the first connection of a proxy pair shakes hands.
const WARM_UP: u32 = 20;

/// Round-trip times of a connection with one small message under way.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// How many were measured.
    pub round_trips: usize,
    /// Half took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
}

/// Bytes that arrived in a time.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// How many arrived.
    pub bytes: u64,
    /// In what time.
    pub elapsed: Duration,
}

impl Throughput {
    /// In gigabits per second.
    pub fn gbit_per_s(&self) -> f64 {
        // Bits per nanosecond is the same number; 2^53 bytes are never reached.
        self.bytes as f64 * 8.0 / self.elapsed.as_nanos().max(1) as f64
    }
}

/// Sends small messages to an echo application, one after the other.
///
/// # Errors
///
/// If the connection breaks.
pub fn round_trips(mut stream: TcpStream, duration: Duration) -> io::Result<Latency> {
    let mut message = [7; MESSAGE];
    let mut ask = || {
        let asked = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        Ok::<_, io::Error>(asked.elapsed())
    };
    for _ in 0..WARM_UP {
        ask()?;
    }
    let end = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(ask()?);
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).or_else(|| times.last()).copied();
    let missing = || io::Error::from(io::ErrorKind::TimedOut);
    Ok(Latency {
        round_trips: times.len(),
        p50: at(50).ok_or_else(missing)?,
        p99: at(99).ok_or_else(missing)?,
    })
}

/// Sends as much as fits into `duration` to a counting application, until it has said how much arrived.
///
/// # Errors
///
/// If the connection breaks or the answer is not a number.
pub fn throughput(mut stream: TcpStream, duration: Duration) -> io::Result<Throughput> {
    let mut pattern = Pattern::default();
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(pattern.next_slice(u64::MAX))?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let bytes = answer.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Throughput { bytes, elapsed: start.elapsed() })
}
