//! Sharing connections: who gets which, who dials, who waits and who fails.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;
#[path = "support/pool.rs"]
mod world;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hbone::{
    ConnectError, ResetReason, Side, client,
    pool::{Builder, Declined, DialError, Pool, PoolError, PoolStatus, Sharing},
    server,
};
use support::{
    assert_echoes,
    frames::{GOAWAY, HEADERS, MAX_CONCURRENT_STREAMS, RST_STREAM},
    request,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use world::{Dialer, Key, World};

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

// routing#50
#[tokio::test(start_paused = true)]
async fn full_connection_gets_a_sibling() {
    let world = World::with(Builder::new().max_tunnels(10), server::Builder::new());
    let tunnels = world.connect_many("a", 25).await;
    assert!(tunnels.iter().all(Result::is_ok));
    assert_eq!(world.dials(), 3);
    assert_eq!(world.pool.status().connections, 3);
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

// hbone#22
#[tokio::test(start_paused = true)]
async fn limit_that_the_peer_changes_is_followed() {
    let mut world = World::new();
    let (connecting, mut peer, stream) = world.asked().await;
    peer.accept(stream).await;
    let _tunnel = connecting.await.unwrap().unwrap();
    for limit in [2, 1, 3] {
        peer.settings(&[(MAX_CONCURRENT_STREAMS, limit)]).await;
        sleep(Duration::from_millis(1)).await;
        let places: Vec<_> = std::iter::from_fn(|| world.pool.try_reserve(&"scripted")).collect();
        assert_eq!(places.len(), limit as usize - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn extreme_settings_work() {
    let never = Duration::MAX;
    let builder = Builder::new()
        .max_tunnels(0)
        .max_connections(0)
        .max_total(0)
        .idle_timeout(never)
        .max_age(never)
        .backoff(never, never)
        .connect_timeout(never)
        .response_timeout(never);
    let world = World::with(builder, server::Builder::new());
    for _ in 0..2 {
        drop(world.connect("a").await.unwrap());
    }
    assert!(matches!(world.connect("refused").await, Err(PoolError::Dial(_))));
    assert!(matches!(world.connect("refused").await, Err(PoolError::Backoff { .. })));
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
    assert!(matches!(third, PoolError::Declined(Declined::Busy)), "{third:?}");
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
            matches!(&error, PoolError::Dial(DialError::Connector(error)) if is_refused(error)),
            "{error:?}"
        );
        assert_eq!(error.side(), Side::Peer);
    }
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(world.dials(), 1);
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

#[tokio::test(start_paused = true)]
async fn failed_key_is_left_alone_and_the_failure_given_with_its_time() {
    let world = World::new();
    let mut pauses = Vec::new();
    for dials in 1..=8 {
        let error = world.connect("refused").await.unwrap_err();
        assert!(matches!(error, PoolError::Dial(_)), "{error:?}");
        let failed_at = Instant::now();
        sleep(Duration::from_millis(10)).await;
        let error = world.connect("refused").await.unwrap_err();
        let PoolError::Backoff { cause: DialError::Connector(cause), at, retry_in } = &error else {
            panic!("{error:?}");
        };
        assert!(is_refused(cause) && *at == failed_at.into_std() && error.is_retryable());
        assert_eq!(failed_at.elapsed(), Duration::from_millis(10), "told at once");
        assert_eq!(world.dials(), dials);
        pauses.push(*retry_in);
        sleep(*retry_in).await;
    }
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)));
    assert!(pauses[7] > pauses[0] * 8, "longer each time: {pauses:?}");
    for dials in [9, 10] {
        let error = world.connect("refused").await.unwrap_err();
        assert!(matches!(error, PoolError::Dial(_)), "{error:?}");
        assert_eq!(world.dials(), dials);
        assert_eq!(world.pool.status().failing, 1);
        // Within the pause.
        world.pool.evict(&"refused");
        assert_eq!(world.pool.status().failing, 0, "an eviction forgets");
    }
    assert!(world.connect("refused").await.is_err());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.pool.status(), PoolStatus::default());
}

