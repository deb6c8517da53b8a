use std::sync::Arc;

use hbone::Baggage;
use mesh_identity::SpiffeId;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use super::{ConnectionMeta, Direction, ResponseFlag, Transport};
use crate::state::Workload;

const UNKNOWN: &str = "unknown";
/// No name in Kubernetes is longer; what a peer says may be.
const LONGEST_NAME: usize = 253;
/// What a label value must not contain as it is (OpenMetrics 1.0, label values).
const SPECIAL: [char; 3] = ['\\', '"', '\n'];

/// One label value, ready to be written: known at compile time, or shared with the state it describes.
#[derive(Clone, Debug)]
enum Value {
    Fixed(&'static str),
    Shared(Arc<str>),
}

impl Value {
    fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Shared(text) => text,
        }
    }

    /// Shares a value; an empty one says as little as an absent one.
    fn shared(text: &Arc<str>) -> Self {
        if text.is_empty() || text.contains(SPECIAL) {
            Self::copied(Some(text))
        } else {
            Self::Shared(Arc::clone(text))
        }
    }

    /// Copies a value. Peers choose some of them, and the encoder writes them as they are: so they are escaped here.
    fn copied(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::Fixed(UNKNOWN),
            Some(text) if text.contains(SPECIAL) => {
                Self::Shared(text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into())
            }
            Some(text) => Self::Shared(text.into()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// The labels that describe one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    workload: Value,
    canonical_service: Value,
    canonical_revision: Value,
    namespace: Value,
    principal: Value,
    app: Value,
    cluster: Value,
    /// Region and zone; absent where nothing at all is known of this end.
    locality: Option<(Value, Value)>,
}

impl Peer {
    /// Nothing but the addresses is known of the client of an unnamed peer.
    fn source(meta: &ConnectionMeta, baggage: Option<&Baggage>) -> Self {
        let mut peer = match (&meta.source_workload, baggage) {
            (Some(workload), _) => Self::workload(workload),
            (None, Some(baggage)) => Self::baggage(baggage),
            (None, None) => Self::unknown(),
        };
        // Only what was proved, never what discovery says about an address.
        peer.principal = match meta.transport {
            Transport::Hbone => Value::copied(meta.source_identity.as_ref().map(SpiffeId::as_str)),
            Transport::Tcp => Value::Fixed(UNKNOWN),
        };
        peer
    }

    fn destination(meta: &ConnectionMeta) -> Self {
        match &meta.destination_workload {
            // As the reference does, in plaintext too: who the workload would be if it were asked.
            Some(workload) => {
                let principal = Value::copied(Some(workload.identity().as_str()));
                Self { principal, ..Self::workload(workload) }
            }
            None => {
                let principal = Value::copied(meta.destination_identity.as_ref().map(SpiffeId::as_str));
                Self { principal, ..Self::unknown() }
            }
        }
    }

    fn workload(workload: &Workload) -> Self {
        let canonical_service = Value::shared(&workload.canonical_name);
        Self {
            workload: Value::shared(&workload.workload_name),
            app: canonical_service.clone(),
            canonical_service,
            canonical_revision: Value::shared(&workload.canonical_revision),
            namespace: Value::shared(workload.namespace()),
            principal: Value::Fixed(UNKNOWN),
            cluster: Value::shared(&workload.cluster_id),
            locality: Some((
                Value::shared(&workload.locality.region),
                Value::shared(&workload.locality.zone),
            )),
        }
    }

    fn baggage(baggage: &Baggage) -> Self {
        let said = |text: Option<&str>| Value::copied(text.filter(|text| text.len() <= LONGEST_NAME));
        let workload = said(baggage.workload_name());
        Self {
            // Not the canonical name: that is how the reference labels peers it knows from baggage only.
            app: workload.clone(),
            workload,
            canonical_service: said(baggage.service_name()),
            canonical_revision: said(baggage.service_version()),
            namespace: said(baggage.namespace()),
            principal: Value::Fixed(UNKNOWN),
            cluster: said(baggage.cluster()),
            locality: Some((said(baggage.region()), said(baggage.zone()))),
        }
    }

    fn unknown() -> Self {
        let unknown = Value::Fixed(UNKNOWN);
        Self {
            workload: unknown.clone(),
            canonical_service: unknown.clone(),
            canonical_revision: unknown.clone(),
            namespace: unknown.clone(),
            principal: unknown.clone(),
            app: unknown.clone(),
            cluster: unknown,
            locality: None,
        }
    }
}

/// The labels of Istio's standard TCP metrics, but for `response_flags`, which one series has several of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TrafficLabels {
    reporter: &'static str,
    source: Peer,
    service: [Value; 3],
    destination: Peer,
    security_policy: &'static str,
}

