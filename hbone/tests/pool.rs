//! Sharing connections.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hbone::{
    ConnectError, Refusal, ResetReason, Side, Tunnel,
    pool::{Builder, Pool, PoolError},
    server,
};
use support::{
    PIPE, assert_echoes, echo,
    frames::{GOAWAY, HEADERS, Peer, RST_STREAM},
    request, serve,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_service::Service;

type Key = &'static str;

/// Dials in memory: keys decide what becomes of it.
#[derive(Clone)]
struct Dialer {
    dials: Arc<AtomicUsize>,
    handles: Arc<Mutex<HashMap<Key, Vec<server::Handle>>>>,
    server: server::Builder,
    /// Where scripted peers are handed out, for the keys `scripted` and `scripted-too`.
    scripted: mpsc::UnboundedSender<DuplexStream>,
}

impl Service<Key> for Dialer {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, key: Key) -> Self::Future {
        self.dials.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        Box::pin(async move {
            let (near, far) = duplex(PIPE);
            match key {
                "refused" => {
                    sleep(Duration::from_secs(1)).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                "blackhole" => std::future::pending().await,
                "panic" => panic!("a dialler that panics"),
                "silent" => drop(tokio::spawn(async move {
                    let _open = far;
                    std::future::pending::<()>().await;
                })),
                "scripted" => this.scripted.send(far).unwrap(),
                _ => {
                    sleep(Duration::from_millis(10)).await;
                    tokio::spawn(async move {
                        let connection = this.server.handshake(far).await.unwrap();
                        this.handles.lock().unwrap().entry(key).or_default().push(connection.handle());
                        serve(connection, answer);
                    });
                }
            }
            Ok(near)
        })
    }
}

async fn answer(incoming: server::Incoming) {
    match incoming.destination().port() {
        1 => incoming.refuse(Refusal::Denied),
        2 => incoming.refuse(Refusal::Unprocessed),
        3 => {
            let _unanswered = incoming;
            std::future::pending::<()>().await;
        }
        _ => echo(incoming).await,
    }
}

struct World {
    pool: Pool<Key, Dialer>,
    dialer: Dialer,
    peers: mpsc::UnboundedReceiver<DuplexStream>,
}

impl World {
    fn new() -> Self {
        Self::with(Builder::new(), server::Builder::new())
    }

    fn with(pool: Builder, server: server::Builder) -> Self {
        let (scripted, peers) = mpsc::unbounded_channel();
        let dialer = Dialer { dials: Arc::default(), handles: Arc::default(), server, scripted };
        Self { pool: pool.build(dialer.clone()), dialer, peers }
    }

    fn dials(&self) -> usize {
        self.dialer.dials.load(Ordering::Relaxed)
    }

    async fn connect(&self, key: Key) -> Result<Tunnel, PoolError<io::Error>> {
        self.pool.connect(key, request()).await
    }

    async fn connect_to(&self, key: Key, port: u16) -> Result<Tunnel, PoolError<io::Error>> {
        let destination = hbone::Destination::from_name("example.org", port).unwrap();
        self.pool.connect(key, hbone::ConnectRequest::new(destination)).await
    }

    /// Asks for many tunnels at once and waits for all.
    async fn connect_many(&self, key: Key, count: usize) -> Vec<Result<Tunnel, PoolError<io::Error>>> {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let pool = self.pool.clone();
            tasks.spawn(async move { pool.connect(key, request()).await });
        }
        tasks.join_all().await
    }

    /// The scripted peer of the next dial.
    async fn peer(&mut self) -> Peer {
        Peer::server(self.peers.recv().await.unwrap(), &[]).await
    }
}

