use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    baggage::LocalBaggage,
    connections::{Admitted, Connections, InboundFacts},
    drain::DrainWatch,
    error::{ConnectionError, Report},
    outbound::UpstreamPool,
    route::ListenerPorts,
    runtime::{Balance, Capacity},
    settings::Settings,
    state::{NetworkAddress, Snapshot, StateStore, UnknownWorkload, Workload, WorkloadKey},
    telemetry::{Direction, EarlyDenial, Event, Observer},
    tls::TlsContexts,
};

/// Everything a worker serves connections with. The worker owns what changes; the rest is shared and read only.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) index: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) local: WorkloadKey,
    pub(crate) state: Arc<StateStore>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) drain: DrainWatch,
    pub(crate) balance: Balance,
    pub(crate) ports: ListenerPorts,
    /// Whether applications can be dialled from their clients' addresses.
    pub(crate) transparent: bool,
    /// Set once an application was dialled from another address than its client's; shared by all workers.
    pub(crate) source_lost: Arc<AtomicBool>,
    pub(crate) tls: TlsContexts,
    pub(crate) pool: UpstreamPool,
    pub(crate) connections: Connections,
    pub(crate) baggage: LocalBaggage,
    /// Set at the deadline of a drain.
    pub(crate) cut: watch::Sender<bool>,
    /// One permit per downstream connection.
    pub(crate) capacity: Capacity,
    /// One permit per peer that has not proved yet who it is.
    pub(crate) handshakes: Semaphore,
    /// One permit per inbound tunnel.
    pub(crate) tunnels: Semaphore,
}

impl WorkerContext {
    /// The record of the workload this proxy stands in front of, waited for within the configured bound.
    ///
    /// With it comes the snapshot to take all decisions about the connection from.
    pub(crate) async fn local_workload(&self) -> Result<(Arc<Snapshot>, Arc<Workload>), UnknownWorkload> {
        self.state.wait_for_local_workload(&self.local, self.settings.local_workload_wait).await
    }

    /// The workload at a peer's address, for telemetry.
    pub(crate) fn workload_at(&self, snapshot: &Snapshot, ip: IpAddr) -> Option<Arc<Workload>> {
        let address = NetworkAddress::new(Arc::clone(&self.settings.network), ip);
        snapshot.workload_at(&address).cloned()
    }

    /// Registers an inbound connection and asks policy about it.
    pub(crate) async fn admit(&self, facts: InboundFacts) -> Result<Admitted<'_>, ConnectionError> {
        let wait = self.settings.missing_policy_wait;
        self.connections.admit(facts, &self.state, wait, &*self.observer).await.map_err(|denied| {
            if let Some(policy) = &denied.missing {
                self.observer.event(&Event::PolicyMissing { policy });
            }
            ConnectionError::Denied { reason: denied.reason }
        })
    }

    /// Reports a connection that ends before it is known well enough to be counted.
    pub(crate) fn refuse_early(
        &self,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
        error: &(dyn std::error::Error + 'static),
    ) {
        self.observer.connection_refused(&EarlyDenial {
            source,
            destination,
            direction,
            error: &Report(error),
        });
    }

    /// Resolves when what is still open must end: at the deadline of a drain.
    ///
    /// Cancel safe.
    pub(crate) async fn cut(&self) {
        // The sender is part of the context, so the wait ends for no other reason.
        drop(self.cut.subscribe().wait_for(|&cut| cut).await);
    }
}
