//! Sources of mesh state that need no control plane.

#[cfg(feature = "local-config")]
pub mod local;
