use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    nested::{Nested, NestedDialError, NestedError},
    pool::{Connect, Key, Pool, PoolError},
    proto::ConnectRequest,
    tunnel::Tunnel,
};

impl<K, C> Service<(K, ConnectRequest)> for Pool<K, C>
where
    K: Key,
    C: Connect<K>,
{
    type Response = Tunnel;
    type Error = PoolError<C::Error>;
    type Future = PoolFuture<C::Error>;

    /// Always ready: what there is to wait for depends on the key, and the pool bounds how many wait.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (key, request): (K, ConnectRequest)) -> Self::Future {
        let pool = self.clone();
        PoolFuture(Box::pin(async move { pool.connect(key, request).await }))
    }
}

impl<K, I, C, S> Service<(K, I, ConnectRequest)> for Nested<K, I, C, S>
where
    K: Key,
    I: Key,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    type Response = Tunnel;
    type Error = NestedError<C::Error, S::Error>;
    type Future = PoolFuture<NestedDialError<C::Error, S::Error>>;

    /// Always ready, as the pool of gateways is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (gateway, inner, request): (K, I, ConnectRequest)) -> Self::Future {
        let nested = self.clone();
        PoolFuture(Box::pin(async move { nested.connect(gateway, inner, request).await }))
    }
}

/// A tunnel from a pool, on its way.
///
/// Dropping it takes the request back; the peer may have acted on it.
#[must_use = "dropping it takes the request back"]
pub struct PoolFuture<E>(Pin<Box<dyn Future<Output = Result<Tunnel, PoolError<E>>> + Send>>);

impl<E> Future for PoolFuture<E> {
    type Output = Result<Tunnel, PoolError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<E> fmt::Debug for PoolFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFuture").finish_non_exhaustive()
    }
}
