//! Double HBONE: a connection inside a tunnel.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hbone::{
    Baggage, ConnectRequest, ConnectResponse, Destination, Refusal, Side, Tunnel, client,
    nested::{Builder, Nested, NestedDialError},
    pool::{DialError, Pool, PoolError, PoolStatus},
    server::{self, Incoming},
};
use support::{PIPE, assert_echoes, echo, pair, request, serve};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex},
    time::{Instant, sleep, timeout},
};
use tower_service::Service;

const GATEWAY: &str = "gateway";
const CART: &str = "cart";
const BACKENDS: usize = 3;

fn hostname() -> Destination {
    "cart.shop.svc.cluster.local:80".parse().unwrap()
}

/// Behind it is somebody who says nothing.
const MUTE: &str = "mute.shop.svc.cluster.local:80";
/// Behind it is somebody who does not answer requests.
const SLOW: &str = "slow.shop.svc.cluster.local:80";

fn named(text: &str) -> Destination {
    text.parse().unwrap()
}

fn baggage() -> Baggage {
    Baggage::new().with_namespace("shop")
}

/// Stands in for TLS: the server says who it is.
async fn prove<T: AsyncWrite + Unpin>(mut io: T, name: &str) -> T {
    io.write_all(format!("{name:16}").as_bytes()).await.unwrap();
    io
}

/// Stands in for TLS: the client checks whom it talks to.
async fn verify<T: AsyncRead + Unpin>(mut io: T, expected: &str) -> io::Result<T> {
    let mut name = [0; 16];
    io.read_exact(&mut name).await?;
    if String::from_utf8_lossy(&name).trim_end() != expected {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(io)
}

/// A gateway with backends behind it, and what it has seen.
#[derive(Clone, Default)]
struct World {
    dials: Arc<AtomicUsize>,
    outer: Arc<AtomicUsize>,
    /// Outer tunnels that have ended, and those of them that were torn.
    ended: Arc<AtomicUsize>,
    torn: Arc<AtomicUsize>,
}

impl World {
    fn nested(&self, builder: Builder) -> Nested<&'static str, &'static str, Self, Secure> {
        builder.build(Pool::new(self.clone()), Secure)
    }

    fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::Relaxed)
    }

    /// Passes a tunnel on to the next backend, as bytes.
    async fn pass_on(self, incoming: Incoming) {
        assert_eq!(incoming.forwarded_network(), None);
        assert!(incoming.is_from_network("east"), "says nothing else");
        match incoming.destination() {
            destination if *destination == hostname() => {}
            destination if *destination == named(MUTE) => {
                let _silence = incoming.accept().unwrap();
                return std::future::pending().await;
            }
            destination if *destination == named(SLOW) => {
                let outer = prove(incoming.accept().unwrap(), CART).await;
                let mut connection = server::handshake(outer).await.unwrap();
                let _unanswered = connection.accept().await;
                while connection.accept().await.is_some() {}
                return;
            }
            _ => return incoming.refuse(Refusal::Unavailable),
        }
        let backend = self.outer.fetch_add(1, Ordering::Relaxed) % BACKENDS;
        let mut outer = incoming.accept().unwrap();
        let (mut near, far) = duplex(PIPE);
        tokio::spawn(async move {
            let connection = server::handshake(prove(far, CART).await).await.unwrap();
            serve(connection, move |incoming| answer(backend, incoming));
        });
        if copy_bidirectional(&mut outer, &mut near).await.is_err() {
            self.torn.fetch_add(1, Ordering::Relaxed);
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says which backend it is, then echoes.
async fn answer(backend: usize, incoming: Incoming) {
    assert_eq!(*incoming.destination(), hostname());
    assert_eq!(incoming.forwarded_network(), Some("west"));
    assert!(incoming.is_from_network("WEST") && !incoming.is_from_network("east"));
    assert_eq!(incoming.baggage().unwrap().namespace(), Some("shop"));
    let response = ConnectResponse::new().with_baggage(Baggage::new().with_cluster("east"));
    let (mut recv, mut send) = incoming.accept_with(response).unwrap().into_split();
    send.send(vec![u8::try_from(backend).unwrap()].into()).await.unwrap();
    while let Some(Ok(data)) = recv.data().await {
        let length = data.len();
        if send.send(data).await.is_err() {
            return;
        }
        recv.release(length);
    }
    let _ = send.finish();
}

/// Dials the gateway, whose name the key expects.
impl Service<&'static str> for World {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, expected: &'static str) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            this.dials.fetch_add(1, Ordering::Relaxed);
            let (near, far) = duplex(PIPE);
            tokio::spawn(async move {
                let connection = server::handshake(prove(far, GATEWAY).await).await.unwrap();
                serve(connection, move |incoming| this.clone().pass_on(incoming));
            });
            verify(near, expected).await
        })
    }
}

