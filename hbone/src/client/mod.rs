//! The client's end of a connection: opens tunnels.
//!
//! [`handshake`] turns a byte stream, usually TLS, into a [`SendConnect`], which opens tunnels and can be cloned, and a
//! [`Connection`], which somebody has to poll for anything to happen.
//!
//! ```
//! # async fn example(io: tokio::io::DuplexStream) -> Result<(), Box<dyn std::error::Error>> {
//! use hbone::{ConnectRequest, Destination, client};
//!
//! let (send, connection) = client::handshake(io).await?;
//! tokio::spawn(connection);
//! let destination: Destination = "192.0.2.7:8080".parse()?;
//! let tunnel = send.connect(ConnectRequest::new(destination)).await?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod connection;
mod error;
mod handle;
mod send_connect;

#[cfg(feature = "pool")]
pub(crate) use self::builder::INITIAL_PEER_LIMIT;
#[cfg(any(feature = "pool", feature = "tower"))]
pub(crate) use self::send_connect::Opening;
pub use self::{
    builder::{Builder, handshake},
    connection::Connection,
    error::ConnectError,
    handle::Handle,
    send_connect::SendConnect,
};
