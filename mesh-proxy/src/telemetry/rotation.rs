//! Certificates and the calls for them, for a scrape.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_identity::RotationMetrics;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The `mesh_identity_*` metrics.
pub(super) struct IdentityMetrics(pub(super) Box<dyn Fn() -> Option<RotationMetrics> + Send + Sync>);

impl Collector for IdentityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(metrics) = (self.0)() else { return Ok(()) };
        let single = [
            (
                "mesh_identity_certificate_expiry_timestamp_seconds",
                "When the first of the certificates in use ends.",
                metrics.first_expiry.map(unix),
            ),
            (
                "mesh_identity_last_issuance_timestamp_seconds",
                "When the authority last issued a certificate.",
                metrics.last_success.map(unix),
            ),
            (
                "mesh_identity_calls_in_flight",
                "Calls to the authority under way.",
                Some(count(metrics.calls_in_flight)),
            ),
            (
                "mesh_identity_authority_up",
                "Whether the authority answers: 0 after it was not reached several times.",
                Some(i64::from(!metrics.outage)),
            ),
        ];
        for (name, help, value) in single {
            if let Some(value) = value {
                let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)?;
            }
        }
        let queued = &metrics.queued;
        let unavailable = metrics.identities.saturating_sub(metrics.available);
        let labelled = [
            (
                "mesh_identity_calls_queued",
                "Calls to the authority that wait for another to end.",
                "priority",
                vec![
                    ("on_demand", count(queued.on_demand)),
                    ("prefetch", count(queued.prefetch)),
                    ("renewal", count(queued.renewal)),
                ],
            ),
            (
                "mesh_identity_identities",
                "Identities of workloads here, by whether there is a certificate.",
                "state",
                vec![("available", count(metrics.available)), ("unavailable", count(unavailable))],
            ),
            (
                "mesh_identity_root_expiry_timestamp_seconds",
                "When the first root of a trust domain ends.",
                "trust_domain",
                metrics.root_expiry.iter().map(|(domain, end)| (domain.as_str(), unix(*end))).collect(),
            ),
        ];
        for (name, help, label, values) in labelled {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (value, number) in values {
                ConstGauge::new(number).encode(family.encode_family(&[(label, value)])?)?;
            }
        }
        let failed = &metrics.failed;
        let (name, help) = ("mesh_identity_issuances", "Certificates asked for, by what came of it.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (result, number) in [
            ("success", metrics.issued),
            ("answer", failed.answer),
            ("deadline", failed.deadline),
            ("local", failed.local),
            ("refused", failed.refused),
            ("unreachable", failed.unreachable),
        ] {
            ConstCounter::new(number).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for IdentityMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityMetrics").finish_non_exhaustive()
    }
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
