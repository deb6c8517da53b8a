use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use super::{
    ConnectionMeta, Direction, HboneFailure, ResponseFlag, labels::TrafficLabels, throttle::Throttle,
};

/// How many pairs of source and destination a shard remembers the series of, before it starts anew.
const REMEMBERED: usize = 4096;

/// The counters of all connections that share one set of labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: TrafficLabels,
    opened: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    closed: [AtomicU64; ResponseFlag::ALL.len()],
}

impl Series {
    fn new(labels: TrafficLabels) -> Self {
        Self {
            labels,
            opened: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            closed: Default::default(),
        }
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn closed(&self, flag: ResponseFlag) {
        let counters = ResponseFlag::ALL.iter().zip(&self.closed);
        if let Some((_, counter)) = counters.into_iter().find(|(each, _)| **each == flag) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn totals(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            opened: load(&self.opened),
            received: load(&self.received),
            sent: load(&self.sent),
            closed: self.closed.each_ref().map(load),
        }
    }
}

/// What [`Series`] of the same labels counted, in all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) opened: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    closed: [u64; ResponseFlag::ALL.len()],
}

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.received += other.received;
        self.sent += other.sent;
        for (sum, count) in self.closed.iter_mut().zip(&other.closed) {
            *sum += count;
        }
    }

    /// How many connections ended with each flag, of those flags with which any did.
    pub(super) fn closed(&self) -> impl Iterator<Item = (ResponseFlag, u64)> {
        ResponseFlag::ALL.into_iter().zip(self.closed).filter(|&(_, count)| count > 0)
    }
}

/// What one worker counts. Only that worker writes here, so its locks are free except while a scrape lists the series.
///
/// Series stay for as long as the process lives, as counters must; their number is bounded by what discovery names,
/// and for what peers say of themselves by `baggage_limit`.
#[derive(Debug)]
pub(super) struct Shard {
    baggage_limit: usize,
    hasher: RandomState,
    known: Mutex<Known>,
    /// Apart from `known`, so that a scrape does not hold up connections of known series.
    series: Mutex<Vec<Arc<Series>>>,
    sockets: [AtomicI64; 2],
    pub(super) events: EventCounters,
}

#[derive(Debug, Default)]
struct Known {
    by_pair: HashMap<u64, Resolved>,
    by_labels: HashMap<TrafficLabels, Arc<Series>>,
    from_baggage: usize,
}

/// The series that connections like `meta` are counted in.
///
/// It holds what it compares by address, so that no address is used again meanwhile.
#[derive(Debug)]
struct Resolved {
    meta: ConnectionMeta,
    series: Arc<Series>,
}

/// What happens seldom, counted per shard.
#[derive(Debug, Default)]
pub(super) struct EventCounters {
    pub(super) accept_failures: [AtomicU64; 2],
    pub(super) dry_run_denials: AtomicU64,
    pub(super) early_denials: [AtomicU64; 2],
    pub(super) folded_sources: AtomicU64,
    pub(super) hbone_failures: [AtomicU64; HboneFailure::ALL.len()],
    pub(super) local_config_applied: AtomicU64,
    pub(super) local_config_rejected: AtomicU64,
    pub(super) missing_policies: AtomicU64,
    pub(super) own_certificates_revoked: AtomicU64,
    pub(super) sources_not_preserved: AtomicU64,
    pub(super) lines: Lines,
}

/// Which lines of the log somebody else could make a flood of.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) dry_run_denied: Throttle,
    pub(super) hbone_failed: Throttle,
    pub(super) policy_missing: Throttle,
    pub(super) source_not_preserved: Throttle,
}

impl EventCounters {
    /// The counter of HBONE connections that ended so.
    pub(super) fn hbone_failures(&self, failure: HboneFailure) -> Option<&AtomicU64> {
        let mut counters = HboneFailure::ALL.iter().zip(&self.hbone_failures);
        counters.find(|(each, _)| **each == failure).map(|(_, counter)| counter)
    }
}

impl Shard {
    pub(super) fn new(baggage_limit: usize) -> Self {
        Self {
            baggage_limit,
            hasher: RandomState::new(),
            known: Mutex::default(),
            series: Mutex::default(),
            sockets: Default::default(),
            events: EventCounters::default(),
        }
    }

