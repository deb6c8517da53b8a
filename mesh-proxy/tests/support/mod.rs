//! Two nodes in one process: a client's proxy on 127.0.1.1 and a server's on 127.0.1.2, reached through SOCKS5.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::{
    collections::HashMap,
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_identity::{
    CertSelector, ClientConfigBuilder, ExpectedPeer, IdentitySource, IdentityStore, TlsSettings,
    testing::{self, Authority},
};
use mesh_policy::MissingPolicy;
use mesh_proxy::{
    BuildError, DrainHandle, ListenAddresses, OriginalSource, Proxy, RunError, Settings,
    state::{
        Change, NetworkAddress, PortMap, Protocol, Service, ServiceName, StateStore, Workload, WorkloadKey,
    },
    telemetry::{
        ConnectionMeta, ConnectionObserver, Direction, EarlyDenial, Event, Observer, ResetBy, ResponseFlag,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) const CLIENT: &str = "127.0.1.1";
/// A second address of the client workload.
pub(crate) const CLIENT_TOO: &str = "127.0.1.3";
pub(crate) const SERVER: &str = "127.0.1.2";
/// The address of the service that [`Mesh::serve`] adds, and its name.
pub(crate) const VIP: &str = "192.0.2.80";
pub(crate) const HOSTNAME: &str = "server.shop.svc.cluster.local";
pub(crate) const CLIENT_ID: &str = "spiffe://example.org/ns/shop/sa/client";
pub(crate) const SERVER_ID: &str = "spiffe://example.org/ns/shop/sa/server";
/// Longer than anything here takes, so that a failure is not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The mesh's state, its two proxies and what they reported.
pub(crate) struct Mesh {
    pub(crate) authority: Authority,
    pub(crate) state: Arc<StateStore>,
    pub(crate) client: Node,
    pub(crate) server: Node,
}

pub(crate) struct Node {
    pub(crate) identities: IdentityStore,
    pub(crate) listening: ListenAddresses,
    pub(crate) drain: DrainHandle,
    pub(crate) seen: Arc<Recorder>,
    pub(crate) running: JoinHandle<Result<(), RunError>>,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        Self::start_with(|settings| settings)
    }

    /// Starts both proxies, the server's with what `adjust` makes of its settings.
    pub(crate) fn start_with(adjust: impl FnOnce(Settings) -> Settings) -> Self {
        let as_they_are = (settings(), TlsSettings::default());
        Self::start_each(as_they_are.clone(), (adjust(as_they_are.0), as_they_are.1))
    }

    /// Starts both proxies, the client's first.
    pub(crate) fn start_each(client: (Settings, TlsSettings), server: (Settings, TlsSettings)) -> Self {
        let authority = Authority::new("example.org");
        let state = two_workloads();
        loop {
            let client = Parts::build(&authority, &state, "client", CLIENT, 0, client.clone()).unwrap();
            // Proxies accept HBONE where their peers do; somebody may have this port on the other address already.
            let port = client.proxy.listening().inbound_hbone.unwrap().port();
            match Parts::build(&authority, &state, "server", SERVER, port, server.clone()) {
                Ok(server) => return Self { authority, state, client: client.run(), server: server.run() },
                Err(BuildError::Listen(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Asks the client's proxy for a connection, as an application at `source` would; the reply comes with it.
    pub(crate) async fn connect(&self, source: &str, to: SocketAddr) -> (TcpStream, u8) {
        self.client.connect(source, to).await
    }

    /// The client's end of a TLS connection to the server's HBONE port, without a proxy behind it.
    pub(crate) async fn known_peer(&self) -> TlsStream<TcpStream> {
        self.shake_hands().await.unwrap()
    }

    /// What becomes of a TLS handshake with the server's HBONE port.
    pub(crate) async fn shake_hands(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.server.listening.inbound_hbone.unwrap()).await.unwrap();
        self.shake_hands_over(stream).await
    }

    /// The same over a connection to that port.
    pub(crate) async fn shake_hands_over(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = ClientConfigBuilder::new(testing::provider())
            .identity(self.client.identities.clone(), CertSelector::fixed(CLIENT_ID.parse().unwrap()))
            .expect_peer(ExpectedPeer::exact([SERVER_ID.parse().unwrap()]))
            .build()
            .unwrap();
        TlsConnector::from(config).connect(mesh_identity::server_name(), stream).await
    }

    /// Makes the server's workload an endpoint of a service, whose port 80 it serves at `port`.
    pub(crate) fn serve(&self, port: u16) {
        let name = ServiceName::new("shop", HOSTNAME);
        let mut service = Service::new(name.clone(), "server");
        service.vips = vec![NetworkAddress::new("", VIP.parse().unwrap())];
        service.ports = PortMap::from_iter([(80, port)]);
        let mut server = workload("server", &[SERVER]);
        server.services = vec![(name, service.ports.clone())];
        self.state
            .apply([Change::UpsertService(Arc::new(service)), Change::UpsertWorkload(Arc::new(server))]);
    }

    /// The same by the name of a service.
    pub(crate) async fn connect_by_name(&self, name: &str, port: u16) -> (TcpStream, u8) {
        let mut address = vec![u8::try_from(name.len()).unwrap()];
        address.extend(name.bytes());
        self.client.request(CLIENT, 3, &address, port).await
    }

    /// Asks for a connection as an application that does not wait for the reply.
    pub(crate) async fn ask(&self, source: &str, to: SocketAddr) -> TcpStream {
        let SocketAddr::V4(to) = to else { panic!("an IPv4 destination") };
        self.client.send_request(source, 1, &to.ip().octets(), to.port()).await
    }

    /// A connection to an application that accepts it, and the application's end.
    pub(crate) async fn open(&self, application: &TcpListener) -> (TcpStream, TcpStream) {
        let connected = self.connect(CLIENT, application.local_addr().unwrap());
        let ((stream, reply), accepted) = tokio::join!(connected, application.accept());
        assert_eq!(reply, 0);
        (stream, accepted.unwrap().0)
    }
}

impl Node {
    /// A proxy of the client alone; whatever is at the server's address and its own HBONE port is its peer.
    pub(crate) fn client_alone(authority: &Authority, settings: Settings) -> Self {
        let state = two_workloads();
        let settings = (settings, TlsSettings::default());
        Parts::build(authority, &state, "client", CLIENT, 0, settings).unwrap().run()
    }

    /// Asks for a connection as an application at `source` would; the reply comes with it.
    pub(crate) async fn connect(&self, source: &str, to: SocketAddr) -> (TcpStream, u8) {
        let SocketAddr::V4(to) = to else { panic!("an IPv4 destination") };
        self.request(source, 1, &to.ip().octets(), to.port()).await
    }

    async fn request(&self, source: &str, kind: u8, address: &[u8], port: u16) -> (TcpStream, u8) {
        let mut stream = self.send_request(source, kind, address, port).await;
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).await.unwrap();
        (stream, reply[1])
    }

    async fn send_request(&self, source: &str, kind: u8, address: &[u8], port: u16) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        let mut stream = socket.connect(self.listening.socks5.unwrap()).await.unwrap();
        stream.write_all(&[5, 1, 0]).await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [5, 0]);
        let request = [&[5, 1, 0, kind], address, &port.to_be_bytes()].concat();
        stream.write_all(&request).await.unwrap();
        stream
    }
}

fn two_workloads() -> Arc<StateStore> {
    let state = Arc::new(StateStore::new(None, MissingPolicy::Deny));
    let workloads = [workload("client", &[CLIENT, CLIENT_TOO]), workload("server", &[SERVER])];
    let workloads = workloads.map(|workload| Change::UpsertWorkload(Arc::new(workload)));
    state.apply(workloads.into_iter().chain([Change::Synced]));
    state
}

/// A proxy that does not run yet.
struct Parts {
    identities: IdentityStore,
    proxy: Proxy,
    seen: Arc<Recorder>,
}

impl Parts {
    fn build(
        authority: &Authority,
        state: &Arc<StateStore>,
        name: &str,
        ip: &str,
        hbone_port: u16,
        (settings, tls): (Settings, TlsSettings),
    ) -> Result<Self, BuildError> {
        let at = |port| Some(SocketAddr::new(ip.parse().unwrap(), port));
        let seen = Arc::new(Recorder::default());
        let id = format!("spiffe://example.org/ns/shop/sa/{name}");
        let identities = authority.store([id.as_str()]);
        let source: Arc<dyn IdentitySource> = Arc::new(identities.clone());
        let proxy = Proxy::builder(key(name), Arc::clone(state), source, &testing::provider())
            .tls(tls)
            .observer(Arc::clone(&seen) as Arc<dyn Observer>)
            .settings(settings.listen(ListenAddresses {
                outbound: at(0),
                inbound_plaintext: at(0),
                inbound_hbone: at(hbone_port),
                socks5: at(0),
            }))
            .build()?;
        Ok(Self { identities, proxy, seen })
    }

    fn run(self) -> Node {
        let Self { identities, proxy, seen } = self;
        let (listening, drain) = (proxy.listening(), proxy.drain_handle());
        Node { identities, listening, drain, seen, running: tokio::spawn(proxy.run()) }
    }
}

pub(crate) async fn application() -> TcpListener {
    TcpListener::bind((SERVER, 0)).await.unwrap()
}

/// An application so busy that connecting to it takes for ever; what comes with it keeps it so.
pub(crate) async fn silent_application() -> (SocketAddr, impl Sized) {
    silent_application_at(SERVER).await
}

/// The same, at any address.
pub(crate) async fn silent_application_at(address: &str) -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    // One more than asked for fits into the queue of those it has not accepted.
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) = tokio::time::timeout(QUEUED, TcpStream::connect(address)).await {
        queue.push(connected.unwrap());
    }
    (address, (listener, queue))
}

