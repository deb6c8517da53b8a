use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{NestedDialError, NestedKey};
use crate::{
    pool::{Connect, Key, Pool},
    proto::ConnectRequest,
    tunnel::Tunnel,
};

/// Makes the byte streams of inner connections: opens a tunnel through the gateway and has it secured.
pub(super) struct Connector<K, C: Service<K>, S> {
    outer: Pool<K, C>,
    secure: S,
}

impl<K, C: Service<K>, S> Connector<K, C, S> {
    pub(super) fn new(outer: Pool<K, C>, secure: S) -> Self {
        Self { outer, secure }
    }

    pub(super) fn outer(&self) -> &Pool<K, C> {
        &self.outer
    }

    pub(super) async fn dial<I>(
        &self,
        gateway: K,
        inner: I,
        request: ConnectRequest,
    ) -> Result<S::Response, NestedDialError<C::Error, S::Error>>
    where
        K: Key,
        C: Connect<K>,
        S: Connect<(I, Tunnel)>,
    {
        let tunnel = self.outer.connect(gateway, request).await.map_err(NestedDialError::Outer)?;
        let mut secure = self.secure.clone();
        poll_fn(|cx| secure.poll_ready(cx)).await.map_err(NestedDialError::Secure)?;
        secure.call((inner, tunnel)).await.map_err(NestedDialError::Secure)
    }
}

impl<K, I, C, S> Service<NestedKey<K, I>> for Connector<K, C, S>
where
    K: Key,
    I: Send + 'static,
    C: Connect<K>,
    S: Connect<(I, Tunnel)> + Sync,
{
    type Response = S::Response;
    type Error = NestedDialError<C::Error, S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// Always ready: the pool bounds how many dials run.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, NestedKey { gateway, inner, destination }: NestedKey<K, I>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.dial(gateway, inner, ConnectRequest::new(destination)).await })
    }
}

impl<K, C: Service<K>, S: Clone> Clone for Connector<K, C, S> {
    fn clone(&self) -> Self {
        Self { outer: self.outer.clone(), secure: self.secure.clone() }
    }
}
