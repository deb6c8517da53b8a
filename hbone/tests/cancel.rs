//! What becomes of a future that is dropped before it is done.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;
#[path = "support/pool.rs"]
mod world;

use std::{future::poll_fn, task::Poll, time::Duration};

use hbone::{
    Refusal,
    pool::{Builder, Declined, PoolError, PoolStatus},
    server,
};
use support::{assert_echoes, echo, pair, request, serve, tunnel};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use world::World;

/// Polls a future once, and drops it.
async fn give_up<T>(future: impl Future<Output = T>) {
    let mut future = Box::pin(future);
    assert!(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await, "it waits");
}

#[tokio::test(start_paused = true)]
async fn accept_given_up_loses_no_request() {
    let (send, mut connection) = pair().await;
    for _ in 0..10 {
        give_up(connection.accept()).await;
        let connecting = tokio::spawn({
            let send = send.clone();
            async move { send.connect(request()).await }
        });
        // It arrives while a call is given up.
        let mut incoming = None;
        while incoming.is_none() {
            incoming = timeout(Duration::ZERO, connection.accept()).await.ok();
        }
        incoming.unwrap().unwrap().unwrap().refuse(Refusal::Denied);
        give_up(connection.accept()).await;
        assert_eq!(connecting.await.unwrap().unwrap_err().status().unwrap(), 401);
    }
}

#[tokio::test(start_paused = true)]
async fn receiving_given_up_loses_no_bytes() {
    let (mut near, far, _send) = tunnel().await;
    let (mut recv, _half) = far.into_split();
    for byte in 0..100_u8 {
        give_up(recv.data()).await;
        near.write_all(&[byte]).await.unwrap();
        assert_eq!(recv.data().await.unwrap().unwrap(), [byte].as_slice());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_reset_given_up_misses_none() {
    let (near, far, _send) = tunnel().await;
    let (_recv, mut half) = far.into_split();
    give_up(half.stopped()).await;
    drop(near);
    assert!(half.stopped().await.is_reset());

    let (send, mut connection) = pair().await;
    let connecting = tokio::spawn(async move { send.connect(request()).await });
    let mut incoming = connection.accept().await.unwrap().unwrap();
    serve(connection, echo);
    give_up(incoming.taken_back()).await;
    connecting.abort();
    let error = incoming.taken_back().await;
    assert!(error.is_reset(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn tunnel_that_ended_both_ways_is_not_stopped_by_anything() {
    let (near, mut far, send) = tunnel().await;
    far.shutdown().await.unwrap();
    let (mut recv, mut half) = near.into_split();
    half.finish().unwrap();
    assert!(recv.data().await.is_none());
    drop((far, send));
    assert!(timeout(Duration::from_secs(60), half.stopped()).await.is_err());
}

// hbone#75
#[tokio::test(start_paused = true)]
async fn checkout_given_up_leaves_nothing_but_its_connection() {
    let world = World::new();
    give_up(world.pool.reserve("a")).await;
    give_up(world.connect("a")).await;
    assert_eq!(world.pool.status().waiting, 0);
    sleep(Duration::from_secs(1)).await;
    let status = world.pool.status();
    assert_eq!((status.keys, status.connections, status.idle, status.dialling), (1, 1, 1, 0));
    assert_echoes(&mut world.connect("a").await.unwrap()).await;
    assert_eq!(world.dials(), 1, "the dial was of use");
}

// hbone#75
#[tokio::test(start_paused = true)]
async fn wait_for_a_place_given_up_leaves_it_to_the_next() {
    let builder = Builder::new().max_connections(1).max_tunnels(1);
    let world = World::with(builder, server::Builder::new());
    let first = world.connect("a").await.unwrap();
    give_up(world.connect("a")).await;
    let second = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.connect("a", request()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(world.pool.status().waiting, 1);
    drop(first);
    drop(second.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn drain_given_up_goes_on() {
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    give_up(world.pool.drain(Instant::now() + Duration::from_secs(5))).await;
    assert!(matches!(world.connect("a").await, Err(PoolError::Declined(Declined::Draining))));
    assert_echoes(&mut tunnel).await;
    sleep(Duration::from_secs(6)).await;
    assert!(tunnel.write_all(b"late").await.is_err());
    assert_eq!(world.pool.status(), PoolStatus::default());
}
