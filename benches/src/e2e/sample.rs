use std::{collections::BTreeMap, io, process, thread, time::Duration};

use examples::lab::load::{self, Direction, LoadServer, Timing};
use thiserror::Error;

use super::{
    bed::Bed,
    options::Scale,
    row::{BESIDE_STALLED, Row},
    usage,
};

/// How long memory is left to settle.
const REST: Duration = Duration::from_millis(300);
/// Bound on filling every buffer on the way to readers that do not read.
const FILLING: Duration = Duration::from_secs(30);
const KIB: f64 = 1024.0;
const MICROSECONDS: f64 = 1e6;
const GIGABYTE: f64 = 1e9;

/// Something measured, in its unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Quantity {
    /// Share of the busiest thread in the CPU time of its proxy; the larger of both proxies.
    BusiestThread,
    /// CPU time of the client's proxy per gigabyte.
    ClientCpuPerGigabyte,
    /// Memory of the client's proxy per tunnel.
    ClientMemory,
    /// New connections.
    Connections,
    /// CPU time of both proxies per connection.
    CpuPerConnection,
    /// CPU time of both proxies per round trip.
    CpuPerRoundTrip,
    /// Time that half did not exceed.
    Median,
    /// Time that 99 of 100 did not exceed.
    NinetyNinth,
    /// Round trips.
    RoundTrips,
    /// CPU time of the server's proxy per gigabyte.
    ServerCpuPerGigabyte,
    /// Memory of the server's proxy per tunnel.
    ServerMemory,
    /// Connections that got no answer any more.
    Stuck,
    /// Bytes, as bits.
    Throughput,
    /// What was sent to a reader that never read, until no buffer in between took any more.
    Unread,
}

impl Quantity {
    /// Its name, with its unit.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BusiestThread => "busiest thread, % of its proxy's CPU",
            Self::ClientCpuPerGigabyte => "client's proxy, CPU s/GB",
            Self::ClientMemory => "client's proxy, KiB per tunnel",
            Self::Connections => "connections/s",
            Self::CpuPerConnection => "both proxies, CPU µs per connection",
            Self::CpuPerRoundTrip => "both proxies, CPU µs per round trip",
            Self::Median => "p50 µs",
            Self::NinetyNinth => "p99 µs",
            Self::RoundTrips => "round trips/s",
            Self::ServerCpuPerGigabyte => "server's proxy, CPU s/GB",
            Self::ServerMemory => "server's proxy, KiB per tunnel",
            Self::Stuck => "connections without an answer",
            Self::Throughput => "Gbit/s",
            Self::Unread => "KiB on the way to a stalled reader",
        }
    }
}

/// What one measurement gave.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The quantities of the row.
    pub(super) values: Vec<(Quantity, f64)>,
    /// CPU time that programs other than the harness and its proxies took meanwhile, as a share of one processor.
    pub(super) foreign: Option<f64>,
}