/// Waits until somebody here is connecting to `address` and has no answer yet.
pub(crate) async fn dialled(address: SocketAddr) {
    let SocketAddr::V4(address) = address else { panic!("an IPv4 destination") };
    // As the kernel lists it: the address as a number of this machine, then the port, then SYN_SENT.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let line = format!(" {ip:08X}:{:04X} 02 ", address.port());
    let listed = async {
        while !std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.expect("a connection under way");
}

/// Longer than it takes to get into a queue that has room, shorter than a SYN's repetition.
const QUEUED: Duration = Duration::from_millis(300);

pub(crate) fn settings() -> Settings {
    Settings::default().workers(NonZeroUsize::new(2).unwrap()).original_source(OriginalSource::Off)
}

pub(crate) fn key(name: &str) -> WorkloadKey {
    WorkloadKey { name: name.into(), namespace: "shop".into(), service_account: name.into() }
}

fn workload(name: &str, addresses: &[&str]) -> Workload {
    let mut workload = Workload::new(format!("c//Pod/shop/{name}"), "example.org", "shop", name).unwrap();
    workload.name = name.into();
    workload.protocol = Protocol::Hbone;
    workload.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    workload
}

/// What an observer was told.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Opened(Box<ConnectionMeta>),
    Closed {
        flag: ResponseFlag,
        error: Option<String>,
        received: u64,
        sent: u64,
    },
    Reset(ResetBy),
    Refused {
        direction: Direction,
        error: String,
    },
    /// Of a socket, with how many there are then.
    SocketClosed {
        direction: Direction,
        open: usize,
    },
    Event(String),
}

