//! HBONE, the tunnelling protocol of Istio's ambient mesh: byte streams inside HTTP/2 CONNECT requests, many to a
//! connection (RFC 9113 §8.5).
//!
//! The crate is the protocol and nothing else. It is *not* TLS, which the caller puts below it; *not* identity or
//! policy, which look at what it reports; and *not* a proxy, which is built from it. It runs over any
//! [`AsyncRead`](tokio::io::AsyncRead) + [`AsyncWrite`](tokio::io::AsyncWrite), its own tunnels included: that is how
//! networks are crossed ("double HBONE").
//!
//! ```
//! use hbone::{ConnectRequest, Destination, client, server};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (near, far) = duplex(64 * 1024); // in real life: TLS
//! tokio::spawn(async move {
//!     let mut connection = server::handshake(far).await.unwrap();
//!     while let Some(Ok(incoming)) = connection.accept().await {
//!         let mut tunnel = incoming.accept().unwrap();
//!         tokio::spawn(async move { tunnel.write_all(b"hello").await.unwrap(); tunnel.shutdown().await });
//!     }
//! });
//! let (send, connection) = client::handshake(near).await?;
//! tokio::spawn(connection);
//! let destination: Destination = "192.0.2.7:8080".parse()?;
//! let mut tunnel = send.connect(ConnectRequest::new(destination)).await?;
//! let mut text = [0; 5];
//! tunnel.read_exact(&mut text).await?;
//! assert_eq!(&text, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! | type | what it is |
//! |---|---|
//! | [`client::SendConnect`], [`client::Connection`] | the client's end: opens tunnels; drives them |
//! | [`server::Connection`], [`server::Incoming`] | the server's end: drives tunnels; one that is asked for |
//! | [`server::Handle`] | drains or aborts a server's connection |
//! | [`Tunnel`], [`RecvHalf`], [`SendHalf`] | a byte stream, and its two directions |
//! | [`pool::Pool`] | connections shared per key |
//! | [`nested::Nested`] | tunnels through gateways between networks: double HBONE |
//! | [`ConnectRequest`], [`ConnectResponse`], [`Refusal`] | what is asked and answered |
//! | [`Destination`], [`Baggage`], [`Forwarded`], [`TraceParent`], [`TraceState`] | the values in requests and responses |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `pool` | yes | [`pool`] and [`nested`], and with them tokio's `rt` and `tower-service` |
//! | `tower` | no | [`service`]: connections and pools as tower services |
//!
//! # Security
//!
//! Whatever a peer says about itself in headers is metadata: parsed leniently, within bounds, never a reason to trust
//! it. Flow control bounds what a peer can make this end hold: one window per tunnel that is not being read, and what a
//! connection's budget allows in all. HTTP/2 itself is the [`h2`] crate's, with its limits on headers and small frames; what
//! it does not limit (pings, settings, requests taken back) is counted here. Handshakes wait for the peer without a
//! deadline; put one around them.

pub mod client;
mod connection;
#[cfg(feature = "pool")]
pub mod nested;
#[cfg(feature = "pool")]
pub mod pool;
mod proto;
pub mod server;
#[cfg(feature = "tower")]
pub mod service;
mod tunnel;

pub use self::{
    client::ConnectError,
    connection::{Budget, ConnectionError, HandshakeError, Side},
    proto::{
        Baggage, ConnectRequest, ConnectResponse, Destination, DestinationError, Flood, Forwarded, Host,
        Refusal, ResetReason, TraceId, TraceParent, TraceParentError, TraceState, WorkloadKind,
    },
    tunnel::{RecvHalf, SendHalf, Tunnel, TunnelError},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
