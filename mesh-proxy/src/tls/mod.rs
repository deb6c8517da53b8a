//! TLS over tokio with the configurations of [`mesh_identity`]: whose certificate, which peer, within which time.

mod peers;
mod read_ahead;

use std::{future::Future, io, sync::Arc, time::Duration};

use mesh_identity::{ExpectedPeer, PeerIdentity, Role, SpiffeId, TlsConfigs};
use rustls::{ClientConfig, CommonState};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub(crate) use self::peers::Peers;
use self::read_ahead::ReadAhead;
use crate::{context::WorkerContext, error::ConnectionError};

/// A TLS connection that we accepted.
pub(crate) type ServerStream = server::TlsStream<ReadAhead>;
/// A TLS connection that we opened.
pub(crate) type ClientStream = client::TlsStream<ReadAhead>;

/// Records on their way to the socket, per connection. It must hold a whole DATA frame: rustls' default is one frame's
/// payload without its header, which would put the last nine bytes of each into a record and a system call of their own.
const SEND_BUFFER: usize = 128 * 1024;

/// A worker's TLS configurations: made once per identity and peer, looked up per connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsContexts {
    configs: TlsConfigs,
    peers: Peers,
    handshake_timeout: Duration,
}

impl TlsContexts {
    pub(crate) fn new(configs: TlsConfigs, peers: Peers, handshake_timeout: Duration) -> Self {
        Self { configs, peers, handshake_timeout }
    }

    /// Takes a TLS connection as `identity` from a peer that `expected` admits, and says who the peer proved to be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn accept(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        stream: TcpStream,
    ) -> Result<(ServerStream, SpiffeId), ConnectionError> {
        let config = self.configs.server(identity, expected).await.map_err(ConnectionError::identity)?;
        let mut stream = self.bounded(TlsAcceptor::from(config).accept(ReadAhead::new(stream))).await?;
        let (socket, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(SEND_BUFFER));
        let peer = self.watch_over(socket, connection, Role::Client)?;
        Ok((stream, peer.into_id()))
    }

    /// The configuration for connections as `identity` to `expected` peers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn client(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<ClientConfig>, ConnectionError> {
        self.configs.client(identity, expected).await.map_err(ConnectionError::identity)
    }

    /// Opens a TLS connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn connect(
        &self,
        config: Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<ClientStream, ConnectionError> {
        let handshake =
            TlsConnector::from(config).connect(mesh_identity::server_name(), ReadAhead::new(stream));
        let mut stream = self.bounded(handshake).await?;
        let (socket, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(SEND_BUFFER));
        self.watch_over(socket, connection, Role::Server)?;
        Ok(stream)
    }

    /// Has the connection end when its peer, in this role, is no longer trusted. Says who the peer is.
    fn watch_over(
        &self,
        socket: &mut ReadAhead,
        connection: &CommonState,
        role: Role,
    ) -> Result<PeerIdentity, ConnectionError> {
        let peer = PeerIdentity::from_connection(connection).map_err(ConnectionError::identity)?;
        let chain = connection.peer_certificates().unwrap_or_default();
        socket.end_with(self.peers.register(&peer, chain, role));
        Ok(peer)
    }

    async fn bounded<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(done) => done.map_err(ConnectionError::tls),
            Err(_elapsed) => {
                Err(ConnectionError::Stalled { step: "tls handshake", limit: self.handshake_timeout })
            }
        }
    }
}

/// Looks at a worker's open connections again when roots have changed, for as long as the worker lives.
pub(crate) async fn recheck_peers(context: Arc<WorkerContext>) {
    let mut ticks = tokio::time::interval(RECHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let bundles = context.tls.configs.identities().bundles();
        context.tls.peers.recheck(bundles).await;
    }
}

/// How soon a withdrawn root ends connections.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
impl TlsContexts {
    /// Contexts for identities of a throwaway authority.
    pub(crate) fn for_tests(identities: Arc<dyn mesh_identity::IdentitySource>) -> Self {
        Self::with(identities, None, None)
    }

