//! Programs of others that the node proxy must understand, and that must understand it.
//!
//! A case whose program is missing is skipped with a banner; `MESH_REQUIRE=peers` makes that a failure. `.ci/install`
//! installs them all. Istio's own ztunnel is not among them, since no package carries it: hbone#86, all pairings with it, is
//! only what Envoy's cases and the protocol's own tests say.

pub(crate) mod envoy_client;
pub(crate) mod envoy_server;
pub(crate) mod http2;
mod identity;
pub(crate) mod openssl_client;
pub(crate) mod openssl_server;
mod program;
pub(crate) mod rbac;
mod scene;