/// Why a measurement does not count.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum MeasureError {
    /// Something under load failed.
    #[error("the load met an error")]
    Load(#[source] io::Error),
    /// Nothing got through.
    #[error("nothing got through")]
    Nothing,
    /// Connections stay open.
    #[error(transparent)]
    Settle(io::Error),
    /// Connections went silent that nothing was in the way of.
    #[error("{count} connections got no answer any more")]
    Stuck {
        /// How many.
        count: usize,
    },
    /// A process cannot be observed; it may have ended.
    #[error("a proxy cannot be observed")]
    Usage(#[source] io::Error),
}

/// Measures a row on a bed once. [`Row::Idle`] needs a bed on which nothing has happened yet.
pub(super) fn measure(row: Row, bed: &Bed, scale: Scale) -> Result<Sample, MeasureError> {
    let sample = match row {
        Row::Bulk { direction, streams } => bulk(bed, scale, direction, streams),
        Row::Churn { clients } => churn(bed, scale, clients),
        Row::Idle => idle(bed, scale),
        Row::PingPong { connections } => ping_pong(bed, scale, connections),
        Row::Stalled { readers } => stalled(bed, scale, readers),
    }?;
    bed.settle().map_err(MeasureError::Settle)?;
    Ok(sample)
}

fn bulk(bed: &Bed, scale: Scale, direction: Direction, streams: usize) -> Result<Sample, MeasureError> {
    let (bulk, cost) =
        observe(bed, scale, |client, server, timing| load::bulk(client, server, streams, direction, timing))?;
    if bulk.bytes == 0 {
        return Err(MeasureError::Nothing);
    }
    let mut values = vec![(Quantity::Throughput, bulk.gbit_per_s())];
    let per_gigabyte = |cpu: &Duration| cpu.as_secs_f64() * GIGABYTE / bulk.bytes as f64;
    if let [client, server] = &cost.hops[..] {
        values.push((Quantity::ClientCpuPerGigabyte, per_gigabyte(client)));
        values.push((Quantity::ServerCpuPerGigabyte, per_gigabyte(server)));
        if streams > 1 {
            values.push((Quantity::BusiestThread, cost.busiest_thread * 100.0));
        }
    }
    Ok(Sample { values, foreign: Some(cost.foreign) })
}

fn churn(bed: &Bed, scale: Scale, clients: usize) -> Result<Sample, MeasureError> {
    let (churn, cost) =
        observe(bed, scale, |client, server, timing| load::churn(client, server, clients, timing))?;
    let mut values = vec![(Quantity::Connections, churn.rate())];
    values.extend(times(&churn.latencies)?);
    if !cost.hops.is_empty() {
        values.push((Quantity::CpuPerConnection, cost.micros_per(churn.latencies.count())));
    }
    Ok(Sample { values, foreign: Some(cost.foreign) })
}

fn ping_pong(bed: &Bed, scale: Scale, connections: usize) -> Result<Sample, MeasureError> {
    let (ping_pong, cost) =
        observe(bed, scale, |client, server, timing| load::ping_pong(client, server, connections, timing))?;
    if ping_pong.stuck > 0 {
        return Err(MeasureError::Stuck { count: ping_pong.stuck });
    }
    let mut values = vec![(Quantity::RoundTrips, ping_pong.rate())];
    values.extend(times(&ping_pong.latencies)?);
    if !cost.hops.is_empty() {
        values.push((Quantity::CpuPerRoundTrip, cost.micros_per(ping_pong.latencies.count())));
    }
    Ok(Sample { values, foreign: Some(cost.foreign) })
}

fn stalled(bed: &Bed, scale: Scale, count: usize) -> Result<Sample, MeasureError> {
    let before = bed.load().sent();
    let readers = load::stall(bed.client(), bed.load(), count).map_err(MeasureError::Load)?;
    let filled = if readers.is_empty() { before } else { fill(bed, scale)? };
    let (ping_pong, cost) = observe(bed, scale, |client, server, timing| {
        load::ping_pong(client, server, BESIDE_STALLED, timing)
    })?;
    drop(readers);
    // That nothing gets through is what this row is there to find out.
    let mut values = vec![(Quantity::RoundTrips, ping_pong.rate())];
    values.extend(times(&ping_pong.latencies).into_iter().flatten());
    values.push((Quantity::Stuck, ping_pong.stuck as f64));
    if !cost.hops.is_empty() && ping_pong.latencies.count() > 0 {
        values.push((Quantity::CpuPerRoundTrip, cost.micros_per(ping_pong.latencies.count())));
    }
    if count > 0 {
        values.push((Quantity::Unread, (filled - before) as f64 / count as f64 / KIB));
    }
    Ok(Sample { values, foreign: Some(cost.foreign) })
}

/// Waits until every buffer is full: whoever measures earlier measures the filling.
fn fill(bed: &Bed, scale: Scale) -> Result<u64, MeasureError> {
    bed.load().fill(scale.quiet, FILLING).map_err(MeasureError::Load)
}

fn idle(bed: &Bed, scale: Scale) -> Result<Sample, MeasureError> {
    let resident = || {
        thread::sleep(REST);
        bed.hops()
            .into_iter()
            .map(usage::resident_kib)
            .collect::<io::Result<Vec<_>>>()
            .map_err(MeasureError::Usage)
    };
    let before = resident()?;
    let tunnels = load::hold(bed.client(), bed.load(), scale.idle).map_err(MeasureError::Load)?;
    let after = resident()?;
    let grown = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before) as f64);
    let values = [Quantity::ClientMemory, Quantity::ServerMemory]
        .into_iter()
        .zip(grown.map(|kib| kib / tunnels.len() as f64))
        .collect();
    Ok(Sample { values, foreign: None })
}

