//! Certificates and the calls for them, for a scrape.

use std::{fmt, sync::Arc};

use mesh_identity::{IdentitySource, IdentityState, RotationMetrics};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::gauge_value::{count, unix};

/// The `mesh_identity_*` metrics of certificates, wherever they come from.
pub(super) struct CertificateMetrics(
    pub(super) Box<dyn Fn() -> Option<Arc<dyn IdentitySource>> + Send + Sync>,
);

impl Collector for CertificateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(source) = (self.0)() else { return Ok(()) };
        if let Some(statuses) = source.statuses() {
            let in_use = statuses.iter().filter(|status| status.state == IdentityState::Available);
            let svids: Vec<_> = in_use.filter_map(|status| status.svid.as_ref()).collect();
            if let Some(end) = svids.iter().map(|svid| svid.not_after()).min() {
                let (name, help) = (
                    "mesh_identity_certificate_expiry_timestamp_seconds",
                    "When the first of the certificates in use ends.",
                );
                let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(unix(end)).encode(gauge)?;
            }
            let unavailable = statuses.len().saturating_sub(svids.len());
            gauges(
                &mut encoder,
                "mesh_identity_identities",
                "Identities of workloads here, by whether there is a certificate.",
                "state",
                [("available", count(svids.len())), ("unavailable", count(unavailable))],
            )?;
        }
        let bundles = source.bundles();
        gauges(
            &mut encoder,
            "mesh_identity_root_expiry_timestamp_seconds",
            "When the first root of a trust domain ends.",
            "trust_domain",
            bundles
                .iter()
                .filter_map(|bundle| Some((bundle.trust_domain().as_str(), unix(bundle.first_expiry()?)))),
        )
    }
}

/// The `mesh_identity_*` metrics of the calls for certificates.
pub(super) struct RotationCollector(pub(super) Box<dyn Fn() -> Option<RotationMetrics> + Send + Sync>);

impl Collector for RotationCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(metrics) = (self.0)() else { return Ok(()) };
        let single = [
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
        gauges(
            &mut encoder,
            "mesh_identity_calls_queued",
            "Calls to the authority that wait for another to end.",
            "priority",
            [
                ("on_demand", count(queued.on_demand)),
                ("prefetch", count(queued.prefetch)),
                ("renewal", count(queued.renewal)),
            ],
        )?;
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

impl fmt::Debug for CertificateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateMetrics").finish_non_exhaustive()
    }
}

impl fmt::Debug for RotationCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotationCollector").finish_non_exhaustive()
    }
}

/// Writes a gauge of several values, told apart by one label.
fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, number) in values {
        ConstGauge::new(number).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