// hbone#67
#[tokio::test(start_paused = true)]
async fn those_who_come_together_share_a_connection() {
    let world = World::new();
    let tunnels = world.connect_many("a", 100).await;
    assert!(tunnels.iter().all(Result::is_ok));
    assert_eq!(world.dials(), 1);
    for tunnel in tunnels {
        assert_echoes(&mut tunnel.unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn full_connection_gets_a_sibling() {
    let world = World::with(Builder::new().max_tunnels(10), server::Builder::new());
    let tunnels = world.connect_many("a", 25).await;
    assert!(tunnels.iter().all(Result::is_ok));
    assert_eq!(world.dials(), 3);
    assert_eq!(world.pool.connections(), 3);
}

// hbone#21
#[tokio::test(start_paused = true)]
async fn limit_of_the_peer_is_not_exceeded() {
    for limit in [1, 10] {
        let world = World::with(Builder::new(), server::Builder::new().max_tunnels(limit));
        let tunnels = world.connect_many("a", 30).await;
        assert!(tunnels.iter().all(Result::is_ok), "{tunnels:?}");
        assert_eq!(world.dials(), 30 / limit as usize);
    }
}

// hbone#68
#[tokio::test(start_paused = true)]
async fn different_keys_share_nothing() {
    let world = World::new();
    let _tunnels = (world.connect("a").await.unwrap(), world.connect("b").await.unwrap());
    assert_eq!(world.dials(), 2);
}

// hbone#69
#[tokio::test(start_paused = true)]
async fn full_connection_is_used_again_when_tunnels_end() {
    let world = World::with(Builder::new().max_tunnels(2), server::Builder::new());
    for _ in 0..10 {
        let tunnels = (world.connect("a").await.unwrap(), world.connect("a").await.unwrap());
        drop(tunnels);
    }
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_exceeds_the_number_of_connections_waits_for_a_tunnel_to_end() {
    let builder = Builder::new().max_tunnels(1).max_connections(1);
    let world = World::with(builder, server::Builder::new());
    let first = world.connect("a").await.unwrap();
    let start = Instant::now();
    let (second, ()) = tokio::join!(world.connect("a"), async {
        sleep(Duration::from_secs(3)).await;
        drop(first);
    });
    assert!(second.is_ok());
    assert_eq!(start.elapsed().as_secs(), 3);
    let start = Instant::now();
    let error = world.connect("a").await.unwrap_err();
    assert!(matches!(error, PoolError::ConnectTimeout(_)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_fail_at_once() {
    let world = World::with(Builder::new().max_waiting(2), server::Builder::new());
    let start = Instant::now();
    let (first, second, third) =
        tokio::join!(world.connect("blackhole"), world.connect("blackhole"), async {
            let error = world.connect("blackhole").await.unwrap_err();
            assert_eq!(start.elapsed(), Duration::ZERO);
            error
        });
    assert!(matches!(third, PoolError::Busy), "{third:?}");
    assert!(first.is_err() && second.is_err());
}

// hbone#70
#[tokio::test(start_paused = true)]
async fn failed_dial_fails_all_who_waited_at_once() {
    let world = World::new();
    let start = Instant::now();
    for error in world.connect_many("refused", 50).await {
        let error = error.unwrap_err();
        assert!(
            matches!(&error, PoolError::Dial(error) if error.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
        assert_eq!(error.side(), Side::Peer);
    }
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(world.dials(), 1);
    assert!(world.connect("refused").await.is_err());
    assert_eq!(world.dials(), 2, "the next tries again");
}

// hbone#70
#[tokio::test(start_paused = true)]
async fn dial_has_a_deadline_that_all_share() {
    let world = World::new();
    let start = Instant::now();
    for error in world.connect_many("blackhole", 50).await {
        assert!(matches!(error, Err(PoolError::ConnectTimeout(_))), "{error:?}");
    }
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn dial_that_panics_poisons_nothing() {
    let world = World::new();
    for round in 1..3 {
        let error = world.connect("panic").await.unwrap_err();
        assert!(matches!(error, PoolError::Aborted), "{error:?}");
        assert_eq!(world.dials(), round);
    }
}

// hbone#76
#[tokio::test(start_paused = true)]
async fn dead_peer_does_not_hold_up_others() {
    let world = World::new();
    let dead = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("blackhole", request()).await }
    });
    let start = Instant::now();
    let _tunnel = world.connect("a").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    dead.abort();
}

// hbone#75
#[tokio::test(start_paused = true)]
async fn dial_outlives_the_one_who_asked_for_it() {
    let world = World::new();
    let first = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("a", request()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(world.dials(), 1);
    let (second, ()) = tokio::join!(world.connect("a"), async { first.abort() });
    assert_echoes(&mut second.unwrap()).await;
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn unanswered_request_has_a_deadline() {
    let world = World::new();
    let start = Instant::now();
    let error = world.connect_to("a", 3).await.unwrap_err();
    assert!(matches!(error, PoolError::ResponseTimeout(_)), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(start.elapsed().as_secs(), 10);
    let error = world.connect("silent").await.unwrap_err();
    assert!(matches!(error, PoolError::ResponseTimeout(_)), "{error:?}");
}

// hbone#43
#[tokio::test(start_paused = true)]
async fn refusal_is_final_and_leaves_the_connection() {
    let world = World::new();
    let error = world.connect_to("a", 1).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 401);
    assert!(!error.is_retryable());
    let _tunnel = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 1);
}

// hbone#63
#[tokio::test(start_paused = true)]
async fn unprocessed_request_is_repeated_once_on_another_connection() {
    let world = World::new();
    let error = world.connect_to("a", 2).await.unwrap_err();
    assert!(matches!(error, PoolError::Connect(ConnectError::Reset(ResetReason::Refused))), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(world.dials(), 2);
}

// hbone#63
#[tokio::test(start_paused = true)]
async fn request_that_raced_with_a_goaway_succeeds_elsewhere() {
    let mut world = World::new();
    let connecting = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("scripted", request()).await }
    });
    let mut first = world.peer().await;
    first.next_of(HEADERS).await;
    first.send(GOAWAY, 0, 0, &[0; 8]).await;
    let mut second = world.peer().await;
    let stream = second.next_of(HEADERS).await.stream;
    second.accept(stream).await;
    assert!(connecting.await.unwrap().is_ok());
    assert_eq!(world.dials(), 2);
    assert_eq!(world.pool.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn reset_that_proves_nothing_is_not_repeated() {
    let mut world = World::new();
    let connecting = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("scripted", request()).await }
    });
    let mut peer = world.peer().await;
    let stream = peer.next_of(HEADERS).await.stream;
    peer.send(RST_STREAM, 0, stream, &8u32.to_be_bytes()).await;
    assert!(!connecting.await.unwrap().unwrap_err().is_retryable());
    assert_eq!(world.dials(), 1);
}

// hbone#63, hbone#73
#[tokio::test(start_paused = true)]
async fn connection_that_is_drained_or_broken_is_replaced() {
    for drain in [true, false] {
        let world = World::new();
        let mut first = world.connect("a").await.unwrap();
        let handle = world.dialer.handles.lock().unwrap()["a"][0].clone();
        if drain {
            handle.drain(Instant::now() + Duration::from_secs(60));
        } else {
            handle.abort();
        }
        sleep(Duration::from_secs(1)).await;
        let mut second = world.connect("a").await.unwrap();
        assert_echoes(&mut second).await;
        assert_eq!(world.dials(), 2);
        assert_eq!(first.write_all(b"x").await.is_ok(), drain, "open tunnels outlive a drain only");
    }
}

// hbone#71
#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_its_last_tunnel() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    sleep(minutes(30)).await;
    assert_echoes(&mut tunnel).await;
    drop(tunnel);
    sleep(minutes(4)).await;
    assert_eq!(world.pool.connections(), 1);
    let _short = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 1);
    drop(_short);
    sleep(minutes(4)).await;
    assert_eq!(world.pool.connections(), 1, "counted from the last tunnel");
    sleep(minutes(2)).await;
    assert_eq!(world.pool.connections(), 0);
    let _tunnel = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn evicted_key_gets_a_new_connection_and_keeps_its_tunnels() {
    let world = World::new();
    let mut old = world.connect("a").await.unwrap();
    let other = world.connect("b").await.unwrap();
    world.pool.evict(&"a");
    assert_eq!(world.pool.connections(), 1);
    let _new = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 3);
    assert_echoes(&mut old).await;
    world.pool.retain(|key| *key == "b");
    assert_eq!(world.pool.connections(), 1);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn eviction_releases_those_who_wait() {
    let world = World::new();
    let (error, ()) = tokio::join!(world.connect("blackhole"), async { world.pool.evict(&"blackhole") });
    assert!(matches!(error, Err(PoolError::Evicted)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn evicted_connection_closes_after_its_last_tunnel() {
    let mut world = World::new();
    let connecting = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("scripted", request()).await }
    });
    let mut peer = world.peer().await;
    let stream = peer.next_of(HEADERS).await.stream;
    peer.accept(stream).await;
    let tunnel = connecting.await.unwrap().unwrap();
    world.pool.evict(&"scripted");
    sleep(Duration::from_secs(1)).await;
    drop(tunnel);
    peer.next_of(GOAWAY).await;
    while peer.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn drained_pool_opens_nothing_and_keeps_its_tunnels() {
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    let (waiting, ()) = tokio::join!(world.connect("blackhole"), async { world.pool.drain() });
    assert!(matches!(waiting, Err(PoolError::Draining)), "{waiting:?}");
    assert!(matches!(world.connect("a").await, Err(PoolError::Draining)));
    assert_eq!(world.pool.connections(), 0);
    assert_echoes(&mut tunnel).await;
}

#[tokio::test(start_paused = true)]
async fn dropped_pool_lets_go_of_its_connections() {
    let World { pool, dialer, .. } = World::new();
    let mut tunnel = pool.connect("a", request()).await.unwrap();
    let idle = pool.connect("b", request()).await.unwrap();
    drop((pool, idle));
    assert_echoes(&mut tunnel).await;
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
    drop(dialer);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_spawned_by_the_callers_executor() {
    let spawned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&spawned);
    let builder = Builder::new().executor(move |task| {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(task);
    });
    let world = World::with(builder, server::Builder::new());
    for _ in 0..10 {
        let mut tunnel = world.connect("a").await.unwrap();
        assert_echoes(&mut tunnel).await;
    }
    assert_eq!(spawned.load(Ordering::Relaxed), 1, "one per connection, none per tunnel");
}

#[tokio::test(start_paused = true)]
async fn executor_that_drops_tasks_fails_those_who_wait() {
    let world = World::with(Builder::new().executor(drop), server::Builder::new());
    assert!(matches!(world.connect("a").await, Err(PoolError::Aborted)));
}

// hbone#72
#[tokio::test(start_paused = true)]
async fn keys_that_come_and_go_leave_nothing() {
    let world = World::new();
    for key in ["a", "b", "c", "refused"] {
        let _ = world.connect(key).await;
    }
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.pool.connections(), 0);
}

#[test]
fn pool_and_its_futures_can_be_sent_between_threads() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    fn send<T: Send>(_: &T) {}
    let world = World::new();
    send_and_sync(&world.pool);
    send(&world.pool.connect("a", request()));
}