fn times(latencies: &load::Latencies) -> Result<[(Quantity, f64); 2], MeasureError> {
    let micros = |percent| latencies.percentile(percent).map(|time| time.as_secs_f64() * MICROSECONDS);
    let (Some(median), Some(ninety_ninth)) = (micros(50), micros(99)) else {
        return Err(MeasureError::Nothing);
    };
    Ok([(Quantity::Median, median), (Quantity::NinetyNinth, ninety_ninth)])
}

/// What a measurement cost.
#[derive(Debug)]
struct Cost {
    /// CPU time of each proxy.
    hops: Vec<Duration>,
    /// Largest share that one thread has in the CPU time of its proxy.
    busiest_thread: f64,
    /// CPU time of everything else on the machine, as a share of one processor.
    foreign: f64,
}

impl Cost {
    /// Of all proxies together.
    fn micros_per(&self, count: usize) -> f64 {
        self.hops.iter().sum::<Duration>().as_secs_f64() * MICROSECONDS / count as f64
    }
}

fn observe<R>(
    bed: &Bed,
    scale: Scale,
    load: impl FnOnce(&examples::lab::Host, &LoadServer, Timing<'_>) -> io::Result<R>,
) -> Result<(R, Cost), MeasureError> {
    let hops = bed.hops();
    let mut readings = Vec::new();
    let mut at_edges = || readings.push(Reading::take(&hops));
    let timing = Timing { warm_up: scale.warm_up, duration: scale.duration, at_edges: &mut at_edges };
    let result = load(bed.client(), bed.load(), timing).map_err(MeasureError::Load)?;
    let readings: Vec<_> = readings.into_iter().collect::<io::Result<_>>().map_err(MeasureError::Usage)?;
    let [start, end] = &readings[..] else { return Err(MeasureError::Nothing) };
    Ok((result, end.since(start, scale.duration)))
}

/// CPU times at an edge of a measurement.
#[derive(Debug)]
struct Reading {
    hops: Vec<Duration>,
    threads: Vec<BTreeMap<String, Duration>>,
    harness: Duration,
    machine: Duration,
}

impl Reading {
    fn take(hops: &[u32]) -> io::Result<Self> {
        Ok(Self {
            hops: hops.iter().copied().map(usage::cpu_time).collect::<io::Result<_>>()?,
            threads: hops.iter().copied().map(usage::thread_times).collect::<io::Result<_>>()?,
            harness: usage::cpu_time(process::id())?,
            machine: usage::machine_time()?,
        })
    }

    fn since(&self, start: &Self, elapsed: Duration) -> Cost {
        let hops: Vec<_> =
            self.hops.iter().zip(&start.hops).map(|(end, start)| end.saturating_sub(*start)).collect();
        let busiest_thread =
            self.threads.iter().zip(&start.threads).map(|(end, start)| busiest_share(end, start));
        let ours = hops.iter().sum::<Duration>() + self.harness.saturating_sub(start.harness);
        let foreign = self.machine.saturating_sub(start.machine).saturating_sub(ours);
        Cost {
            busiest_thread: busiest_thread.fold(0.0, f64::max),
            foreign: foreign.as_secs_f64() / elapsed.as_secs_f64(),
            hops,
        }
    }
}

fn busiest_share(end: &BTreeMap<String, Duration>, start: &BTreeMap<String, Duration>) -> f64 {
    let used = |(name, time): (&String, &Duration)| {
        time.saturating_sub(start.get(name).copied().unwrap_or_default()).as_secs_f64()
    };
    let used: Vec<_> = end.iter().map(used).collect();
    let all: f64 = used.iter().sum();
    if all == 0.0 { 0.0 } else { used.into_iter().fold(0.0, f64::max) / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_found_by_what_it_used_meanwhile() {
        let times = |one, two| {
            [("1", one), ("2", two)]
                .map(|(name, millis)| (name.to_owned(), Duration::from_millis(millis)))
                .into()
        };
        assert_eq!(busiest_share(&times(1000, 40), &times(970, 30)), 0.75);
        assert_eq!(busiest_share(&times(5, 5), &times(5, 5)), 0.0);
    }

    #[test]
    fn cpu_time_is_that_of_all_proxies() {
        let hops = vec![Duration::from_millis(3), Duration::from_millis(5)];
        let cost = Cost { hops, busiest_thread: 0.0, foreign: 0.0 };
        assert_eq!(cost.micros_per(400), 20.0);
    }
}
