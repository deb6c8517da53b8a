//! Revocation lists and what came of them, for a scrape.

use std::fmt;

use mesh_identity::Revocation;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::gauge_value::{count, unix};

use super::{Direction, labels::reporter};

/// Istio's `crl_*` counters and the `mesh_revocation_*` metrics.
#[derive(Debug)]
pub(super) struct RevocationMetrics(pub(super) Revocation);

impl Collector for RevocationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (status, counts) = (self.0.status(), self.0.counts());
        let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(reporter);
        let counters = [
            (
                "istio_crl_policy_rejections",
                "Peers refused, or cut off later, for a revoked certificate.",
                "reporter",
                [(inbound, counts.refused_clients), (outbound, counts.refused_servers)],
            ),
            (
                "istio_crl_untracked_connections",
                "Connections that cannot be ended by a revocation.",
                "reporter",
                [(inbound, 0), (outbound, 0)],
            ),
            (
                "mesh_revocation_loads",
                "Attempts to read revocation lists, by what came of it.",
                "result",
                [("success", status.loads), ("failure", status.failed_loads)],
            ),
            (
                "mesh_revocation_uncertain_peers",
                "Peers taken though the lists do not settle that they are not revoked.",
                "standing",
                [("stale", counts.stale_allowed), ("unknown", counts.unknown_allowed)],
            ),
        ];
        for (name, help, label, values) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, number) in values {
                ConstCounter::new(number).encode(family.encode_family(&[(label, value)])?)?;
            }
        }
        let gauges = [
            ("mesh_revocation_lists", "Revocation lists in use.", Some(count(status.lists))),
            (
                "mesh_revocation_revoked_certificates",
                "Certificates that the lists name.",
                Some(count(status.revoked_certificates)),
            ),
            (
                "mesh_revocation_next_update_timestamp_seconds",
                "When the first list should be replaced.",
                status.next_update.map(unix),
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}
