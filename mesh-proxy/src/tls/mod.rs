//! TLS over tokio with the configurations of [`mesh_identity`]: whose certificate, which peer, within which time.

mod lost;
mod own;
mod peers;
mod read_ahead;

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use mesh_identity::{ExpectedPeer, PeerIdentity, Role, SpiffeId, TlsConfigs, TlsEntry, X509Svid};
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub(crate) use self::{lost::Lost, peers::Peers};
use self::{
    own::OwnCertificate,
    peers::{Connected, Judged},
    read_ahead::ReadAhead,
};
use crate::{context::WorkerContext, error::ConnectionError};

/// A TLS connection that we accepted.
pub(crate) type ServerStream = server::TlsStream<ReadAhead>;
/// A TLS connection that we opened.
pub(crate) type ClientStream = client::TlsStream<ReadAhead>;
/// A configuration for accepting, and what it was made of.
pub(crate) type ServerEntry = Arc<TlsEntry<ServerConfig>>;
/// A configuration for connecting, and what it was made of.
pub(crate) type ClientEntry = Arc<TlsEntry<ClientConfig>>;

/// Records on their way to the socket, per connection. It must hold a whole DATA frame: rustls' default is one frame's
/// payload without its header, which would put the last nine bytes of each into a record and a system call of their own.
const SEND_BUFFER: usize = 128 * 1024;

/// A worker's TLS configurations: made once per identity and peer, looked up per connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsContexts {
    configs: TlsConfigs,
    peers: Peers,
    /// For the certificate, and for the handshake.
    handshake_timeout: Duration,
    /// Moves when configurations may have become outdated.
    rotations: watch::Sender<()>,
}

/// A connection that was taken.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: ServerStream,
    /// Who the peer proved to be.
    pub(crate) peer: SpiffeId,
    /// With what.
    pub(crate) entry: ServerEntry,
}

impl TlsContexts {
    pub(crate) fn new(configs: TlsConfigs, peers: Peers, handshake_timeout: Duration) -> Self {
        Self { configs, peers, handshake_timeout, rotations: watch::Sender::new(()) }
    }

    /// Takes a TLS connection as `identity` from a peer that `expected` admits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn accept(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        stream: TcpStream,
    ) -> Result<Accepted, ConnectionError> {
        let lists = self.peers.lists();
        let entry = self.bounded(CERTIFICATE, self.configs.server_entry(identity, expected)).await?;
        let entry = entry.map_err(ConnectionError::identity)?;
        let acceptor = TlsAcceptor::from(Arc::clone(entry.config()));
        let handshake = self.bounded(HANDSHAKE, acceptor.accept(ReadAhead::new(stream))).await?;
        let mut stream = handshake.map_err(ConnectionError::tls)?;
        let (socket, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(SEND_BUFFER));
        let judged = Judged { bundles: Arc::clone(entry.bundles()), lists };
        let peer = self.watch_over(socket, connection, Role::Client, entry.svid(), judged)?;
        Ok(Accepted { stream, peer, entry })
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
    ) -> Result<ClientEntry, ConnectionError> {
        let entry = self.bounded(CERTIFICATE, self.configs.client_entry(identity, expected)).await?;
        entry.map_err(ConnectionError::identity)
    }

    /// Opens a TLS connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn connect(
        &self,
        entry: &TlsEntry<ClientConfig>,
        stream: TcpStream,
    ) -> Result<ClientStream, ConnectionError> {
        let lists = self.peers.lists();
        let connector = TlsConnector::from(Arc::clone(entry.config()));
        let handshake = connector.connect(mesh_identity::server_name(), ReadAhead::new(stream));
        let mut stream = self.bounded(HANDSHAKE, handshake).await?.map_err(ConnectionError::tls)?;
        let (socket, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(SEND_BUFFER));
        let judged = Judged { bundles: Arc::clone(entry.bundles()), lists };
        self.watch_over(socket, connection, Role::Server, entry.svid(), judged)?;
        Ok(stream)
    }

    /// Whether a connection made today would be made with this too.
    pub(crate) fn is_current<C>(&self, entry: &TlsEntry<C>) -> bool {
        self.configs.is_current(entry)
    }

    /// Resolves once a connection made today would be made with something else.
    ///
    /// Cancel safe.
    pub(crate) async fn outdated<C>(&self, entry: &TlsEntry<C>) {
        let mut rotations = self.rotations.subscribe();
        while self.is_current(entry) {
            // The sender is part of this, so the wait ends for no other reason.
            drop(rotations.changed().await);
        }
    }

    /// Has the connection end when a side of it, the peer in this role, is no longer trusted. Says who the peer is.
    fn watch_over(
        &self,
        socket: &mut ReadAhead,
        connection: &CommonState,
        role: Role,
        own: &Arc<X509Svid>,
        judged: Judged,
    ) -> Result<SpiffeId, ConnectionError> {
        let peer = PeerIdentity::from_connection(connection).map_err(ConnectionError::identity)?.into_id();
        let chain = connection.peer_certificates().unwrap_or_default();
        let own = Arc::clone(own);
        socket.end_with(self.peers.register(Connected { peer: peer.clone(), chain, role, own, judged }));
        Ok(peer)
    }

    /// Gives a step of a connection its time. One that has nothing to wait for, as a look-up has not, reads no clock.
    async fn bounded<T>(
        &self,
        step: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, ConnectionError> {
        let mut future = pin!(future);
        if let Poll::Ready(done) = futures_util::poll!(future.as_mut()) {
            return Ok(done);
        }
        let limit = self.handshake_timeout;
        let done = tokio::time::timeout(limit, future).await;
        done.map_err(|_elapsed| ConnectionError::Stalled { step, limit })
    }
}