// hbone#70
#[tokio::test(start_paused = true)]
async fn dial_has_a_deadline_that_all_share() {
    let world = World::new();
    let start = Instant::now();
    for error in world.connect_many("blackhole", 50).await {
        let timeouts = [
            matches!(error, Err(PoolError::ConnectTimeout(_))),
            matches!(error, Err(PoolError::Dial(DialError::Timeout(_)))),
        ];
        assert!(timeouts.contains(&true), "{error:?}");
    }
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(world.dials(), 1);
    let error = world.connect("blackhole").await.unwrap_err();
    assert!(matches!(error, PoolError::Backoff { cause: DialError::Timeout(_), .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 10, "whoever comes later does not wait");
}

#[tokio::test(start_paused = true)]
async fn dial_that_panics_poisons_nothing() {
    let world = World::new();
    for round in 1..3 {
        let error = world.connect("panic").await.unwrap_err();
        assert!(matches!(error, PoolError::Dial(DialError::Aborted(_))), "{error:?}");
        assert_eq!(world.dials(), round);
        sleep(Duration::from_secs(1)).await;
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
    assert_eq!(start.elapsed().as_secs(), 15);
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
    assert_eq!(world.pool.status().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn peer_that_does_nothing_but_leave_is_not_dialled_for_ever() {
    let world = World::new();
    let error = world.connect("leaving").await.unwrap_err();
    assert!(matches!(error, PoolError::Connect(ConnectError::GoAway(ResetReason::NoError))), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(world.dials(), 4);
}

#[tokio::test(start_paused = true)]
async fn reset_that_proves_nothing_is_not_repeated() {
    let mut world = World::new();
    let (connecting, mut peer, stream) = world.asked().await;
    peer.send(RST_STREAM, 0, stream, &8u32.to_be_bytes()).await;
    assert!(!connecting.await.unwrap().unwrap_err().is_retryable());
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn total_is_kept_by_closing_idle_connections_and_then_by_refusing() {
    let builder = Builder::new().max_total(2).max_tunnels(1);
    let world = World::with(builder, server::Builder::new());
    drop(world.connect("a").await.unwrap());
    let mut b = world.connect("b").await.unwrap();
    let mut c = world.connect("c").await.unwrap();
    assert_eq!(world.pool.status().connections, 2, "a's was idle");
    let start = Instant::now();
    let error = world.connect("a").await.unwrap_err();
    assert!(matches!(error, PoolError::Declined(Declined::Exhausted)), "{error:?}");
    assert_eq!((start.elapsed(), error.side()), (Duration::ZERO, Side::Local));
    assert_echoes(&mut b).await;
    assert_echoes(&mut c).await;
    let (second, ()) = tokio::join!(world.connect("b"), async {
        sleep(Duration::from_secs(3)).await;
        drop(c);
    });
    assert_echoes(&mut second.unwrap()).await;
    assert_eq!(start.elapsed().as_secs(), 3, "whoever has a connection waits");
}

#[tokio::test(start_paused = true)]
async fn reservation_is_a_place_that_can_be_given_back() {
    let world = World::with(Builder::new().max_tunnels(1), server::Builder::new());
    assert!(world.pool.try_reserve(&"a").is_none());
    let reserved = world.pool.reserve("a").await.unwrap();
    assert!(world.pool.try_reserve(&"a").is_none(), "one tunnel each");
    drop(reserved);
    let reserved = world.pool.try_reserve(&"a").unwrap();
    assert_echoes(&mut reserved.connect(request()).await.unwrap()).await;
    assert_eq!(world.dials(), 1);
}

// A socket that takes no more, as beside a bulk transfer.
#[tokio::test(start_paused = true)]
async fn busy_connection_gets_a_sibling_without_being_full() {
    let mut world = World::new();
    let connect = |pool: &Pool<Key, Dialer>| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.connect("narrow", request()).await })
    };
    let connecting = connect(&world.pool);
    let mut first = world.peer().await;
    let stream = first.next_of(HEADERS).await.stream;
    first.accept(stream).await;
    let mut bulk = connecting.await.unwrap().unwrap();
    // The peer's initial window, of which the socket takes a part.
    bulk.write_all(&[0; 60_000]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.dials(), 1);

    let beside = connect(&world.pool);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.dials(), 2, "for those that follow");
    let mut second = world.peer().await;
    let following = connect(&world.pool);
    let stream = second.next_of(HEADERS).await.stream;
    second.accept(stream).await;
    let _tunnel = following.await.unwrap().unwrap();
    assert!(!beside.is_finished(), "on the busy one");
    first.next_of(HEADERS).await;
    assert_eq!(world.dials(), 2);
}

// hbone#20: what stalled readers hold is the connection's, and new tunnels go elsewhere until it is taken.
#[tokio::test(start_paused = true)]
async fn connection_that_holds_too_much_is_left_to_its_tunnels() {
    let builder = Builder::new().client(client::Builder::new().connection_budget(10_000));
    let world = World::with(builder, server::Builder::new());
    let mut stalled = world.connect("a").await.unwrap();
    stalled.write_all(&[7; 50_000]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let mut beside = world.connect("a").await.unwrap();
    assert_echoes(&mut beside).await;
    assert_eq!(world.dials(), 2);

    stalled.read_exact(&mut [0; 50_000]).await.unwrap();
    let third = world.connect("a").await.unwrap();
    assert_eq!(world.dials(), 2);
    drop((beside, third));
    assert_echoes(&mut stalled).await;
}

// hbone#20: beside a dial that gets nowhere.
#[tokio::test(start_paused = true)]
async fn connection_that_is_read_again_serves_those_who_wait_for_another() {
    let builder = Builder::new().client(client::Builder::new().connection_budget(10_000));
    let world = World::with(builder, server::Builder::new());
    let mut stalled = world.connect("once").await.unwrap();
    stalled.write_all(&[7; 50_000]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let (waiting, ()) = tokio::join!(world.connect("once"), async {
        sleep(Duration::from_secs(3)).await;
        stalled.read_exact(&mut [0; 50_000]).await.unwrap();
    });
    assert_echoes(&mut waiting.unwrap()).await;
    assert_eq!((start.elapsed().as_secs(), world.dials()), (3, 2));
}

// hbone#80
#[tokio::test(start_paused = true)]
async fn spread_connections_take_turns() {
    let builder = Builder::new().sharing(Sharing::Spread).max_connections(3);
    let world = World::with(builder, server::Builder::new());
    for _ in 0..9 {
        drop(world.connect("a").await.unwrap());
    }
    assert_eq!(world.dials(), 3);
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
    assert!(matches!(world.connect("a").await, Err(PoolError::Dial(DialError::Aborted(_)))));
}

#[test]
fn pool_and_its_futures_can_be_sent_between_threads() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    fn send<T: Send>(_: &T) {}
    let world = World::new();
    send_and_sync(&world.pool);
    send(&world.pool.connect("a", request()));
}