    /// The series to count a connection in, after counting it as opened.
    pub(super) fn open(&self, meta: &ConnectionMeta) -> Arc<Series> {
        let series = self.resolve(meta);
        series.opened.fetch_add(1, Ordering::Relaxed);
        series
    }

    fn resolve(&self, meta: &ConnectionMeta) -> Arc<Series> {
        let pair = self.hash(meta);
        let mut known = lock(&self.known);
        if let Some(resolved) = known.by_pair.get(&pair).filter(|resolved| same_labels(&resolved.meta, meta))
        {
            return Arc::clone(&resolved.series);
        }
        let series = self.find_or_add(&mut known, meta);
        if known.by_pair.len() >= REMEMBERED {
            known.by_pair.clear();
        }
        known.by_pair.insert(pair, Resolved { meta: meta.clone(), series: Arc::clone(&series) });
        series
    }

    fn find_or_add(&self, known: &mut Known, meta: &ConnectionMeta) -> Arc<Series> {
        let baggage = meta.source_baggage.as_ref().filter(|_| meta.source_workload.is_none());
        let labels = TrafficLabels::new(meta, baggage);
        if let Some(series) = known.by_labels.get(&labels) {
            return Arc::clone(series);
        }
        if baggage.is_some() {
            if known.from_baggage >= self.baggage_limit {
                self.events.folded_sources.fetch_add(1, Ordering::Relaxed);
                let labels = TrafficLabels::new(meta, None);
                return match known.by_labels.get(&labels) {
                    Some(series) => Arc::clone(series),
                    None => self.add(known, labels),
                };
            }
            known.from_baggage += 1;
        }
        self.add(known, labels)
    }

    fn add(&self, known: &mut Known, labels: TrafficLabels) -> Arc<Series> {
        let series = Arc::new(Series::new(labels.clone()));
        known.by_labels.insert(labels, Arc::clone(&series));
        lock(&self.series).push(Arc::clone(&series));
        series
    }

    /// Every series of this shard.
    pub(super) fn series(&self) -> Vec<Arc<Series>> {
        lock(&self.series).clone()
    }

    pub(super) fn socket_opened(&self, direction: Direction) {
        self.sockets_of(direction).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn socket_closed(&self, direction: Direction) {
        self.sockets_of(direction).fetch_sub(1, Ordering::Relaxed);
    }

    /// Sockets opened here less sockets closed here: below zero where they were opened on another worker.
    pub(super) fn sockets(&self, direction: Direction) -> i64 {
        self.sockets_of(direction).load(Ordering::Relaxed)
    }

    fn sockets_of(&self, direction: Direction) -> &AtomicI64 {
        per_direction(&self.sockets, direction)
    }

    /// Hashes what decides about the labels, objects of the state by address: a hash of names would cost far more.
    fn hash(&self, meta: &ConnectionMeta) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (meta.direction, meta.transport).hash(&mut hasher);
        address(meta.source_workload.as_ref()).hash(&mut hasher);
        address(meta.destination_workload.as_ref()).hash(&mut hasher);
        address(meta.destination_service.as_ref()).hash(&mut hasher);
        meta.source_identity.hash(&mut hasher);
        if meta.source_workload.is_none() {
            meta.source_baggage.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Picks one of two counters.
pub(super) fn per_direction<T>([inbound, outbound]: &[T; 2], direction: Direction) -> &T {
    match direction {
        Direction::Inbound => inbound,
        Direction::Outbound => outbound,
    }
}

fn same_labels(a: &ConnectionMeta, b: &ConnectionMeta) -> bool {
    a.direction == b.direction
        && a.transport == b.transport
        && address(a.source_workload.as_ref()) == address(b.source_workload.as_ref())
        && address(a.destination_workload.as_ref()) == address(b.destination_workload.as_ref())
        && address(a.destination_service.as_ref()) == address(b.destination_service.as_ref())
        && a.source_identity == b.source_identity
        && a.destination_identity == b.destination_identity
        && (a.source_workload.is_some() || a.source_baggage == b.source_baggage)
}

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |object| Arc::as_ptr(object).addr())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change below a lock is complete or not made at all, so a panic elsewhere leaves nothing broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
