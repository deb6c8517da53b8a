use std::hash::Hash;

use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

/// What tells a pool's connections apart: anything that can be cloned, compared and sent.
///
/// A name for these bounds. Whatever has them is one.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Key for T {}

/// Makes the authenticated byte stream for a key: a [`Service`] that can be cloned, for each dial, and sent.
///
/// A name for these bounds. Whatever service has them is one.
pub trait Connect<K>:
    Service<
        K,
        Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        Error: Send + Sync + 'static,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<K, C> Connect<K> for C where
    C: Service<
            K,
            Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
            Error: Send + Sync + 'static,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}
