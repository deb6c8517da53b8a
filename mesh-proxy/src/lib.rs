//! The parts of an ambient mesh proxy, and a node proxy assembled from them.
//!
//! A [`Proxy`] stands in front of one workload. It takes the workload's connections where the kernel redirects them to,
//! carries those to other mesh workloads in HBONE tunnels over mutual TLS, accepts such tunnels for the workload,
//! asks authorization policy about each, and relays with the semantics of plain TCP.
//!
//! It is *not* a control plane, and it does not program redirection: mesh state comes from a source that feeds a
//! [`StateStore`](state::StateStore), certificates from an [`IdentitySource`](mesh_identity::IdentitySource).
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use mesh_identity::IdentitySource;
//! use mesh_policy::MissingPolicy;
//! use mesh_proxy::{Proxy, Settings, state::{StateStore, WorkloadKey}};
//! use rustls::crypto::CryptoProvider;
//!
//! # async fn example(identities: Arc<dyn IdentitySource>, provider: CryptoProvider)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! let state = Arc::new(StateStore::new(None, MissingPolicy::Deny));
//! let workload =
//!     WorkloadKey { name: "cart-0".into(), namespace: "shop".into(), service_account: "cart".into() };
//! let proxy = Proxy::builder(workload, Arc::clone(&state), identities, &provider)
//!     .settings(Settings::default())
//!     .build()?;
//! let drain = proxy.drain_handle();
//! // Whoever ends the process calls `drain.drain()`.
//! proxy.run().await?;
//! # drop(drain);
//! # Ok(())
//! # }
//! ```
//!
//! | type | what it is |
//! |---|---|
//! | [`Proxy`], [`ProxyBuilder`], [`Settings`] | the assembled proxy |
//! | [`DrainHandle`] | ends it within a deadline |
//! | [`state::StateStore`], [`state::Snapshot`] | what the mesh looks like |
//! | [`route`] | where a connection goes, as pure functions |
//! | [`telemetry::Observer`] | sees everything that happens |
//! | [`Report`] | prints an error with its causes |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `admin` | readiness, metrics and configuration dump over HTTP |
//! | `local-config` | mesh state from a YAML file in Istio's local format |
//! | `telemetry` | Istio's standard metrics and access log |
//!
//! # Security
//!
//! Everything fails closed: without mesh state, certificate or policy nothing is relayed, and a destination that speaks
//! HBONE is never reached in plaintext. Peers are known by their certificate alone; headers that describe the client
//! (`baggage`, `forwarded`) reach telemetry, never a decision. Every wait on a peer has a deadline.

#[cfg(feature = "admin")]
pub mod admin;
mod baggage;
#[cfg(feature = "local-config")]
pub mod config;
mod connections;
mod context;
mod drain;
mod error;
mod inbound;
mod outbound;
mod proxy;
mod relay;
pub mod route;
mod runtime;
mod settings;
mod socket;
mod socks5;
pub mod state;
pub mod telemetry;
mod tls;

pub use drain::DrainHandle;
pub use error::Report;
pub use proxy::{BuildError, Proxy, ProxyBuilder, RunError};
pub use settings::{
    HBONE_PORT, INBOUND_PLAINTEXT_PORT, ListenAddresses, OUTBOUND_PORT, SOCKS5_PORT, Settings,
};
pub use socket::{Keepalive, ListenError, OriginalSource, SocketOptions};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
