//! The server's end of a connection: accepts tunnels.
//!
//! [`handshake`] turns a byte stream, usually TLS, into a [`Connection`]. Calling [`Connection::accept`] again and again
//! drives it and yields an [`Incoming`] for each tunnel that is asked for, to be accepted or refused.
//!
//! ```
//! # async fn example(io: tokio::io::DuplexStream) -> Result<(), Box<dyn std::error::Error>> {
//! use hbone::{Refusal, server};
//!
//! let mut connection = server::handshake(io).await?;
//! while let Some(incoming) = connection.accept().await {
//!     let incoming = incoming?;
//!     if incoming.destination().port() != 8080 {
//!         incoming.refuse(Refusal::BadRequest);
//!         continue;
//!     }
//!     let mut tunnel = incoming.accept()?;
//!     tokio::spawn(async move {
//!         let (mut read, mut write) = tokio::io::split(&mut tunnel);
//!         tokio::io::copy(&mut read, &mut write).await
//!     });
//! }
//! # Ok(())
//! # }
//! ```

mod builder;
mod connection;
mod handle;
mod incoming;

#[cfg(test)]
pub(crate) use self::builder::MAX_TUNNELS as DEFAULT_MAX_TUNNELS;
pub use self::{
    builder::{Builder, handshake},
    connection::Connection,
    handle::Handle,
    incoming::Incoming,
};
pub use crate::connection::Refusals;