/// An observer that remembers.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seen: Arc<Log>,
    sockets: Mutex<HashMap<Direction, usize>>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Mutex<Vec<Seen>>,
    changed: watch::Sender<usize>,
}

impl Log {
    fn push(&self, entry: Seen) {
        self.entries.lock().unwrap().push(entry);
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Recorder {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.entries.lock().unwrap().clone()
    }

    /// Waits until something was seen that `find` finds.
    pub(crate) async fn until<T>(&self, find: impl Fn(&Seen) -> Option<T>) -> T {
        let mut changed = self.seen.changed.subscribe();
        let search = async {
            loop {
                if let Some(found) = self.all().iter().find_map(&find) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("not seen, but: {:#?}", self.all()))
    }

    /// Waits for the first connection to be reported as closed.
    pub(crate) async fn closed(&self) -> (ResponseFlag, Option<String>) {
        self.until(|seen| match seen {
            Seen::Closed { flag, error, .. } => Some((*flag, error.clone())),
            _ => None,
        })
        .await
    }

    /// Waits for a connection to be reset.
    pub(crate) async fn reset(&self) -> ResetBy {
        self.until(|seen| match seen {
            Seen::Reset(by) => Some(*by),
            _ => None,
        })
        .await
    }

    /// Waits for the first connection to be refused early.
    pub(crate) async fn refused(&self) -> String {
        self.until(|seen| match seen {
            Seen::Refused { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        self.source_addresses().iter().map(SocketAddr::ip).collect()
    }

    /// Where each connection came from; equal ones came as tunnels on one connection.
    pub(crate) fn source_addresses(&self) -> Vec<SocketAddr> {
        self.all()
            .iter()
            .filter_map(|seen| match seen {
                Seen::Opened(meta) => Some(meta.source),
                _ => None,
            })
            .collect()
    }
}

impl Observer for Recorder {
    fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver> {
        self.seen.push(Seen::Opened(Box::new(meta)));
        Box::new(Following { log: Arc::clone(&self.seen), counts: Mutex::default() })
    }

    fn connection_refused(&self, denial: &EarlyDenial<'_>) {
        self.seen.push(Seen::Refused { direction: denial.direction, error: denial.error.to_string() });
    }

    fn socket_opened(&self, direction: Direction) {
        *self.sockets.lock().unwrap().entry(direction).or_default() += 1;
    }

    fn socket_closed(&self, direction: Direction) {
        let mut sockets = self.sockets.lock().unwrap();
        let open = sockets.entry(direction).or_default();
        *open -= 1;
        self.seen.push(Seen::SocketClosed { direction, open: *open });
    }

    fn event(&self, event: &Event<'_>) {
        self.seen.push(Seen::Event(format!("{event:?}")));
    }
}

struct Following {
    log: Arc<Log>,
    counts: Mutex<(u64, u64)>,
}

impl ConnectionObserver for Following {
    fn received(&self, bytes: u64) {
        self.counts.lock().unwrap().0 += bytes;
    }

    fn sent(&self, bytes: u64) {
        self.counts.lock().unwrap().1 += bytes;
    }

    fn reset(&self, by: ResetBy) {
        self.log.push(Seen::Reset(by));
    }

    fn closed(self: Box<Self>, flag: ResponseFlag, error: Option<&dyn Display>) {
        let (received, sent) = *self.counts.lock().unwrap();
        self.log.push(Seen::Closed { flag, error: error.map(ToString::to_string), received, sent });
    }
}
