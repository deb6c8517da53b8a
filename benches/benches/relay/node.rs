//! Two proxies in this process: the client's on 127.0.1.1, the server's on 127.0.1.2, reached through SOCKS5.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
};

use mesh_identity::{
    IdentitySource,
    testing::{self, Authority},
};
use mesh_policy::MissingPolicy;
use mesh_proxy::{
    BuildError, ListenAddresses, OriginalSource, Proxy, Settings,
    state::{Change, Protocol, StateStore, Workload, WorkloadKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
};

use super::{Ends, connected};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 2);
/// An address that no workload has.
const OUTSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The proxies, which run until this is dropped.
pub(crate) struct Mesh {
    socks5: SocketAddr,
    _runtime: Runtime,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _guard = runtime.enter();
        let authority = Authority::new("example.org");
        let state = Arc::new(StateStore::new(None, MissingPolicy::Deny));
        let workloads = [workload("client", CLIENT), workload("server", SERVER)];
        let workloads = workloads.map(|workload| Change::UpsertWorkload(Arc::new(workload)));
        state.apply(workloads.into_iter().chain([Change::Synced]));
        let (client, server) = loop {
            let client = proxy(&authority, &state, "client", CLIENT, 0).expect("the client's proxy");
            // The client dials the port on which it listens itself; somebody may have it on the other address already.
            let port = client.listening().inbound_hbone.expect("a port").port();
            match proxy(&authority, &state, "server", SERVER, port) {
                Ok(server) => break (client, server),
                Err(BuildError::Listen(_)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let socks5 = client.listening().socks5.expect("a port");
        runtime.spawn(client.run());
        runtime.spawn(server.run());
        drop(_guard);
        Self { socks5, _runtime: runtime }
    }

    /// A connection through both proxies.
    pub(crate) async fn tunnel(&self) -> Ends {
        self.open(SERVER).await
    }

    /// A connection through the client's proxy alone.
    pub(crate) async fn pass_through(&self) -> Ends {
        self.open(OUTSIDE).await
    }

    async fn open(&self, destination: Ipv4Addr) -> Ends {
        let listener = TcpListener::bind((destination, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        connected(connect(self.socks5, destination, port), &listener).await
    }
}

async fn connect(socks5: SocketAddr, destination: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((CLIENT, 0).into())?;
    let mut stream = socket.connect(socks5).await?;
    stream.write_all(&[5, 1, 0]).await?;
    stream.read_exact(&mut [0; 2]).await?;
    stream.write_all(&[&[5, 1, 0, 1], &destination.octets()[..], &port.to_be_bytes()].concat()).await?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await?;
    if reply.starts_with(&[5, 0]) { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

fn proxy(
    authority: &Authority,
    state: &Arc<StateStore>,
    name: &str,
    address: Ipv4Addr,
    hbone_port: u16,
) -> Result<Proxy, BuildError> {
    let at = |port| Some(SocketAddr::from((address, port)));
    let id = format!("spiffe://example.org/ns/shop/sa/{name}");
    let identities: Arc<dyn IdentitySource> = Arc::new(authority.store([id.as_str()]));
    let key = WorkloadKey { name: name.into(), namespace: "shop".into(), service_account: name.into() };
    let settings = Settings::default()
        .workers(NonZeroUsize::MIN)
        .original_source(OriginalSource::Off)
        .listen(ListenAddresses {
            outbound: at(0),
            inbound_plaintext: at(0),
            inbound_hbone: at(hbone_port),
            socks5: at(0),
        });
    Proxy::builder(key, Arc::clone(state), identities, &testing::provider()).settings(settings).build()
}

fn workload(name: &str, address: Ipv4Addr) -> Workload {
    let mut workload =
        Workload::new(format!("c//Pod/shop/{name}"), "example.org", "shop", name).expect("a workload");
    workload.name = name.into();
    workload.protocol = Protocol::Hbone;
    workload.addresses = vec![address.into()];
    workload
}
