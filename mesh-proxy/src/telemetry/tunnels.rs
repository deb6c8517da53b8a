use std::fmt;

use hbone::{Budget, server::Refusals};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// What all tunnels of the process hold, and what was refused without a connection record.
#[derive(Debug)]
pub(super) struct TunnelMetrics {
    pub(super) budget: Budget,
    pub(super) refusals: Refusals,
}

impl Collector for TunnelMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauges = [
            ("mesh_hbone_unread_bytes", "Bytes held in tunnels that nobody has read.", self.budget.held()),
            ("mesh_hbone_unread_bytes_limit", "How many of them are allowed.", self.budget.limit()),
        ];
        for (name, help, bytes) in gauges {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let counters = [
            (
                "mesh_hbone_over_budget",
                "Tunnels refused, either way, while unread bytes were at their limit.",
                self.budget.refused(),
            ),
            (
                "mesh_hbone_refused_requests",
                "Requests of peers refused before they came to a decision.",
                self.refusals.count(),
            ),
        ];
        for (name, help, count) in counters {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