    fn with(
        identities: Arc<dyn mesh_identity::IdentitySource>,
        revocation: Option<mesh_identity::Revocation>,
        max_age: Option<Duration>,
    ) -> Self {
        let provider = mesh_identity::testing::provider();
        let peers = Peers::new(provider.as_ref().clone(), identities.bundles(), revocation, max_age);
        let configs = TlsConfigs::new(identities, &provider).expect("a complete provider");
        Self::new(configs, peers, Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use mesh_identity::{
        IdentitySource, IdentityStore, Revocation, RevocationPolicy, TrustBundles, VerifyError, X509Svid,
        testing::Authority,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::error::Report;

    const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
    const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

    struct Pair {
        store: IdentityStore,
        tls: TlsContexts,
        server: ServerStream,
        client: ClientStream,
    }

    async fn pair(authority: &Authority, max_age: Option<Duration>) -> Pair {
        pair_with(authority, None, max_age).await
    }

    async fn pair_with(
        authority: &Authority,
        revocation: Option<Revocation>,
        max_age: Option<Duration>,
    ) -> Pair {
        let store = authority.store([CART]);
        let tls = TlsContexts::with(Arc::new(store.clone()), revocation, max_age);
        let cart: SpiffeId = CART.parse().unwrap();
        let expected = ExpectedPeer::exact([cart.clone()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls.client(&cart, &expected).await.unwrap();
        let accept =
            async { tls.accept(&cart, &expected, listener.accept().await.unwrap().0).await.unwrap() };
        let connect =
            async { tls.connect(config, TcpStream::connect(address).await.unwrap()).await.unwrap() };
        let ((server, _), client) = tokio::join!(accept, connect);
        Pair { store, tls, server, client }
    }

    impl Pair {
        /// Bytes pass both ways.
        async fn is_open(&mut self) -> bool {
            let (mut there, mut back) = ([0; 1], [0; 1]);
            let sent = self.client.write_all(b"x").await.is_ok() && self.client.flush().await.is_ok();
            sent && self.server.read_exact(&mut there).await.is_ok()
                && self.server.write_all(&there).await.is_ok()
                && self.server.flush().await.is_ok()
                && self.client.read_exact(&mut back).await.is_ok()
        }
    }

    // identity#66, identity#68
    #[tokio::test]
    async fn a_renewal_and_a_new_root_end_nothing() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let mut pair = pair(&authority, None).await;
        pair.store.insert(authority.svid(CART));
        pair.tls.peers.recheck(pair.store.bundles()).await;
        assert!(pair.is_open().await);
        pair.store.replace([next.svid(CART)], TrustBundles::new([authority.bundle(), next.bundle()]));
        pair.tls.peers.recheck(pair.store.bundles()).await;
        assert!(pair.is_open().await);
    }

    // identity#67, identity#68
    #[tokio::test]
    async fn the_withdrawal_of_its_root_ends_a_connection_on_both_sides() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let Pair { store, tls, mut server, mut client } = pair(&authority, None).await;
        // Whoever waits for bytes at that moment is woken.
        let waiting = tokio::spawn(async move {
            let ended = client.read(&mut [0; 1]).await.unwrap_err();
            (ended, client)
        });
        tokio::task::yield_now().await;
        store.replace([next.svid(CART)], next.bundles());
        tls.peers.recheck(store.bundles()).await;
        let (ended, client) = waiting.await.unwrap();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        let ended = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(tls.peers.len(), 2);
        drop((server, client));
        assert_eq!(tls.peers.len(), 0);
    }

    // identity#70, identity#72
    #[tokio::test]
    async fn a_revocation_ends_the_connections_of_whom_it_names_and_no_others() {
        let authority = Authority::new("example.org");
        let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
        let mut pair = pair_with(&authority, Some(revocation.clone()), None).await;
        let list = |svid: &X509Svid| authority.revocation_list().revoke(&svid.chain()[0]).pem();
        revocation.load(list(&authority.svid(CART)).as_bytes()).unwrap();
        pair.tls.peers.recheck(pair.store.bundles()).await;
        assert!(pair.is_open().await);
        let cart = pair.store.try_svid(&CART.parse().unwrap()).unwrap();
        revocation.load(list(&cart).as_bytes()).unwrap();
        pair.tls.peers.recheck(pair.store.bundles()).await;
        assert!(!pair.is_open().await);
    }

    // identity#75
    #[tokio::test]
    async fn a_handshake_that_a_change_of_roots_overtook_is_judged_by_the_new_ones() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let mut pair = pair(&authority, None).await;
        // The change was seen before the connection was registered, as if its handshake had begun long before.
        let bundles = Arc::new(next.bundles());
        pair.tls.peers.recheck(Arc::clone(&bundles)).await;
        let guard = {
            let (_, connection) = pair.server.get_ref();
            let peer = PeerIdentity::from_connection(connection).unwrap();
            pair.tls.peers.register(&peer, connection.peer_certificates().unwrap(), Role::Client)
        };
        assert!(guard.lost().is_none());
        pair.tls.peers.recheck(bundles).await;
        assert!(guard.lost().is_some());
        assert!(!pair.is_open().await);
    }

    // identity#68
    #[tokio::test]
    async fn a_connection_ends_at_the_configured_age() {
        let authority = Authority::new("example.org");
        let mut young = pair(&authority, Some(Duration::from_secs(3600))).await;
        young.tls.peers.recheck(young.store.bundles()).await;
        assert!(young.is_open().await);
        let mut old = pair(&authority, Some(Duration::ZERO)).await;
        old.tls.peers.recheck(old.store.bundles()).await;
        assert!(!old.is_open().await);
    }

    #[tokio::test]
    async fn a_report_of_a_refused_peer_names_both_sides() {
        let tls = TlsContexts::for_tests(Arc::new(Authority::new("example.org").store([CART, WEB])));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (cart, web): (SpiffeId, SpiffeId) = (CART.parse().unwrap(), WEB.parse().unwrap());
        let only_web = ExpectedPeer::exact([web.clone()]);
        let config = tls.client(&cart, &only_web).await.unwrap();
        let (_, served) =
            tokio::join!(tls.connect(config, near.unwrap()), tls.accept(&web, &only_web, far.unwrap().0),);
        let refused = VerifyError::Unexpected { expected: only_web, presented: cart };
        let text = Report(&served.unwrap_err()).to_string();
        assert_eq!(text, format!("tls handshake failed: {refused}"));
    }
}
