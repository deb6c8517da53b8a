use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{
    Direction, HboneFailure, ResponseFlag,
    labels::{TrafficLabels, reporter, write_label},
    series::{EventCounters, Series, Totals, per_direction},
    standard::Shards,
};

/// The `istio_tcp_*` counters of connections and bytes.
#[derive(Debug)]
pub(super) struct TrafficMetrics(pub(super) Arc<Shards>);

impl Collector for TrafficMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series: Vec<Arc<Series>> = self.0.iter().flat_map(|shard| shard.series()).collect();
        let mut sums: HashMap<&TrafficLabels, Totals> = HashMap::with_capacity(series.len());
        for series in &series {
            sums.entry(&series.labels).or_default().add(&series.totals());
        }
        if sums.is_empty() {
            return Ok(());
        }
        let opened = |totals: &Totals| vec![(ResponseFlag::None, totals.opened)];
        let closed = |totals: &Totals| totals.closed().collect();
        let received = |totals: &Totals| vec![(ResponseFlag::None, totals.received)];
        let sent = |totals: &Totals| vec![(ResponseFlag::None, totals.sent)];
        let failed = |totals: &Totals| totals.closed().filter(|(flag, _)| flag.is_failure()).collect();
        let families: [Family<'_>; 5] = [
            ("istio_tcp_connections_opened", "TCP connections opened.", &opened),
            ("istio_tcp_connections_closed", "TCP connections closed.", &closed),
            ("istio_tcp_received_bytes", "Bytes sent by clients.", &received),
            ("istio_tcp_sent_bytes", "Bytes sent by servers.", &sent),
            ("istio_tcp_connections_failed", "TCP connections closed because something failed.", &failed),
        ];
        for (name, help, samples) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, totals) in &sums {
                for (flag, count) in samples(totals) {
                    let labels = labels.with_flag(flag);
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Name, help and what of the totals is shown under which flag.
type Family<'a> = (&'a str, &'a str, &'a dyn Fn(&Totals) -> Vec<(ResponseFlag, u64)>);

/// `istio_tcp_sockets_open`.
#[derive(Debug)]
pub(super) struct SocketMetrics(pub(super) Arc<Shards>);

impl Collector for SocketMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Accepted TCP sockets that are open.";
        let mut family =
            encoder.encode_descriptor("istio_tcp_sockets_open", help, None, MetricType::Gauge)?;
        for direction in [Direction::Inbound, Direction::Outbound] {
            let open: i64 = self.0.iter().map(|shard| shard.sockets(direction)).sum();
            let labels = Label("reporter", reporter(direction));
            ConstGauge::new(open).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// `istio_build`.
#[derive(Debug)]
pub(super) struct BuildMetrics {
    labels: [(&'static str, String); 2],
}

impl BuildMetrics {
    pub(super) fn new(component: &str, version: &str) -> Self {
        Self { labels: [("component", component.to_owned()), ("tag", version.to_owned())] }
    }
}

impl Collector for BuildMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What runs here, and its version.";
        let mut family = encoder.encode_descriptor("istio_build", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&self.labels)?)
    }
}

/// Our own counters.
#[derive(Debug)]
pub(super) struct EventMetrics(pub(super) Arc<Shards>);

impl Collector for EventMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let plain: [(&str, &str, Read<'_>); 7] = [
            ("mesh_dry_run_denials", "Connections a policy in dry-run mode would have denied.", &|events| {
                events.dry_run_denials.load(Ordering::Relaxed)
            }),
            ("mesh_folded_sources", "New self-descriptions of peers past the limit.", &|events| {
                events.folded_sources.load(Ordering::Relaxed)
            }),
            (
                "mesh_local_config_applied",
                "Changes of the local configuration that took effect.",
                &|events| events.local_config_applied.load(Ordering::Relaxed),
            ),
            (
                "mesh_local_config_rejected",
                "Changes of the local configuration that were refused.",
                &|events| events.local_config_rejected.load(Ordering::Relaxed),
            ),
            ("mesh_missing_policy_denials", "Connections denied for want of a listed policy.", &|events| {
                events.missing_policies.load(Ordering::Relaxed)
            }),
            ("mesh_own_certificate_revocations", "Certificates of ours found revoked.", &|events| {
                events.own_certificates_revoked.load(Ordering::Relaxed)
            }),
            (
                "mesh_source_address_not_preserved",
                "Connections made from an address of the proxy.",
                &|events| events.sources_not_preserved.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, read) in plain {
            let counter = ConstCounter::new(self.sum(read));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let per_reporter: [(&str, &str, ReadFor<'_>); 2] = [
            ("mesh_accept_failures", "Connections a listener could not take.", &|events, direction| {
                per_direction(&events.accept_failures, direction).load(Ordering::Relaxed)
            }),
            (
                "mesh_early_denials",
                "Connections that ended before their ends were known.",
                &|events, direction| per_direction(&events.early_denials, direction).load(Ordering::Relaxed),
            ),
        ];
        for (name, help, read) in per_reporter {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for direction in [Direction::Inbound, Direction::Outbound] {
                let labels = Label("reporter", reporter(direction));
                let counter = ConstCounter::new(self.sum(&|events| read(events, direction)));
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        let name = "mesh_hbone_connection_failures";
        let help = "HBONE connections of peers that ended other than in good order.";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for failure in HboneFailure::ALL {
            let count = |events: &EventCounters| {
                events.hbone_failures(failure).map_or(0, |counter| counter.load(Ordering::Relaxed))
            };
            let counter = ConstCounter::new(self.sum(&count));
            counter.encode(family.encode_family(&Label("kind", failure.as_str()))?)?;
        }
        Ok(())
    }
}

impl EventMetrics {
    fn sum(&self, read: Read<'_>) -> u64 {
        self.0.iter().map(|shard| read(&shard.events)).sum()
    }
}

type Read<'a> = &'a dyn Fn(&EventCounters) -> u64;
type ReadFor<'a> = &'a dyn Fn(&EventCounters, Direction) -> u64;

/// A counter kept by others.
pub(super) struct CustomCounter {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl CustomCounter {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { name, help, read: Box::new(read) }
    }
}

impl Collector for CustomCounter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counter = ConstCounter::new((self.read)());
        counter.encode(encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?)
    }
}

impl fmt::Debug for CustomCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomCounter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A single label.
#[derive(Debug)]
struct Label(&'static str, &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        write_label(encoder, self.0, self.1)
    }
}
