//! Connections between two made-up workloads, and a reader of metrics.

use std::sync::Arc;

use hbone::Baggage;
use mesh_proxy::{
    state::{Service, ServiceName, Workload},
    telemetry::{ConnectionMeta, Direction, Telemetry, Transport},
};

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    let uid = format!("cluster1//v1/Pod/shop/{name}-1");
    let mut workload = Workload::new(uid, "example.org", "shop", name).unwrap();
    workload.name = format!("{name}-1").into();
    workload.workload_name = name.into();
    workload.canonical_name = name.into();
    workload.canonical_revision = "v1".into();
    workload.cluster_id = "cluster1".into();
    Arc::new(workload)
}

pub(crate) fn service() -> Arc<Service> {
    Arc::new(Service::new(ServiceName::new("shop", "cart.shop.svc.cluster.local"), "cart"))
}

/// A tunnel from `web` to `cart`.
pub(crate) fn tunnel(direction: Direction) -> ConnectionMeta {
    let (source, destination) = ("192.0.2.1:45378".parse().unwrap(), "192.0.2.2:15008".parse().unwrap());
    let (web, cart) = (workload("web"), workload("cart"));
    let mut meta = ConnectionMeta::new(direction, Transport::Hbone, source, destination);
    meta.source_identity = Some(web.identity().clone());
    meta.destination_identity = Some(cart.identity().clone());
    meta.source_workload = Some(web);
    meta.destination_workload = Some(cart);
    meta.destination_service = Some(service());
    meta.hbone_destination = Some("192.0.2.2:8080".parse().unwrap());
    meta
}

pub(crate) fn plaintext(direction: Direction) -> ConnectionMeta {
    ConnectionMeta::new(
        direction,
        Transport::Tcp,
        "192.0.2.1:22670".parse().unwrap(),
        "192.0.2.50:8080".parse().unwrap(),
    )
}

pub(crate) fn baggage(text: &str) -> Baggage {
    Baggage::from_lines([text])
}

/// One line of the exposition, taken apart.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: u64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or_else(|| panic!("no label {name}: {self:?}"), |(_, value)| value)
    }
}

pub(crate) fn samples(telemetry: &Telemetry, metric: &str) -> Vec<Sample> {
    let body = telemetry.encode().unwrap();
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        (name == metric).then(|| Sample { labels: labels.collect(), value: value.parse().unwrap() })
    });
    samples.collect()
}

pub(crate) fn sample(telemetry: &Telemetry, metric: &str) -> Sample {
    let mut samples = samples(telemetry, metric);
    assert_eq!(samples.len(), 1, "{metric}: {samples:?}");
    samples.remove(0)
}

pub(crate) fn total(telemetry: &Telemetry, metric: &str) -> u64 {
    samples(telemetry, metric).iter().map(|sample| sample.value).sum()
}