/// Secures a tunnel with a peer whose name the key expects.
#[derive(Clone)]
struct Secure;

impl Service<(&'static str, Tunnel)> for Secure {
    type Response = Tunnel;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Tunnel>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (expected, tunnel): (&'static str, Tunnel)) -> Self::Future {
        Box::pin(verify(tunnel, expected))
    }
}

fn west() -> Builder {
    Builder::new("west".parse().unwrap())
}

fn nested_request() -> ConnectRequest {
    ConnectRequest::new(hostname()).with_baggage(baggage())
}

/// Which backend a tunnel leads to.
async fn backend(tunnel: &mut Tunnel) -> u8 {
    tunnel.read_u8().await.unwrap()
}

// hbone#30, hbone#77, hbone#82, hbone#83
#[tokio::test(start_paused = true)]
async fn both_requests_name_the_destination_and_the_inner_one_the_network() {
    let world = World::default();
    let nested = world.nested(west());
    let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
    assert_eq!(tunnel.response().baggage().unwrap().cluster(), Some("east"), "the inner peer's");
    backend(&mut tunnel).await;
    assert_echoes(&mut tunnel).await;
}

// hbone#78
#[tokio::test(start_paused = true)]
async fn each_hop_verifies_its_own_peer() {
    let world = World::default();
    let nested = world.nested(west());
    let error = nested.connect(GATEWAY, GATEWAY, nested_request()).await.unwrap_err();
    let PoolError::Dial(DialError::Connector(cause)) = error else { panic!("{error:?}") };
    assert!(matches!(&*cause, NestedDialError::Secure(_)), "{cause:?}");

    let error = nested.connect(CART, CART, nested_request()).await.unwrap_err();
    let PoolError::Dial(DialError::Connector(cause)) = error else { panic!("{error:?}") };
    assert!(matches!(&*cause, NestedDialError::Outer(PoolError::Dial(_))), "{cause:?}");
}