const CERTIFICATE: &str = "certificate";
const HANDSHAKE: &str = "tls handshake";

/// Follows certificates, roots and revocation lists for as long as the worker lives: connections made with what has been
/// replaced take no new tunnels, those whose trust is gone end, and the first worker tells of own certificates that are
/// revoked.
pub(crate) async fn follow_identities(context: Arc<WorkerContext>) {
    let tls = &context.tls;
    let mut own = (context.index == 0).then(OwnCertificate::default);
    let mut generation = tls.configs.identities().generation();
    let mut ticks = tokio::time::interval(RECHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = tls.configs.identities().generation();
        if std::mem::replace(&mut generation, now) != now {
            context.pool.retire(|key| !tls.is_current(key.tls()));
            tls.rotations.send_replace(());
        }
        tls.peers.recheck().await;
        if let Some(own) = &mut own {
            own.check(&context);
        }
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
        let settings = match revocation {
            Some(revocation) => mesh_identity::TlsSettings::default().revocation(revocation),
            None => mesh_identity::TlsSettings::default(),
        };
        let configs =
            TlsConfigs::with_settings(identities, &provider, settings).expect("a complete provider");
        let peers = Peers::new(configs.clone(), provider.as_ref().clone(), max_age);
        Self::new(configs, peers, Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

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
        entry: ServerEntry,
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
            async { tls.connect(&config, TcpStream::connect(address).await.unwrap()).await.unwrap() };
        let (accepted, client) = tokio::join!(accept, connect);
        Pair { store, tls, server: accepted.stream, client, entry: accepted.entry }
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

    /// Has the identity, once it comes, which it does not.
    #[derive(Debug)]
    struct Silent;

    impl IdentitySource for Silent {
        fn svid<'a>(&'a self, _: &'a SpiffeId) -> mesh_identity::SvidFuture<'a> {
            Box::pin(std::future::pending())
        }

        fn try_svid(&self, _: &SpiffeId) -> Option<Arc<X509Svid>> {
            None
        }

        fn bundles(&self) -> Arc<TrustBundles> {
            Arc::default()
        }

        fn generation(&self) -> u64 {
            0
        }
    }

    #[tokio::test]
    async fn a_certificate_that_does_not_come_holds_no_connection() {
        let tls = TlsContexts::for_tests(Arc::new(Silent));
        let cart: SpiffeId = CART.parse().unwrap();
        let expected = ExpectedPeer::exact([cart.clone()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        tokio::time::pause();
        let stalled = |error| {
            assert!(
                matches!(error, ConnectionError::Stalled { step: "certificate", limit } if limit == tls.handshake_timeout),
                "{error:?}"
            );
        };
        stalled(tls.accept(&cart, &expected, accepted).await.unwrap_err());
        stalled(tls.client(&cart, &expected).await.unwrap_err());
    }

    // identity#66, identity#68
    #[tokio::test]
    async fn a_renewal_and_a_new_root_end_nothing() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let mut pair = pair(&authority, None).await;
        pair.store.insert(authority.svid(CART));
        pair.tls.peers.recheck().await;
        assert!(pair.is_open().await);
        pair.store.replace([next.svid(CART)], TrustBundles::new([authority.bundle(), next.bundle()]));
        pair.tls.peers.recheck().await;
        assert!(pair.is_open().await);
    }

    // identity#67, identity#68
    #[tokio::test]
    async fn the_withdrawal_of_its_root_ends_a_connection_on_both_sides() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let Pair { store, tls, mut server, mut client, .. } = pair(&authority, None).await;
        // Whoever waits for bytes at that moment is woken.
        let waiting = tokio::spawn(async move {
            let ended = client.read(&mut [0; 1]).await.unwrap_err();
            (ended, client)
        });
        tokio::task::yield_now().await;
        store.replace([next.svid(CART)], next.bundles());
        tls.peers.recheck().await;
        let (ended, client) = waiting.await.unwrap();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        let ended = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(tls.peers.len(), 2);
        drop((server, client));
        assert_eq!(tls.peers.len(), 0);
    }

    // identity#68
    #[tokio::test]
    async fn a_lost_peer_that_reads_nothing_ends_the_connection_all_the_same() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let Pair { store, tls, server, mut client, .. } = pair(&authority, None).await;
        // More than the kernel keeps for a peer that does not read.
        let bytes = vec![0; 64 * 1024 * 1024];
        let mut writing = pin!(client.write_all(&bytes));
        assert!(futures_util::poll!(writing.as_mut()).is_pending());
        store.replace([next.svid(CART)], next.bundles());
        tls.peers.recheck().await;
        let ended = tokio::time::timeout(Duration::from_secs(20), writing).await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        drop(server);
    }

    // identity#70, identity#72
    #[tokio::test]
    async fn a_revocation_ends_the_connections_of_whom_it_names_and_no_others() {
        let authority = Authority::new("example.org");
        let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
        let mut pair = pair_with(&authority, Some(revocation.clone()), None).await;
        let list = |svid: &X509Svid| authority.revocation_list().revoke(&svid.chain()[0]).pem();
        revocation.load(list(&authority.svid(CART)).as_bytes()).unwrap();
        pair.tls.peers.recheck().await;
        assert!(pair.is_open().await);
        let cart = pair.store.try_svid(&CART.parse().unwrap()).unwrap();
        revocation.load(list(&cart).as_bytes()).unwrap();
        pair.tls.peers.recheck().await;
        assert!(!pair.is_open().await);
        // Both ends of it are here.
        let counts = revocation.counts();
        assert_eq!((counts.refused_clients, counts.refused_servers), (1, 1));
    }

    // identity#75
    #[tokio::test]
    async fn a_handshake_that_a_change_overtook_is_judged_by_the_new_roots_and_lists() {
        let (authority, next) = (Authority::new("example.org"), Authority::new("example.org"));
        let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
        let pair = pair_with(&authority, Some(revocation.clone()), None).await;
        let register = |lists| {
            let (_, connection) = pair.server.get_ref();
            let judged = Judged { bundles: Arc::clone(pair.entry.bundles()), lists };
            pair.tls.peers.register(Connected {
                peer: CART.parse().unwrap(),
                chain: connection.peer_certificates().unwrap(),
                role: Role::Client,
                own: Arc::clone(pair.entry.svid()),
                judged,
            })
        };
        // It began before the list came, and is registered after that.
        let before = pair.tls.peers.lists();
        let list = authority.revocation_list().revoke(&pair.entry.svid().chain()[0]).pem();
        revocation.load(list.as_bytes()).unwrap();
        pair.tls.peers.recheck().await;
        let guard = register(before);
        assert!(guard.lost().is_none());
        pair.tls.peers.recheck().await;
        assert_eq!(Lost::find(&guard.lost().unwrap()), Some(Lost::Revoked));
        // The same with roots.
        revocation.load(b"").unwrap();
        pair.store.replace([next.svid(CART)], next.bundles());
        pair.tls.peers.recheck().await;
        let guard = register(pair.tls.peers.lists());
        assert!(guard.lost().is_none());
        pair.tls.peers.recheck().await;
        assert_eq!(Lost::find(&guard.lost().unwrap()), Some(Lost::Withdrawn));
    }

    // identity#72
    #[tokio::test]
    async fn a_chain_that_no_change_concerns_is_not_verified_again() {
        let [authority, stranger] = ["ours", "theirs"].map(|name| Authority::with_name(name, "example.org"));
        let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
        let pair = pair_with(&authority, Some(revocation.clone()), None).await;
        // Nobody would verify this chain.
        let svid = stranger.svid(WEB);
        let guard = pair.tls.peers.register(Connected {
            peer: WEB.parse().unwrap(),
            chain: svid.chain(),
            role: Role::Client,
            own: Arc::clone(pair.entry.svid()),
            judged: Judged { bundles: Arc::clone(pair.entry.bundles()), lists: pair.tls.peers.lists() },
        });
        // A list of another issuer, and a root more.
        revocation.load(authority.revocation_list().pem().as_bytes()).unwrap();
        pair.tls.peers.recheck().await;
        let more = Authority::with_name("more", "example.org");
        pair.store.replace([authority.svid(CART)], TrustBundles::new([authority.bundle(), more.bundle()]));
        pair.tls.peers.recheck().await;
        assert!(guard.lost().is_none());
        revocation.load(stranger.revocation_list().pem().as_bytes()).unwrap();
        pair.tls.peers.recheck().await;
        assert!(guard.lost().is_some());
    }

    // identity#68, identity §8
    #[tokio::test]
    async fn a_connection_ends_when_its_own_side_is_revoked_or_loses_its_root() {
        let [ours, theirs, next] =
            ["ours", "theirs", "next"].map(|name| Authority::with_name(name, "example.org"));
        let both = || TrustBundles::new([ours.bundle(), theirs.bundle()]);
        for withdraw in [false, true] {
            let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
            let store = IdentityStore::new(both());
            store.insert(ours.svid(CART));
            let tls = TlsContexts::with(Arc::new(store.clone()), Some(revocation.clone()), None);
            let peer = theirs.svid(WEB);
            let cart = store.try_svid(&CART.parse().unwrap()).unwrap();
            let guard = tls.peers.register(Connected {
                peer: WEB.parse().unwrap(),
                chain: peer.chain(),
                role: Role::Server,
                own: Arc::clone(&cart),
                judged: Judged { bundles: store.bundles(), lists: tls.peers.lists() },
            });
            // A renewal is no reason.
            store.insert(ours.svid(CART));
            tls.peers.recheck().await;
            assert!(guard.lost().is_none());
            let expected = if withdraw {
                store.replace([next.svid(CART)], TrustBundles::new([theirs.bundle(), next.bundle()]));
                Lost::OwnWithdrawn
            } else {
                let list = ours.revocation_list().revoke(&cart.chain()[0]).pem();
                revocation.load(list.as_bytes()).unwrap();
                Lost::OwnRevoked
            };
            tls.peers.recheck().await;
            assert_eq!(Lost::find(&guard.lost().unwrap()), Some(expected));
        }
    }

    // identity#62, identity#68: whoever is shut down finishes what is open.
    #[tokio::test]
    async fn an_own_identity_that_leaves_ends_nothing_and_makes_its_configurations_outdated() {
        let authority = Authority::new("example.org");
        let mut pair = pair(&authority, None).await;
        assert!(pair.tls.is_current(&pair.entry));
        pair.store.replace([], authority.bundles());
        pair.tls.peers.recheck().await;
        assert!(pair.is_open().await);
        assert!(!pair.tls.is_current(&pair.entry));
        pair.tls.outdated(&pair.entry).await;
    }

    // identity#68
    #[tokio::test]
    async fn a_connection_ends_at_the_configured_age() {
        let authority = Authority::new("example.org");
        let mut young = pair(&authority, Some(Duration::from_secs(3600))).await;
        young.tls.peers.recheck().await;
        assert!(young.is_open().await);
        let mut old = pair(&authority, Some(Duration::ZERO)).await;
        old.tls.peers.recheck().await;
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
            tokio::join!(tls.connect(&config, near.unwrap()), tls.accept(&web, &only_web, far.unwrap().0),);
        let refused = VerifyError::Unexpected { expected: only_web, presented: cart };
        let text = Report(&served.unwrap_err()).to_string();
        assert_eq!(text, format!("tls handshake failed: {refused}"));
    }
}
