use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use mesh_identity::{ConfigError, IdentitySource, TlsConfigs, TlsSettings};
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    baggage::LocalBaggage,
    connections::Connections,
    context::WorkerContext,
    drain::DrainHandle,
    outbound,
    runtime::{self, Balance, Capture, Worker},
    settings::{ListenAddresses, Settings},
    socket::{self, ListenError, OriginalSource, SocketOptions},
    state::{StateStore, WorkloadKey},
    telemetry::{NoopObserver, Observer},
    tls::{Peers, TlsContexts},
};

/// A node proxy in front of one workload: listeners bound, nothing accepted yet.
///
/// Build it with [`Proxy::builder`], take a [`DrainHandle`] if it shall ever stop, then [`run`](Self::run) it.
#[derive(Debug)]
#[must_use = "a proxy does nothing until it runs"]
pub struct Proxy {
    workers: Vec<Worker>,
    drain: DrainHandle,
    listening: ListenAddresses,
}

impl Proxy {
    /// Starts the choice of what a proxy works with.
    pub fn builder(
        workload: WorkloadKey,
        state: Arc<StateStore>,
        identities: Arc<dyn IdentitySource>,
        provider: &CryptoProvider,
    ) -> ProxyBuilder {
        ProxyBuilder {
            workload,
            state,
            identities,
            provider: provider.clone(),
            settings: Settings::default(),
            observer: Arc::new(NoopObserver),
            tls: TlsSettings::default(),
        }
    }

    /// Ends the proxy, from anywhere.
    pub fn drain_handle(&self) -> DrainHandle {
        self.drain.clone()
    }

    /// Where the proxy listens, with the ports the system chose for those asked for as 0.
    pub fn listening(&self) -> ListenAddresses {
        self.listening
    }

    /// Serves connections on the worker threads until it is drained.
    ///
    /// # Errors
    ///
    /// If a worker thread cannot be started; as soon as one ends by a panic, while the others drain.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drains the proxy in the background, within the configured deadline.
    pub async fn run(self) -> Result<(), RunError> {
        let _drain_when_dropped = DrainOnDrop(self.drain);
        // One message a worker, and no more.
        let (ended, mut workers) = mpsc::unbounded_channel();
        for worker in self.workers {
            runtime::spawn(worker, ended.clone()).map_err(RunError::Spawn)?;
        }
        drop(ended);
        while let Some(how) = workers.recv().await {
            how.map_err(|_panicked| RunError::Panic)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct DrainOnDrop(DrainHandle);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// Collects what a [`Proxy`] works with.
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ProxyBuilder {
    workload: WorkloadKey,
    state: Arc<StateStore>,
    identities: Arc<dyn IdentitySource>,
    provider: CryptoProvider,
    settings: Settings,
    observer: Arc<dyn Observer>,
    tls: TlsSettings,
}

impl ProxyBuilder {
    /// Sets how the proxy listens, dials and waits.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets who sees what the proxy does. Default: nobody.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Sets how connections are made secure, beyond who they are between. Default: TLS 1.3 only, no revocation lists.
    ///
    /// Revocation lists are asked in each handshake, and about open connections within two seconds after they change.
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.tls = tls;
        self
    }

    /// Binds the listeners.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, or source addresses must be preserved and cannot.
    pub fn build(self) -> Result<Proxy, BuildError> {
        let settings = Arc::new(self.settings);
        if let Err(source) = settings.sockets.check() {
            let mark = settings.sockets.packet_mark().unwrap_or_default();
            return Err(BuildError::PacketMark { mark, source });
        }
        let mut listeners = Listeners::new(&settings);
        let listening = listeners.bind_all(settings.listen)?;
        let drain = DrainHandle::new(settings.drain_deadline);
        let (balance, queues) = Balance::new(settings.workers.get(), settings.max_connections_per_worker);
        let source_lost = Arc::default();
        let mut workers = Vec::with_capacity(queues.len());
        for (index, (handoffs, listeners_of_worker)) in queues.into_iter().zip(listeners.shares).enumerate() {
            // Each worker has configurations of its own, so that no lock is shared.
            let identities = Arc::clone(&self.identities);
            let configs = TlsConfigs::with_settings(identities, &self.provider, self.tls.clone())?;
            let peers = Peers::new(configs.clone(), self.provider.clone(), settings.max_connection_age);
            let tls = TlsContexts::new(configs, peers, settings.handshake_timeout);
            let context = WorkerContext {
                index,
                pool: outbound::pool(&settings, &tls),
                settings: Arc::clone(&settings),
                local: self.workload.clone(),
                state: Arc::clone(&self.state),
                observer: Arc::clone(&self.observer),
                drain: drain.watch(),
                balance: balance.clone(),
                ports: listening.ports(),
                transparent: listeners.transparent,
                source_lost: Arc::clone(&source_lost),
                tls,
                connections: Connections::default(),
                cut: watch::Sender::new(false),
                baggage: LocalBaggage::default(),
                capacity: balance.capacity(index),
                handshakes: Semaphore::new(settings.handshakes()),
                tunnels: Semaphore::new(settings.max_tunnels_per_worker),
            };
            workers.push(Worker { context: Arc::new(context), listeners: listeners_of_worker, handoffs });
        }
        Ok(Proxy { workers, drain, listening })
    }
}

/// The listeners of all workers: one of each kind for each.
#[derive(Debug)]
struct Listeners {
    shares: Vec<Vec<(Capture, TcpListener)>>,
    original_source: OriginalSource,
    options: SocketOptions,
    transparent: bool,
}

impl Listeners {
    fn new(settings: &Settings) -> Self {
        let original_source = settings.original_source;
        Self {
            shares: (0..settings.workers.get()).map(|_| Vec::new()).collect(),
            original_source,
            options: settings.sockets,
            transparent: original_source != OriginalSource::Off,
        }
    }

    fn bind_all(&mut self, wanted: ListenAddresses) -> Result<ListenAddresses, BuildError> {
        Ok(ListenAddresses {
            outbound: self.bind(Capture::Outbound, wanted.outbound)?,
            inbound_plaintext: self.bind(Capture::InboundPlaintext, wanted.inbound_plaintext)?,
            inbound_hbone: self.bind(Capture::InboundHbone, wanted.inbound_hbone)?,
            socks5: self.bind(Capture::Socks5, wanted.socks5)?,
        })
    }

    fn bind(
        &mut self,
        capture: Capture,
        address: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, BuildError> {
        let Some(mut address) = address else { return Ok(None) };
        if address.port() != 0 {
            socket::ensure_free(address)?;
        }
        for share in &mut self.shares {
            let bound = socket::bind(address, self.original_source, &self.options)?;
            // Where the system chose a port, the other workers share it.
            address = bound.listener.local_addr().map_err(|source| ListenError::Bind { address, source })?;
            self.transparent &= bound.transparent;
            share.push((capture, bound.listener));
        }
        Ok(Some(address))
    }
}

/// Why a proxy could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The cryptography provider lacks what a mesh connection needs.
    #[error(transparent)]
    Crypto(#[from] ConfigError),
    /// A listener could not be set up.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Sockets cannot carry the packet mark, by which capture rules recognise the proxy's own traffic.
    #[error("cannot set the packet mark {mark}: SO_MARK needs CAP_NET_ADMIN or CAP_NET_RAW")]
    PacketMark {
        /// The mark asked for.
        mark: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why a proxy stopped before it was drained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A worker panicked; this is a bug.
    #[error("a worker thread panicked")]
    Panic,
    /// A worker thread or its runtime could not be started.
    #[error("cannot start a worker thread")]
    Spawn(#[source] io::Error),
}
