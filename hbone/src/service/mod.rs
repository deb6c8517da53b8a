//! The crate's clients as [tower](https://docs.rs/tower-service) services, to be put under timeouts, retries, balancers
//! and whatever else speaks [`Service`](tower_service::Service).
//!
//! | service | request | response |
//! |---|---|---|
//! | [`SendConnect`](crate::client::SendConnect) | [`ConnectRequest`](crate::ConnectRequest) | [`Tunnel`](crate::Tunnel) |
//! | [`Pool`](crate::pool::Pool) | `(K, ConnectRequest)` | [`Tunnel`](crate::Tunnel) |
//! | [`Nested`](crate::nested::Nested) | `(K, I, ConnectRequest)` | [`Tunnel`](crate::Tunnel) |
//!
//! A connection is ready as long as it takes tunnels, and fails once it is closed or closing, so that a balancer replaces
//! it. Pools are always ready: what they would wait for depends on the key, and their own limits bound how many wait.
//!
//! ```
//! use hbone::{ConnectError, ConnectRequest, Tunnel, client::SendConnect};
//! use tower_service::Service;
//!
//! fn is_a_service(send: SendConnect) -> impl Service<ConnectRequest, Response = Tunnel, Error = ConnectError> {
//!     send
//! }
//! ```

mod connect;
#[cfg(feature = "pool")]
mod pool;

pub use self::connect::ResponseFuture;
#[cfg(feature = "pool")]
pub use self::pool::PoolFuture;
