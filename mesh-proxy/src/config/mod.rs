//! Sources of mesh state that need no control plane.

pub mod local;
