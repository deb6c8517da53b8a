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
                each(requests, |request| request.answered && request.application.is_some()),
            ),
            ("without the mesh the secret can be read on the way", bare.marker_seen),
            ("with the mesh it cannot: there is nothing but TLS", !watched.marker_seen && watched.only_tls),
            (
                "both proxies proved the identity of their pod",
                each(pods, |pod| pod.proved_identity.as_ref() == Some(&pod.expected_identity)),
            ),
            (
                "connections were allowed and denied as the policies say",
                each(decisions, |decision| decision.allowed == decision.expected)
                    && decisions.iter().any(|decision| decision.expected)
                    && decisions.iter().any(|decision| !decision.expected),
            ),
            (
                "the metrics count what was allowed and what was denied",
                counted("istio_tcp_connections_opened_total")
                    && counted("istio_tcp_connections_failed_total"),
            ),
        ];
        if matches!(mode, Mode::Namespaces { .. }) {
            let preserved = each(requests, Request::is_source_preserved);
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
        each(&self.checks, |check| check.holds)
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

/// Whether something was seen, and everything that was seen is so.
fn each<T>(seen: &[T], is_so: impl Fn(&T) -> bool) -> bool {
    !seen.is_empty() && seen.iter().all(is_so)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(marker_seen: bool) -> WireRow {
        WireRow {
            marker_seen,
            ports: BTreeSet::new(),
            bytes: 1,
            tls_hellos: 1,
            tls_protected_records: 1,
            only_tls: !marker_seen,
        }
    }

    fn decision(expected: bool) -> Decision {
        let destination = "192.0.2.7:8080".parse().unwrap();
        Decision { destination, expected, allowed: expected, explanation: Vec::new(), logged: None }
    }

    fn sample(name: &str) -> MetricSample {
        MetricSample { proxy: "server", name: name.to_owned(), labels: BTreeMap::new(), value: 1.0 }
    }

    fn report() -> Report {
        let figures =
            || Figures { round_trips: 1, round_trip_p50_us: 1.0, round_trip_p99_us: 1.0, gbit_per_s: 1.0 };
        let client: IpAddr = "192.0.2.3".parse().unwrap();
        let identity = "spiffe://example.org/ns/shop/sa/cart".to_owned();
        Report {
            mode: Mode::Namespaces { privilege: "none", capture: "nft".to_owned() },
            pods: vec![PodReport {
                name: "cart".to_owned(),
                namespace: "shop".to_owned(),
                addresses: vec![client],
                expected_identity: identity.clone(),
                proved_identity: Some(identity),
            }],
            requests: vec![Request {
                dialled: "192.0.2.7:8080".parse().unwrap(),
                service: None,
                tunnel: None,
                application: Some("192.0.2.7:8080".to_owned()),
                answered: true,
                client,
                source_seen: Some(client),
            }],
            wire: [row(true), row(false)],
            decisions: vec![decision(true), decision(false)],
            access_log: Vec::new(),
            metrics: vec![
                sample("istio_tcp_connections_opened_total"),
                sample("istio_tcp_connections_failed_total"),
            ],
            cost: Cost { without_mesh: figures(), with_mesh: figures() },
            checks: Vec::new(),
        }
    }

    /// How many promises were not kept.
    fn broken(change: impl FnOnce(&mut Report)) -> usize {
        let mut report = report();
        change(&mut report);
        report.judge();
        let broken = report.checks.iter().filter(|check| !check.holds).count();
        assert_eq!(report.is_as_promised(), broken == 0);
        broken
    }

    #[test]
    fn what_was_not_seen_is_no_promise_kept() {
        assert_eq!(broken(|_| {}), 0);
        // They tell of the way, and of the address.
        assert_eq!(broken(|report| report.requests.clear()), 2);
        assert_eq!(broken(|report| report.pods.clear()), 1);
        assert_eq!(broken(|report| report.decisions.clear()), 1);
        assert_eq!(broken(|report| report.decisions.truncate(1)), 1);
        assert_eq!(broken(|report| report.metrics.clear()), 1);
        assert!(!report().is_as_promised(), "nothing was judged");
    }

    #[test]
    fn one_that_is_otherwise_breaks_a_promise() {
        assert_eq!(broken(|report| report.requests[0].source_seen = None), 1);
        assert_eq!(broken(|report| report.requests[0].answered = false), 1);
        assert_eq!(broken(|report| report.pods[0].proved_identity = None), 1);
        assert_eq!(broken(|report| report.decisions[1].allowed = true), 1);
        assert_eq!(broken(|report| report.wire = [row(true), row(true)]), 1);
        assert_eq!(broken(|report| report.wire = [row(false), row(false)]), 1);
    }
}