impl TrafficLabels {
    /// The labels of a connection; `baggage` is what its peer says about itself, if that is to count.
    pub(super) fn new(meta: &ConnectionMeta, baggage: Option<&Baggage>) -> Self {
        Self {
            reporter: reporter(meta.direction),
            source: Peer::source(meta, baggage),
            service: match &meta.destination_service {
                Some(service) => [service.hostname(), service.namespace(), &service.name].map(Value::shared),
                None => [(); 3].map(|()| Value::Fixed(UNKNOWN)),
            },
            destination: Peer::destination(meta),
            security_policy: match meta.transport {
                Transport::Hbone => "mutual_tls",
                Transport::Tcp => UNKNOWN,
            },
        }
    }

    /// Completes the labels.
    pub(super) fn with_flag(&self, flag: ResponseFlag) -> FlaggedLabels<'_> {
        FlaggedLabels { labels: self, flag }
    }
}

/// [`TrafficLabels`] with a `response_flags` label among them.
#[derive(Debug)]
pub(super) struct FlaggedLabels<'a> {
    labels: &'a TrafficLabels,
    flag: ResponseFlag,
}

impl EncodeLabelSet for FlaggedLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let TrafficLabels { reporter, source, service: [host, service_namespace, name], destination, .. } =
            self.labels;
        let mut put = |key, value| write_label(encoder, key, value);
        put("reporter", reporter)?;
        put("source_workload", source.workload.as_str())?;
        put("source_canonical_service", source.canonical_service.as_str())?;
        put("source_canonical_revision", source.canonical_revision.as_str())?;
        put("source_workload_namespace", source.namespace.as_str())?;
        put("source_principal", source.principal.as_str())?;
        put("source_app", source.app.as_str())?;
        put("source_version", source.canonical_revision.as_str())?;
        put("source_cluster", source.cluster.as_str())?;
        put("destination_service", host.as_str())?;
        put("destination_service_namespace", service_namespace.as_str())?;
        put("destination_service_name", name.as_str())?;
        put("destination_workload", destination.workload.as_str())?;
        put("destination_canonical_service", destination.canonical_service.as_str())?;
        put("destination_canonical_revision", destination.canonical_revision.as_str())?;
        put("destination_workload_namespace", destination.namespace.as_str())?;
        put("destination_principal", destination.principal.as_str())?;
        put("destination_app", destination.app.as_str())?;
        put("destination_version", destination.canonical_revision.as_str())?;
        put("destination_cluster", destination.cluster.as_str())?;
        put("request_protocol", "tcp")?;
        put("response_flags", self.flag.as_str())?;
        put("connection_security_policy", self.labels.security_policy)?;
        if source.locality.is_none() && destination.locality.is_none() {
            return Ok(());
        }
        for (keys, locality) in [
            (["source_region", "source_zone"], &source.locality),
            (["destination_region", "destination_zone"], &destination.locality),
        ] {
            let (region, zone) =
                locality.as_ref().map_or((UNKNOWN, UNKNOWN), |(r, z)| (r.as_str(), z.as_str()));
            put(keys[0], region)?;
            put(keys[1], zone)?;
        }
        Ok(())
    }
}

/// The value of the `reporter` label for a direction.
pub(super) fn reporter(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "destination",
        Direction::Outbound => "source",
    }
}

pub(super) fn write_label(encoder: &mut LabelSetEncoder<'_>, key: &str, value: &str) -> std::fmt::Result {
    use std::fmt::Write;

    let mut label = encoder.encode_label();
    let mut label = label.encode_label_key()?;
    label.write_str(key)?;
    let mut label = label.encode_label_value()?;
    label.write_str(value)?;
    label.finish()
}