// hbone#79
#[tokio::test(start_paused = true)]
async fn refusal_of_the_gateway_is_told_from_one_behind_it() {
    let world = World::default();
    let nested = world.nested(west());
    let elsewhere: Destination = "other.shop.svc.cluster.local:80".parse().unwrap();
    let error = nested.connect(GATEWAY, CART, ConnectRequest::new(elsewhere)).await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.is_retryable()), (503, false));
    let PoolError::Dial(DialError::Connector(cause)) = error else { panic!("{error:?}") };
    let NestedDialError::Outer(outer) = &*cause else { panic!("{cause:?}") };
    assert_eq!(outer.status().unwrap(), 503);
    assert_eq!(World::count(&world.dials), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_of_gateways_declines_is_nobody_elses_doing() {
    let gateways = Pool::new(World::default());
    let nested: Nested<_, &'static str, _, _> = west().build(gateways.clone(), Secure);
    gateways.drain(Instant::now()).await;
    let error = nested.connect(GATEWAY, CART, nested_request()).await.unwrap_err();
    assert_eq!((error.side(), error.is_retryable(), error.status()), (Side::Local, false, None));
}

// hbone#80
#[tokio::test(start_paused = true)]
async fn successive_tunnels_reach_different_backends() {
    let world = World::default();
    let nested = world.nested(west());
    let mut reached = Vec::new();
    for _ in 0..BACKENDS {
        let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
        reached.push(backend(&mut tunnel).await);
    }
    assert_eq!(reached, [0, 1, 2]);
    assert_eq!(World::count(&world.dials), 1, "the gateway's connection is shared");
}

// hbone#80
#[tokio::test(start_paused = true)]
async fn shared_inner_connections_take_turns_and_make_room_for_others() {
    let world = World::default();
    let age = Duration::from_secs(600);
    let nested = world.nested(west().share(2, age));
    let mut reached = Vec::new();
    for _ in 0..6 {
        let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
        reached.push(backend(&mut tunnel).await);
        assert_echoes(&mut tunnel).await;
    }
    assert_eq!(reached, [0, 1, 0, 1, 0, 1]);
    assert_eq!(World::count(&world.outer), 2);

    // In use, so that it is for their age that they take no more.
    let mut kept = Vec::new();
    for expected in [0, 1] {
        let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
        assert_eq!(backend(&mut tunnel).await, expected);
        kept.push(tunnel);
    }
    sleep(age * 2).await;
    let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
    assert_eq!(backend(&mut tunnel).await, 2, "the gateway chooses anew");
    for kept in &mut kept {
        assert_echoes(kept).await;
    }
}

// hbone#68
#[tokio::test(start_paused = true)]
async fn inner_connections_are_shared_only_between_equals() {
    let world = World::default();
    let nested = world.nested(west().share(1, Duration::from_secs(600)));
    for _ in 0..2 {
        let _tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
    }
    assert_eq!(World::count(&world.outer), 1);
    nested.connect(GATEWAY, "other", nested_request()).await.unwrap_err();
    assert_eq!(World::count(&world.outer), 2);
    nested.retire(|key| key.inner == CART);
    let _tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
    assert_eq!(World::count(&world.outer), 3);
    nested.retain(|_| false);
    let _tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
    assert_eq!(World::count(&world.outer), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_the_gateway_has_deadlines() {
    let world = World::default();
    let gateways = Pool::new(world.clone());
    for builder in [west(), west().share(2, Duration::from_secs(600))] {
        let nested = builder.build(gateways.clone(), Secure);
        for (destination, is_mute, limit) in [(MUTE, true, 20), (SLOW, false, 15)] {
            let start = Instant::now();
            let error =
                nested.connect(GATEWAY, CART, ConnectRequest::new(named(destination))).await.unwrap_err();
            let is_expected = match &error {
                PoolError::Dial(DialError::Timeout(_)) | PoolError::ConnectTimeout(_) => is_mute,
                PoolError::ResponseTimeout(_) => !is_mute,
                _ => false,
            };
            assert!(is_expected, "{error:?}");
            assert_eq!((start.elapsed().as_secs(), error.side()), (limit, Side::Peer));
        }
        nested.retain(|_| false);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(gateways.status().idle, 1, "no outer tunnel is left");
    }
}

#[tokio::test(start_paused = true)]
async fn inner_connections_are_driven_by_the_callers_executor() {
    for (builder, expected) in [(west(), 3), (west().share(2, Duration::from_secs(600)), 2)] {
        let spawned = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&spawned);
        let nested = World::default().nested(builder.executor(move |task| {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(task);
        }));
        for _ in 0..3 {
            let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
            backend(&mut tunnel).await;
            assert_echoes(&mut tunnel).await;
        }
        assert_eq!(World::count(&spawned), expected);
    }
}

// hbone#61, hbone#81
#[tokio::test(start_paused = true)]
async fn end_of_the_inner_tunnel_ends_the_outer_one_after_all_its_bytes() {
    let world = World::default();
    let nested = world.nested(west());
    let data = vec![7; 3_000_000];
    for round in 1..=3 {
        let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
        backend(&mut tunnel).await;
        let (mut read, mut write) = tokio::io::split(tunnel);
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            write
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        assert!(received == data);
        drop((read, writer.await));
        let ended = async {
            while World::count(&world.ended) < round {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(1), ended).await.unwrap();
    }
    assert_eq!(World::count(&world.dials), 1, "the outer connection stays");
    assert_eq!(World::count(&world.torn), 0, "in good order");
}

#[tokio::test(start_paused = true)]
async fn drain_lets_tunnels_end_until_the_deadline() {
    for builder in [west(), west().share(2, Duration::from_secs(600))] {
        let world = World::default();
        let nested = world.nested(builder);
        let mut tunnel = nested.connect(GATEWAY, CART, nested_request()).await.unwrap();
        backend(&mut tunnel).await;
        let start = Instant::now();
        let drained = tokio::spawn(nested.drain(start + Duration::from_secs(5)));
        sleep(Duration::from_secs(4)).await;
        assert_echoes(&mut tunnel).await;
        assert!(nested.connect(GATEWAY, CART, nested_request()).await.is_err());
        drained.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(tunnel.read(&mut [0]).await.is_err());
    }
}

// hbone#75
#[tokio::test(start_paused = true)]
async fn whoever_gives_up_leaves_no_tunnel_behind() {
    let world = World::default();
    let gateways = Pool::new(world.clone());
    let nested: Nested<_, &'static str, _, _> = west().build(gateways.clone(), Secure);
    for steps in 0..40 {
        let nested = nested.clone();
        let connecting = tokio::spawn(async move { nested.connect(GATEWAY, CART, nested_request()).await });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        connecting.abort();
        let _ = connecting.await;
    }
    sleep(Duration::from_secs(1)).await;
    let status = gateways.status();
    assert_eq!((status.connections, status.idle), (1, 1));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(gateways.status(), PoolStatus::default());
}

// Without the composition: any two connections nest.
#[tokio::test(start_paused = true)]
async fn lost_outer_connection_ends_the_inner_one() {
    let (send, connection) = pair().await;
    let handle = connection.handle();
    serve(connection, |incoming| async {
        let mut inner = server::handshake(incoming.accept().unwrap()).await.unwrap();
        while let Some(Ok(incoming)) = inner.accept().await {
            tokio::spawn(echo(incoming));
        }
    });
    let outer = send.connect(request()).await.unwrap();
    let (send, connection) = client::handshake(outer).await.unwrap();
    tokio::spawn(connection);
    let mut inner = send.connect(request()).await.unwrap();
    assert_echoes(&mut inner).await;
    handle.abort();
    assert!(inner.read(&mut [0]).await.is_err());
}
