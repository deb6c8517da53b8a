use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::story::Story;
use crate::lab::{
    self, Metric, Pod, TlsSummary,
    load::{Bulk, PingPong},
};

/// What the demo has shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) mode: Mode,
    pub(super) pods: Vec<PodReport>,
    pub(super) requests: Vec<Request>,
    pub(super) wire: [WireRow; 2],
    pub(super) decisions: Vec<Decision>,
    pub(super) access_log: Vec<LogLine>,
    pub(super) metrics: Vec<MetricSample>,
    pub(super) cost: Cost,
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Judges what was seen by what the mesh promises.
    pub(super) fn judge(&mut self) {
        let Self { mode, pods, requests, wire: [bare, watched], decisions, metrics, .. } = &*self;
        let counted = |name| metrics.iter().any(|metric| metric.name == name && metric.value > 0.0);
        let mut promises = vec![
            (
                "every request reached the application through a tunnel",
                requests.iter().all(|request| request.answered && request.application.is_some()),
            ),
            ("without the mesh the secret can be read on the way", bare.marker_seen),
            ("with the mesh it cannot: there is nothing but TLS", !watched.marker_seen && watched.only_tls),
            (
                "both proxies proved the identity of their pod",
                pods.iter().all(|pod| pod.proved_identity.as_ref() == Some(&pod.expected_identity)),
            ),
            (
                "connections were allowed and denied as the policies say",
                decisions.iter().all(|decision| decision.allowed == decision.expected),
            ),
            (
                "the metrics count what was allowed and what was denied",
                counted("istio_tcp_connections_opened_total")
                    && counted("istio_tcp_connections_failed_total"),
            ),
        ];
        if matches!(mode, Mode::Namespaces { .. }) {
            let preserved = requests.iter().all(Request::is_source_preserved);
            promises.insert(1, ("the application saw the address of the client", preserved));
        }
        promises.into_iter().for_each(|(promise, holds)| self.promise(promise, holds));
    }

    /// Adds a promise and whether it was kept.
    pub(super) fn promise(&mut self, promise: &'static str, holds: bool) {
        self.checks.push(Check { promise, holds });
    }

    /// Whether everything was as the mesh promises.
    pub(super) fn is_as_promised(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |json| json + "\n")
    }
}

/// Where the demo ran.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Mode {
    /// Two hosts made of network namespaces.
    Namespaces {
        /// What made them possible.
        privilege: &'static str,
        /// The program that loaded the redirection rules.
        capture: String,
    },
    /// One process on loopback addresses.
    OneProcess {
        /// Why.
        because: String,
        /// What would change that.
        remedy: Option<String>,
        /// What cannot be shown so.
        not_shown: &'static str,
    },
}

/// What the proxies have written and counted.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) access_log: Vec<LogLine>,
    pub(super) metrics: Vec<MetricSample>,
    /// The identity that the proxy of the server verified.
    pub(super) client_identity: Option<String>,
    /// The identity that the proxy of the client verified.
    pub(super) server_identity: Option<String>,
}

impl Evidence {
    /// The pods, with the identities they proved.
    pub(super) fn pods(&self, story: &Story) -> Vec<PodReport> {
        [(&story.client, &self.client_identity), (&story.server, &self.server_identity)]
            .map(|(pod, proved)| PodReport::new(pod, proved.clone()))
            .into()
    }
}

/// A pod and the identity it proved to the other.
#[derive(Debug, Serialize)]
pub(super) struct PodReport {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) expected_identity: String,
    pub(super) proved_identity: Option<String>,
}

impl PodReport {
    fn new(pod: &Pod, proved_identity: Option<String>) -> Self {
        Self {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            addresses: pod.addresses.clone(),
            expected_identity: pod.identity(),
            proved_identity,
        }
    }
}

/// One request of the client.
#[derive(Debug, Serialize)]
pub(super) struct Request {
    pub(super) dialled: SocketAddr,
    /// The service that has this address, if it is one.
    pub(super) service: Option<String>,
    /// Where the proxy of the client opened a tunnel to.
    pub(super) tunnel: Option<String>,
    /// Where the tunnel led.
    pub(super) application: Option<String>,
    pub(super) answered: bool,
    pub(super) client: IpAddr,
    /// The address of the client as the application saw it.
    pub(super) source_seen: Option<IpAddr>,
}

impl Request {
    pub(super) fn is_source_preserved(&self) -> bool {
        self.source_seen == Some(self.client)
    }
}

/// What could be read on the way from pod to pod.
#[derive(Debug, Serialize)]
pub(super) struct WireRow {
    pub(super) marker_seen: bool,
    pub(super) ports: BTreeSet<u16>,
    pub(super) bytes: usize,
    pub(super) tls_hellos: usize,
    pub(super) tls_protected_records: usize,
    pub(super) only_tls: bool,
}

impl WireRow {
    /// Judges streams, each direction of a connection on its own.
    pub(super) fn new(ports: BTreeSet<u16>, streams: &[impl AsRef<[u8]>], marker: &str) -> Self {
        let streams = || streams.iter().map(AsRef::as_ref);
        let tls: Vec<_> = streams().map(TlsSummary::read).collect();
        Self {
            marker_seen: streams().any(|stream| lab::contains(stream, marker.as_bytes())),
            ports,
            bytes: streams().map(<[u8]>::len).sum(),
            tls_hellos: tls.iter().map(|tls| tls.handshake).sum(),
            tls_protected_records: tls.iter().map(|tls| tls.application_data).sum(),
            only_tls: !tls.is_empty() && tls.iter().all(TlsSummary::is_tls),
        }
    }
}

/// What became of a connection, and why.
#[derive(Debug, Serialize)]
pub(super) struct Decision {
    pub(super) destination: SocketAddr,
    pub(super) expected: bool,
    pub(super) allowed: bool,
    /// The reason, then its proof.
    pub(super) explanation: Vec<String>,
    /// The error that the proxy of the server logged.
    pub(super) logged: Option<String>,
}

/// A line that a proxy wrote.
#[derive(Debug, Serialize)]
pub(super) struct LogLine {
    pub(super) proxy: &'static str,
    pub(super) line: String,
}

/// A value that a proxy counted.
#[derive(Debug, Serialize)]
pub(super) struct MetricSample {
    pub(super) proxy: &'static str,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl MetricSample {
    pub(super) fn new(proxy: &'static str, metric: Metric) -> Self {
        Self { proxy, name: metric.name, labels: metric.labels.into_iter().collect(), value: metric.value }
    }
}

/// The measurements.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) without_mesh: Figures,
    pub(super) with_mesh: Figures,
}

/// One measurement: small messages one after the other on one connection, then one stream.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) round_trips: usize,
    pub(super) round_trip_p50_us: f64,
    pub(super) round_trip_p99_us: f64,
    pub(super) gbit_per_s: f64,
}

impl Figures {
    /// `None` if nothing came back.
    pub(super) fn new(messages: &PingPong, bulk: &Bulk) -> Option<Self> {
        let micros = |percent| Some(messages.latencies.percentile(percent)?.as_secs_f64() * 1e6);
        Some(Self {
            round_trips: messages.latencies.count(),
            round_trip_p50_us: micros(50)?,
            round_trip_p99_us: micros(99)?,
            gbit_per_s: bulk.gbit_per_s(),
        })
    }
}

/// A promise and whether it was kept.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) promise: &'static str,
    pub(super) holds: bool,
}
