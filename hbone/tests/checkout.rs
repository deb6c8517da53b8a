//! Taking a place on a pooled connection allocates nothing.

#![cfg(feature = "pool")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use hbone::{
    pool::{Builder, Pool, Sharing},
    server,
};
use support::{PIPE, echo, request, serve};
use tokio::io::{DuplexStream, duplex};
use tower_service::Service;

#[derive(Clone)]
struct Dialer;

impl Service<String> for Dialer {
    type Response = DuplexStream;
    type Error = Infallible;
    type Future = Ready<Result<DuplexStream, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: String) -> Self::Future {
        let (near, far) = duplex(PIPE);
        tokio::spawn(async move {
            serve(server::handshake(far).await.unwrap(), echo);
        });
        ready(Ok(near))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn checkout_when_warm_allocates_nothing() {
    for sharing in [Sharing::Fill, Sharing::Spread] {
        let builder = Builder::new().sharing(sharing).max_connections(3);
        let pool: Pool<String, _> = builder.build(Dialer);
        let key = "a key that owns memory".to_owned();
        let tunnels = [
            pool.connect(key.clone(), request()).await.unwrap(),
            pool.connect(key.clone(), request()).await.unwrap(),
            pool.connect(key.clone(), request()).await.unwrap(),
        ];
        drop(tunnels);
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                let first = pool.try_reserve(&key).unwrap();
                let second = pool.try_reserve(&key).unwrap();
                drop((first, second));
            }
        });
        assert_eq!(counted.count_total, 0, "{sharing:?}");
    }
}
