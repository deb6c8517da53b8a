//! One event per connection, with the fields and in the order that Istio's tools read.

use std::{fmt::Display, time::Duration};

use mesh_identity::SpiffeId;

use super::{ConnectionMeta, Direction, EarlyDenial, ResetBy, Transport};

/// Writes an event of the access log. Fields cannot differ by level in one call site, so there is one per level.
macro_rules! access {
    ($level:expr, $message:literal, $fields:expr $(, $name:ident = $value:expr)*) => {{
        let Fields { meta, source, destination, service, source_identity, destination_identity } = $fields;
        tracing::event!(
            target: "access",
            $level,
            src.addr = %meta.source,
            src.workload = source.workload,
            src.namespace = source.namespace,
            src.identity = source_identity,
            src.cluster = source.cluster,
            dst.addr = %meta.destination,
            dst.hbone_addr = meta.hbone_destination.as_ref().map(tracing::field::display),
            dst.service = service,
            dst.workload = destination.workload,
            dst.namespace = destination.namespace,
            dst.identity = destination_identity,
            dst.cluster = destination.cluster,
            direction = meta.direction.as_str(),
            $($name = $value,)*
            $message
        )
    }};
}

/// A connection opened.
pub(super) fn opened(meta: &ConnectionMeta) {
    if tracing::enabled!(target: "access", tracing::Level::DEBUG) {
        access!(tracing::Level::DEBUG, "connection opened", Fields::new(meta));
    }
}

/// How a connection ended.
pub(super) struct End {
    /// Bytes from the client.
    pub(super) received: u64,
    /// Bytes from the server.
    pub(super) sent: u64,
    pub(super) duration: Duration,
    pub(super) reset: Option<ResetBy>,
}

/// A connection ended. Who reset it, which Istio does not say, comes behind the fields that its tools know.
pub(super) fn closed(meta: &ConnectionMeta, end: &End, error: Option<&dyn Display>) {
    let &End { received, sent, duration, reset } = end;
    // Here the local workload's view counts, unlike in the metrics.
    let (bytes_sent, bytes_recv) = match meta.direction {
        Direction::Inbound => (sent, received),
        Direction::Outbound => (received, sent),
    };
    match error {
        None if tracing::enabled!(target: "access", tracing::Level::INFO) => {
            let duration = format!("{}ms", duration.as_millis());
            access!(
                tracing::Level::INFO,
                "connection complete",
                Fields::new(meta),
                bytes_sent = bytes_sent,
                bytes_recv = bytes_recv,
                duration = duration.as_str(),
                reset_by = reset.map(ResetBy::as_str)
            );
        }
        Some(error) if tracing::enabled!(target: "access", tracing::Level::ERROR) => {
            let duration = format!("{}ms", duration.as_millis());
            let error = error.to_string();
            access!(
                tracing::Level::ERROR,
                "connection complete",
                Fields::new(meta),
                bytes_sent = bytes_sent,
                bytes_recv = bytes_recv,
                duration = duration.as_str(),
                error = error.as_str()
            );
        }
        _ => {}
    }
}

/// A connection ended before its ends were known.
pub(super) fn refused(denial: &EarlyDenial<'_>) {
    if tracing::enabled!(target: "access", tracing::Level::WARN) {
        let error = denial.error.to_string();
        tracing::event!(
            target: "access",
            tracing::Level::WARN,
            src.addr = %denial.source,
            dst.addr = %denial.destination,
            direction = denial.direction.as_str(),
            error = error.as_str(),
            "connection failed"
        );
    }
}

/// What the log says about a connection, by reference.
struct Fields<'a> {
    meta: &'a ConnectionMeta,
    source: Named<'a>,
    destination: Named<'a>,
    service: Option<&'a str>,
    source_identity: Option<&'a str>,
    destination_identity: Option<&'a str>,
}

#[derive(Default)]
struct Named<'a> {
    workload: Option<&'a str>,
    namespace: Option<&'a str>,
    cluster: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn new(meta: &'a ConnectionMeta) -> Self {
        let proved = meta.transport == Transport::Hbone;
        let destination_identity = meta
            .destination_identity
            .as_ref()
            .or_else(|| meta.destination_workload.as_ref().map(|workload| workload.identity()));
        Self {
            meta,
            source: match (&meta.source_workload, &meta.source_baggage) {
                (Some(workload), _) => Named::workload(workload),
                (None, Some(baggage)) => Named {
                    // A pod's name is not in the baggage; its service says most.
                    workload: baggage.service_name(),
                    namespace: baggage.namespace(),
                    cluster: baggage.cluster(),
                },
                (None, None) => Named::default(),
            },
            destination: meta.destination_workload.as_deref().map(Named::workload).unwrap_or_default(),
            service: meta.destination_service.as_ref().map(|service| &**service.hostname()),
            source_identity: meta.source_identity.as_ref().filter(|_| proved).map(SpiffeId::as_str),
            destination_identity: destination_identity.filter(|_| proved).map(SpiffeId::as_str),
        }
    }
}

impl<'a> Named<'a> {
    fn workload(workload: &'a crate::state::Workload) -> Self {
        let present = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Self {
            workload: present(&workload.name).or_else(|| present(&workload.canonical_name)),
            namespace: present(workload.namespace()),
            cluster: present(&workload.cluster_id),
        }
    }
}
