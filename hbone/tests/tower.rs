//! Clients as tower services.

#![cfg(all(feature = "tower", feature = "pool"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    task::{Context, Poll},
    time::Duration,
};

use hbone::{
    ConnectError, ConnectRequest, Refusal, Tunnel,
    pool::{Declined, Pool, PoolError},
    server,
};
use support::{PIPE, assert_echoes, echo, pair, pair_with, request, serve};
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};
use tower_service::Service;

/// What middleware does: waits until the service is ready, then calls it.
async fn oneshot<S: Service<R>, R>(mut service: S, request: R) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

#[tokio::test(start_paused = true)]
async fn connection_is_a_service() {
    let (send, connection) = pair().await;
    serve(connection, echo);
    for _ in 0..3 {
        let mut tunnel = oneshot(send.clone(), request()).await.unwrap();
        assert_eq!(send.active_tunnels(), 1);
        assert_echoes(&mut tunnel).await;
    }
    assert_eq!(send.active_tunnels(), 0);
}

// hbone#43
#[tokio::test(start_paused = true)]
async fn refusal_is_an_error_of_the_call_and_leaves_the_service_ready() {
    let (send, connection) = pair().await;
    serve(connection, |incoming| async { incoming.refuse(Refusal::Denied) });
    for _ in 0..2 {
        let error = oneshot(send.clone(), request()).await.unwrap_err();
        assert_eq!(error.status().unwrap(), 401);
    }
}

// hbone#21
#[tokio::test(start_paused = true)]
async fn request_past_the_limit_waits_in_its_future() {
    let (mut send, connection) =
        pair_with(hbone::client::Builder::new(), server::Builder::new().max_tunnels(1)).await;
    serve(connection, echo);
    let first = oneshot(send.clone(), request()).await.unwrap();
    poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    let second = send.call(request());
    let (second, ()) = tokio::join!(second, async {
        sleep(Duration::from_secs(1)).await;
        drop(first);
    });
    assert_echoes(&mut second.unwrap()).await;
}

// hbone#63
#[tokio::test(start_paused = true)]
async fn connection_that_is_closing_is_not_ready() {
    let (mut send, connection) = pair().await;
    let handle = connection.handle();
    serve(connection, echo);
    let mut tunnel = oneshot(send.clone(), request()).await.unwrap();
    handle.drain(tokio::time::Instant::now() + Duration::from_secs(60));
    sleep(Duration::from_secs(1)).await;
    let error = poll_fn(|cx| send.poll_ready(cx)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Closed), "{error:?}");
    assert!(send.call(request()).await.unwrap_err().is_retryable());
    assert_echoes(&mut tunnel).await;
}

/// Connects to an echo in memory.
#[derive(Clone)]
struct Dialer;

impl Service<u32> for Dialer {
    type Response = DuplexStream;
    type Error = Infallible;
    type Future = Ready<Result<DuplexStream, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        let (near, far) = duplex(PIPE);
        tokio::spawn(async move {
            serve(server::handshake(far).await.unwrap(), echo);
        });
        ready(Ok(near))
    }
}

#[tokio::test(start_paused = true)]
async fn pool_is_a_service_of_keys_and_requests() {
    let pool = Pool::new(Dialer);
    for key in [1, 2, 1] {
        let mut tunnel = oneshot(pool.clone(), (key, request())).await.unwrap();
        assert_echoes(&mut tunnel).await;
    }
    assert_eq!(pool.status().connections, 2);
    drop(pool.drain(tokio::time::Instant::now()));
    let error = oneshot(pool, (1, request())).await.unwrap_err();
    assert!(matches!(error, PoolError::Declined(Declined::Draining)), "{error:?}");
}

#[test]
fn services_and_their_futures_can_be_sent_between_threads() {
    fn check<S, R>(_: &S)
    where
        S: Service<R, Response = Tunnel, Future: Future + Send + 'static> + Clone + Send + Sync,
    {
    }
    check::<_, (u32, ConnectRequest)>(&Pool::new(Dialer));
}
