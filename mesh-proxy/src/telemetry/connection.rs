use std::{
    fmt::{self, Display},
    net::SocketAddr,
    sync::Arc,
};

use hbone::{Baggage, Destination, TraceParent};
use mesh_identity::SpiffeId;

use super::{ConnectionObserver, Observer, ResetBy, ResponseFlag};
use crate::state::{Service, Workload};

/// What is reported for a connection that ends without a result, which happens when a drain passes its deadline.
pub const DRAIN_TEXT: &str = "connection closed due to connection drain";

/// Which way a connection goes, seen from the local workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the local workload.
    Inbound,
    /// From the local workload.
    Outbound,
}

impl Direction {
    /// The word used in the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What carries a connection between proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// A tunnel over mutual TLS.
    Hbone,
    /// Plain TCP.
    Tcp,
}

/// Everything known about a connection when it opens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionMeta {
    /// Which way it goes.
    pub direction: Direction,
    /// What carries it to or from the other proxy.
    pub transport: Transport,
    /// The client's address.
    pub source: SocketAddr,
    /// The client, where it is known by address or is local.
    pub source_workload: Option<Arc<Workload>>,
    /// Who the client proved to be, or whose certificate we showed for it.
    pub source_identity: Option<SpiffeId>,
    /// What the peer says about the client: unverified, used for labels only and only where
    /// [`source_workload`](Self::source_workload) is absent.
    pub source_baggage: Option<Baggage>,
    /// The address dialled (outbound), the local address of the tunnel's connection (inbound HBONE), or the original
    /// destination (plaintext).
    pub destination: SocketAddr,
    /// The destination named in CONNECT.
    pub hbone_destination: Option<Destination>,
    /// The workload connected to, a waypoint where one is in the path.
    pub destination_workload: Option<Arc<Workload>>,
    /// The service the client meant.
    pub destination_service: Option<Arc<Service>>,
    /// Who the server proved to be, or whose certificate we showed for it; for the access log.
    pub destination_identity: Option<SpiffeId>,
    /// The trace this connection is part of.
    pub trace: Option<TraceParent>,
}

impl ConnectionMeta {
    /// Describes a connection of which only the addresses are known.
    pub fn new(
        direction: Direction,
        transport: Transport,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        Self {
            direction,
            transport,
            source,
            source_workload: None,
            source_identity: None,
            source_baggage: None,
            destination,
            hbone_destination: None,
            destination_workload: None,
            destination_service: None,
            destination_identity: None,
            trace: None,
        }
    }
}

/// Reports one connection to an [`Observer`], and its end exactly once.
///
/// Dropping the record without [`close`](Self::close) reports [`DRAIN_TEXT`] with no flag, since only a drain that
/// passes its deadline ends a connection without a result.
#[must_use = "dropping the record reports the connection as drained"]
pub struct ConnectionRecord {
    observer: Option<Box<dyn ConnectionObserver>>,
}

impl ConnectionRecord {
    /// Reports a connection as open.
    pub fn open(observer: &dyn Observer, meta: ConnectionMeta) -> Self {
        Self { observer: Some(observer.connection_opened(meta)) }
    }

    /// Counts bytes that went from the client towards the server.
    pub fn received(&self, bytes: u64) {
        if let Some(observer) = &self.observer {
            observer.received(bytes);
        }
    }

    /// Counts bytes that went from the server towards the client.
    pub fn sent(&self, bytes: u64) {
        if let Some(observer) = &self.observer {
            observer.sent(bytes);
        }
    }

    /// Reports that an end reset the connection; call it before [`close`](Self::close).
    pub fn reset(&self, by: ResetBy) {
        if let Some(observer) = &self.observer {
            observer.reset(by);
        }
    }

    /// Reports the end of the connection; `error` is the text for operators where something went wrong.
    pub fn close(mut self, flag: ResponseFlag, error: Option<&dyn Display>) {
        if let Some(observer) = self.observer.take() {
            observer.closed(flag, error);
        }
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.take() {
            observer.closed(ResponseFlag::None, Some(&DRAIN_TEXT));
        }
    }
}

impl fmt::Debug for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRecord").finish_non_exhaustive()
    }
}

/// Reports an accepted socket as open for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the record reports the socket as closed"]
pub struct SocketRecord {
    observer: Arc<dyn Observer>,
    direction: Direction,
}

impl SocketRecord {
    /// Reports a socket as open.
    pub fn open(observer: Arc<dyn Observer>, direction: Direction) -> Self {
        observer.socket_opened(direction);
        Self { observer, direction }
    }
}

impl Drop for SocketRecord {
    fn drop(&mut self) {
        self.observer.socket_closed(self.direction);
    }
}
