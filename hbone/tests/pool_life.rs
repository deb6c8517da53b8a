//! How pooled connections come to an end: idle, old, retired, evicted, drained, dead.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;
#[path = "support/pool.rs"]
mod world;

use std::time::Duration;

use hbone::{
    pool::{Builder, Declined, PoolError, PoolStatus},
    server,
};
use support::{assert_echoes, frames::GOAWAY, request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use world::World;

// hbone#63, hbone#73, routing#51
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

// hbone#71, routing#53
#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_its_last_tunnel() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    sleep(minutes(30)).await;
    assert_echoes(&mut tunnel).await;
    drop(tunnel);
    sleep(minutes(4)).await;
    assert_eq!(world.pool.status().connections, 1);
    let _short = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 1);
    drop(_short);
    sleep(minutes(4)).await;
    assert_eq!(world.pool.status().connections, 1, "counted from the last tunnel");
    sleep(minutes(2)).await;
    assert_eq!(world.pool.status().connections, 0);
    let _tunnel = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn evicted_key_gets_a_new_connection_and_keeps_its_tunnels() {
    let world = World::new();
    let mut old = world.connect("a").await.unwrap();
    let other = world.connect("b").await.unwrap();
    world.pool.evict(&"a");
    assert_eq!(world.pool.status().connections, 1);
    let _new = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 3);
    assert_echoes(&mut old).await;
    world.pool.retain(|key| *key == "b");
    assert_eq!(world.pool.status().connections, 1);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn eviction_releases_those_who_wait() {
    let world = World::new();
    let (error, ()) = tokio::join!(world.connect("blackhole"), async { world.pool.evict(&"blackhole") });
    assert!(matches!(error, Err(PoolError::Declined(Declined::Evicted))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn evicted_connection_closes_after_its_last_tunnel() {
    let mut world = World::new();
    let (connecting, mut peer, stream) = world.asked().await;
    peer.accept(stream).await;
    let tunnel = connecting.await.unwrap().unwrap();
    world.pool.evict(&"scripted");
    sleep(Duration::from_secs(1)).await;
    drop(tunnel);
    peer.next_of(GOAWAY).await;
    while peer.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn drained_pool_opens_nothing_and_keeps_its_tunnels_until_the_deadline() {
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    let idle = world.connect("b").await.unwrap();
    drop(idle);
    let start = Instant::now();
    let deadline = start + Duration::from_secs(5);
    let mut drained = None;
    let (waiting, ()) = tokio::join!(world.connect("blackhole"), async {
        drained = Some(world.pool.drain(deadline));
    });
    assert!(matches!(waiting, Err(PoolError::Declined(Declined::Draining))), "{waiting:?}");
    assert!(matches!(world.connect("a").await, Err(PoolError::Declined(Declined::Draining))));
    assert!(world.pool.try_reserve(&"a").is_none());
    assert_eq!(world.pool.status().connections, 0);
    assert_echoes(&mut tunnel).await;
    let drained = tokio::spawn(drained.unwrap());
    sleep(Duration::from_secs(4)).await;
    assert_echoes(&mut tunnel).await;
    assert!(!drained.is_finished());
    drained.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(tunnel.read(&mut [0]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn drain_is_over_once_the_last_tunnel_has_ended() {
    let mut world = World::new();
    let (connecting, mut peer, stream) = world.asked().await;
    peer.accept(stream).await;
    let tunnel = connecting.await.unwrap().unwrap();

    let start = Instant::now();
    let drained = tokio::spawn(world.pool.drain(start + Duration::from_secs(3600)));
    sleep(Duration::from_secs(1)).await;
    drop(tunnel);
    peer.next_of(GOAWAY).await;
    while peer.next().await.is_some() {}
    drop(peer);
    drained.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 1);
    world.pool.drain(start).await;
}

#[tokio::test(start_paused = true)]
async fn second_drain_brings_the_deadline_forward() {
    let world = World::new();
    let mut tunnel = world.connect("a").await.unwrap();
    let start = Instant::now();
    let first = world.pool.drain(start + Duration::from_secs(3600));
    let second = world.pool.drain(start + Duration::from_secs(2));
    drop(first);
    second.await;
    assert_eq!(start.elapsed().as_secs(), 2);
    assert!(tunnel.read(&mut [0]).await.is_err());
}

// hbone#74
#[tokio::test(start_paused = true)]
async fn old_connection_is_replaced_and_keeps_its_tunnels() {
    let builder = Builder::new().max_age(Duration::from_secs(600));
    let world = World::with(builder, server::Builder::new());
    let mut old = world.connect("a").await.unwrap();
    sleep(Duration::from_secs(500)).await;
    let _young_enough = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 1);
    sleep(Duration::from_secs(200)).await;
    let _new = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 2);
    assert_echoes(&mut old).await;
    assert_eq!(world.pool.status().leaving, 1);
}

// hbone#74
#[tokio::test(start_paused = true)]
async fn retired_connection_is_replaced_and_keeps_its_tunnels() {
    let world = World::new();
    let mut old = world.connect("a").await.unwrap();
    let _other = world.connect("b").await.unwrap();
    world.pool.retire(|key| *key == "a");
    let _new = world.connect("a").await.unwrap();
    let _same = world.connect("b").await.unwrap();
    assert_eq!(world.dials(), 3);
    assert_echoes(&mut old).await;
    drop(old);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.pool.status().leaving, 0);
}

// hbone#74
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_retired_dial_gets_another() {
    let world = World::new();
    let (tunnel, ()) = tokio::join!(world.connect("a"), async {
        assert_eq!(world.dials(), 0);
        tokio::task::yield_now().await;
        assert_eq!(world.dials(), 1);
        world.pool.retire(|_| true);
    });
    assert_echoes(&mut tunnel.unwrap()).await;
    assert_eq!(world.dials(), 2);
    assert_eq!(world.pool.status().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn peer_that_left_a_request_unanswered_is_not_asked_again_first() {
    let world = World::new();
    let mut before = world.connect("a").await.unwrap();
    let error = world.connect_to("a", 3).await.unwrap_err();
    assert!(matches!(error, PoolError::ResponseTimeout(_)), "{error:?}");
    let _after = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 2, "it may be dead");
    assert_echoes(&mut before).await;
}

#[tokio::test(start_paused = true)]
async fn slow_destination_does_not_make_its_peer_suspect_for_long() {
    let world = World::new();
    let mut before = world.connect("a").await.unwrap();
    world.connect_to("a", 3).await.unwrap_err();
    // Whatever arrives on the connection proves that the peer is alive.
    assert_echoes(&mut before).await;
    let _after = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 1);
}

// Beside a dial that gets nowhere.
#[tokio::test(start_paused = true)]
async fn answer_of_a_suspect_serves_those_who_wait_for_another() {
    let world = World::new();
    // Its limit is known.
    drop(world.connect("once").await.unwrap());
    let start = Instant::now();
    let later = |seconds, port| {
        let world = &world;
        async move {
            sleep(Duration::from_secs(seconds)).await;
            (world.connect_to("once", port).await, start.elapsed().as_secs())
        }
    };
    let (unanswered, slow, waiting) = tokio::join!(later(0, 3), later(10, 4), later(16, 80));
    assert!(matches!(unanswered, (Err(PoolError::ResponseTimeout(_)), 15)), "{unanswered:?}");
    assert!(matches!((&slow, &waiting), ((Ok(_), 18), (Ok(_), 18))), "{slow:?}, {waiting:?}");
    assert_eq!(world.dials(), 2);
}

// hbone#73
#[tokio::test(start_paused = true)]
async fn suspect_is_better_than_nothing_and_cleared_by_an_answer() {
    let builder = Builder::new().max_connections(1);
    let world = World::with(builder, server::Builder::new());
    world.connect_to("a", 3).await.unwrap_err();
    for _ in 0..2 {
        let _tunnel = world.connect("a").await.unwrap();
    }
    assert_eq!(world.dials(), 1);
    assert!(world.pool.try_reserve(&"a").is_some());
}

// hbone#17, hbone#73
#[tokio::test(start_paused = true)]
async fn dead_peer_leaves_the_pool_without_traffic() {
    let mut world = World::new();
    let (connecting, mut peer, stream) = world.asked().await;
    peer.accept(stream).await;
    let mut tunnel = connecting.await.unwrap().unwrap();
    // From here on the peer answers nothing, pings neither.
    assert!(tunnel.read(&mut [0]).await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(world.pool.status(), PoolStatus::default());
    drop(peer);
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

// hbone#72
#[tokio::test(start_paused = true)]
async fn keys_that_come_and_go_leave_nothing() {
    let world = World::new();
    for _ in 0..3 {
        for key in ["a", "b", "c", "refused", "panic"] {
            let _ = world.connect(key).await;
        }
        sleep(Duration::from_secs(600)).await;
        assert_eq!(world.pool.status(), PoolStatus::default());
    }
}
